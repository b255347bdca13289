"""Hold the door release for some seconds, in a process of its own.

One rule: whatever becomes of the device, the line is let go. The time runs here and not there, so a device
that hangs holds no door open; a device that dies closes the pipe, and that ends it too. The line is driven
back before it is released: kernels of Raspberry Pi OS leave an output as it was when its owner is gone.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

from gpiod import LineSettings
from gpiod.line import Direction, Value

from voicemeet_edge.panel.gpiod_api import GpiodApi, LineRequest, RealGpiod

CONSUMER = "voicemeet-edge-door"  # shown by `gpioinfo`
MAX_OPEN_S = 30.0  # s; whoever asks for more gets this
OPENED = b"open\n"
NOTE = "door"  # in the unit's RuntimeDirectory=


def keep_open(
    api: GpiodApi, chip_path: str, offset: int, seconds: float, *, low: bool, asked_by: int, tell: int
) -> None:
    """Hold the line, and let it go when the time is over or `asked_by` is closed.

    Args:
        api: where chips come from.
        chip_path: the chip with the line, and `offset` the line on it.
        seconds: how long; more than MAX_OPEN_S is that.
        low: the relay is drawn by a low line.
        asked_by: descriptor that whoever asked keeps open while the door may stay so.
        tell: descriptor that is written OPENED once the line is held.

    Raises:
        OSError: the line cannot be had.
    """
    line = _take(api, chip_path, offset, low=low)
    try:
        until = time.monotonic() + min(seconds, MAX_OPEN_S)
        line.set_value(offset, Value.ACTIVE)
        os.write(tell, OPENED)
        select.select([asked_by], [], [], max(0.0, until - time.monotonic()))
    finally:
        line.set_value(offset, Value.INACTIVE)
        line.release()


def rest(api: GpiodApi, chip_path: str, offset: int, *, low: bool) -> None:
    """Drive the line to its rest and let it go: after whatever happened to those who held it before.

    Raises:
        OSError: the line cannot be had.
    """
    _take(api, chip_path, offset, low=low).release()


def _take(api: GpiodApi, chip_path: str, offset: int, *, low: bool) -> LineRequest:
    """Take the line at rest: it is drawn after, so that what is undone at the end is all that was done."""
    settings = LineSettings(direction=Direction.OUTPUT, active_low=low, output_value=Value.INACTIVE)
    chip = api.open_chip(chip_path)
    try:
        return chip.request_lines({offset: settings}, consumer=CONSUMER)
    finally:
        chip.close()


def _end(_number: int, _frame: FrameType | None) -> None:
    sys.exit(0)  # through the `finally` above


@contextlib.contextmanager
def _noted(chip_path: str, offset: int, *, low: bool) -> Iterator[None]:
    """Keep a note in the unit's RuntimeDirectory= of what is held, for `let_go`."""
    note = _note()
    if note is not None:
        note.write_text(f"{chip_path} {offset} {'low' if low else 'high'}")
    yield
    if note is not None:
        note.unlink(missing_ok=True)


def _note() -> Path | None:
    folder = os.environ.get("RUNTIME_DIRECTORY", "").split(":")[0]
    return Path(folder) / NOTE if folder else None


def let_go(api: GpiodApi | None = None) -> None:
    """Bring the line to rest that a keeper held who was killed; nothing to do when none was.

    Raises:
        OSError: the line cannot be had.
    """
    note = _note()
    if note is None or not note.exists():
        return
    chip_path, offset, level = note.read_text().split()
    rest(api or RealGpiod(), chip_path, int(offset), low=level == "low")
    note.unlink()


def main() -> None:
    """Take chip, offset, seconds and "high" or "low" from the command line."""
    signal.signal(signal.SIGTERM, _end)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's; the device decides
    chip_path, offset, seconds, level = sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), sys.argv[4]
    low = level == "low"
    try:
        with _noted(chip_path, offset, low=low):
            keep_open(RealGpiod(), chip_path, offset, seconds, low=low, asked_by=0, tell=1)
    except OSError as error:
        sys.exit(error.strerror or type(error).__name__)
