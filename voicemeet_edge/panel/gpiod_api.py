"""The small part of libgpiod v2 that the panel uses, as types, and the real thing behind them.

One rule: whatever the pin factory does to hardware goes through these types, so that
voicemeet_edge/testing/gpio.py can stand in for it and a test can compare both with the real package.
"""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterable
from datetime import timedelta
from typing import Protocol

import gpiod
from gpiod import EdgeEvent, LineSettings
from gpiod.line import Value

CHIPS = "/dev/gpiochip*"
LineConfig = dict[Iterable[int | str] | int | str, LineSettings | None]


class LineRequest(Protocol):
    """One or more lines held for our use alone (gpiod.LineRequest)."""

    def fileno(self) -> int:
        """Readable when edge events wait."""

    def get_value(self, line: int | str) -> Value:
        """Read the line; with a debounce period set, the settled value."""

    def set_value(self, line: int | str, value: Value) -> None:
        """Drive an output."""

    def reconfigure_lines(self, config: LineConfig) -> None:
        """Change direction, pull, edges or debounce without letting the line go."""

    def wait_edge_events(self, timeout: timedelta | float | None = None) -> bool:
        """Say whether events can be read without waiting longer than the timeout."""

    def read_edge_events(self, max_events: int | None = None) -> list[EdgeEvent]:
        """Take the waiting events; blocks when there are none."""

    def release(self) -> None:
        """Let the lines go; idempotent."""


class LineInfo(Protocol):
    """What the kernel says about a line (gpiod.LineInfo)."""

    @property
    def name(self) -> str:
        """What the kernel calls it; empty when nothing."""

    @property
    def used(self) -> bool:
        """Somebody holds it."""

    @property
    def consumer(self) -> str:
        """Who."""


class ChipInfo(Protocol):
    """What the kernel says about a chip (gpiod.ChipInfo)."""

    @property
    def label(self) -> str:
        """Which driver's chip it is; the same on every kernel."""

    @property
    def num_lines(self) -> int:
        """How many lines it has."""


class Chip(Protocol):
    """A /dev/gpiochip* (gpiod.Chip)."""

    def get_info(self) -> ChipInfo:
        """Tell label and size."""

    def line_offset_from_id(self, id: str | int) -> int:  # noqa: A002 - the name gpiod gave it
        """Find a line by name; OSError with ENOENT when this chip has none."""

    def get_line_info(self, line: int | str) -> LineInfo:
        """Tell who uses a line."""

    def request_lines(
        self,
        config: LineConfig,
        consumer: str | None = None,
        event_buffer_size: int | None = None,
    ) -> LineRequest:
        """Take lines; OSError with EBUSY when somebody holds one."""

    def close(self) -> None:
        """Close the chip; requests made on it live on."""


class GpiodApi(Protocol):
    """Where chips come from."""

    def chip_paths(self) -> list[str]:
        """List all chips there are, in a stable order."""

    def open_chip(self, path: str) -> Chip:
        """Open one; OSError when it is gone or not ours to open."""


class RealGpiod:
    """The chips of this machine."""

    def chip_paths(self) -> list[str]:
        """List /dev/gpiochip*, by number; a chip with two names counts once."""
        # Raspberry Pi OS makes gpiochip4 on a Pi 5 a link to gpiochip0, for programs that go by numbers.
        paths = {os.path.realpath(path) for path in glob.glob(CHIPS)}
        return sorted(paths, key=lambda path: [int(digits) for digits in re.findall(r"\d+", path)])

    def open_chip(self, path: str) -> Chip:
        """Open a chip of the kernel's."""
        return gpiod.Chip(path)
