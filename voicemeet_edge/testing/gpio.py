"""GPIO chips that exist only in memory: the stand-in for libgpiod's part of panel/gpiod_api.py.

One rule: it refuses what the kernel refuses (unknown names, lines in use, driving an input), and its
settings, values and events are gpiod's own classes, so a wrong call fails here as on a Pi.
"""

from __future__ import annotations

import errno
import os
import threading
import time
from collections import deque
from collections.abc import Iterable
from dataclasses import field
from datetime import timedelta
from typing import final

from gpiod import EdgeEvent, LineSettings
from gpiod.exception import RequestReleasedError
from gpiod.line import Bias, Direction, Edge, Value
from typing_extensions import override

from voicemeet_edge.panel.gpiod_api import Chip, GpiodApi, LineConfig, LineRequest
from voicemeet_edge.records import dataclass

PI_LABEL = "pinctrl-bcm2711"  # of a Raspberry Pi 4's chip
KERNEL_EVENT_BUFFER = 16  # events; like the kernel's, it drops the oldest when full


@dataclass
class FakeLine:
    """One line and its LineInfo: what the world puts on it, what its user made of it, and how that went."""

    name: str
    offset: int
    owner: str = ""
    settings: LineSettings = field(default_factory=LineSettings)
    request: FakeRequest | None = None
    outside: bool | None = None  # what a button or a test puts on it; None floats
    output: bool = False
    history: list[bool] = field(default_factory=list)  # every level the output was set to

    @property
    def used(self) -> bool:
        return self.owner != ""

    @property
    def consumer(self) -> str:
        return self.owner

    @property
    def level(self) -> bool:
        """The level a voltmeter would show; a floating line without a pull reads low."""
        if self.settings.direction is Direction.OUTPUT:
            return self.output != self.settings.active_low
        return self.settings.bias is Bias.PULL_UP if self.outside is None else self.outside


@final
class FakeRequest(LineRequest):
    """Lines in use. A real eventfd says when events wait, so that poll(2) works on it."""

    def __init__(self, lines: list[FakeLine], lock: threading.RLock) -> None:
        self._lines = {line.offset: line for line in lines}
        self._lock = lock
        self._fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._events: deque[EdgeEvent] = deque(maxlen=KERNEL_EVENT_BUFFER)
        self._sequence = 0
        self.released = False

    @override
    def fileno(self) -> int:
        return self._fd

    @override
    def get_value(self, line: int | str) -> Value:
        with self._lock:
            return Value.ACTIVE if self._line(line).level else Value.INACTIVE

    @override
    def set_value(self, line: int | str, value: Value) -> None:
        with self._lock:
            held = self._line(line)
            if held.settings.direction is not Direction.OUTPUT:
                raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))
            held.output = bool(value)
            held.history.append(held.output)

    @override
    def reconfigure_lines(self, config: LineConfig) -> None:
        with self._lock:
            for key, settings in config.items():
                for line in [key] if isinstance(key, int | str) else key:
                    self._configure(self._line(line), settings or LineSettings())

    @override
    def wait_edge_events(self, timeout: timedelta | float | None = None) -> bool:
        if timeout != 0:
            raise NotImplementedError("the fake never waits: poll its descriptor")
        with self._lock:
            self._check()
            return bool(self._events)

    @override
    def read_edge_events(self, max_events: int | None = None) -> list[EdgeEvent]:
        with self._lock:
            self._check()
            count = min(len(self._events), max_events or KERNEL_EVENT_BUFFER)
            events = [self._events.popleft() for _ in range(count)]
            if not self._events:
                self._drain()
            return events

    @override
    def release(self) -> None:
        with self._lock:
            if self.released:
                return
            self.released = True
            for line in self._lines.values():
                line.owner, line.request, line.settings = "", None, LineSettings()
            os.close(self._fd)

    def changed(self, line: FakeLine, rising: bool) -> None:
        """Report an edge, when edges of this kind are watched."""
        kind = EdgeEvent.Type.RISING_EDGE if rising else EdgeEvent.Type.FALLING_EDGE
        if line.settings.edge_detection not in (Edge.BOTH, Edge.RISING if rising else Edge.FALLING):
            return
        self._sequence += 1
        sequence = self._sequence
        self._events.append(EdgeEvent(kind.value, time.monotonic_ns(), line.offset, sequence, sequence))
        os.eventfd_write(self._fd, 1)

    def drop_events(self) -> None:
        """Lose what waits, as the kernel does when nobody reads for long."""
        with self._lock:
            self._events.clear()
            self._drain()

    def _drain(self) -> None:
        try:
            os.eventfd_read(self._fd)
        except BlockingIOError:
            pass

    def _check(self) -> None:
        if self.released:
            raise RequestReleasedError

    def _line(self, line: int | str) -> FakeLine:
        self._check()
        for held in self._lines.values():
            if line in (held.offset, held.name):
                return held
        raise ValueError(f"unknown line name: {line}")

    def _configure(self, line: FakeLine, settings: LineSettings) -> None:
        if settings.direction is Direction.OUTPUT and settings.edge_detection is not Edge.NONE:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        line.settings = settings
        if settings.direction is Direction.OUTPUT:
            line.output = bool(settings.output_value)
            line.history.append(line.output)


@dataclass(frozen=True)
class FakeChipInfo:
    """A chip's label and size."""

    label: str
    num_lines: int


@final
class FakeChip(Chip):
    """One chip; every opening of its path gives the same lines."""

    def __init__(self, lines: list[FakeLine], lock: threading.RLock, label: str) -> None:
        self._lines = lines
        self._lock = lock
        self._label = label

    @override
    def get_info(self) -> FakeChipInfo:
        return FakeChipInfo(self._label, len(self._lines))

    @override
    def line_offset_from_id(self, id: str | int) -> int:
        for line in self._lines:
            if id in (line.name, line.offset):
                return line.offset
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))

    @override
    def get_line_info(self, line: int | str) -> FakeLine:
        return self._lines[self.line_offset_from_id(line)]

    @override
    def request_lines(
        self,
        config: LineConfig,
        consumer: str | None = None,
        event_buffer_size: int | None = None,
    ) -> FakeRequest:
        with self._lock:
            wanted: list[FakeLine] = []
            keys: Iterable[int | str] = [
                one for key in config for one in ([key] if isinstance(key, int | str) else key)
            ]
            for key in keys:
                line = self.get_line_info(key)
                if line.used:
                    raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))
                wanted.append(line)
            request = FakeRequest(wanted, self._lock)
            for line in wanted:
                line.owner, line.request = consumer or "?", request
            request.reconfigure_lines(config)
            return request

    @override
    def close(self) -> None:
        pass


@final
class FakeGpiod(GpiodApi):
    """A board: chips with named lines. Buttons pull their line to ground, as on the panel."""

    def __init__(self, *chips: Iterable[str], label: str = PI_LABEL) -> None:
        """Make one chip per list of names; without any, one chip that looks like a Pi's.

        `label` is the label of the chips that are large enough to have a Pi's header.
        """
        self._label = label
        self._lock = threading.RLock()
        named = chips or ([f"GPIO{number}" for number in range(28)],)
        self._chips = {
            f"/dev/gpiochip{index}": [FakeLine(name, offset) for offset, name in enumerate(names)]
            for index, names in enumerate(named)
        }
        self.refuse_open: OSError | None = None

    @override
    def chip_paths(self) -> list[str]:
        return list(self._chips)

    @override
    def open_chip(self, path: str) -> FakeChip:
        if self.refuse_open is not None:
            raise self.refuse_open
        lines = self._chips[path]
        return FakeChip(lines, self._lock, self._label if len(lines) >= 28 else "expander")

    def line(self, name: str) -> FakeLine:
        """The first line of that name."""
        return next(line for lines in self._chips.values() for line in lines if line.name == name)

    def press(self, name: str) -> None:
        """Close the contact to ground."""
        self.put(name, False)

    def release(self, name: str) -> None:
        """Open the contact; the pull takes the line back."""
        self.put(name, None)

    def put(self, name: str, level: bool | None) -> None:
        """Put a level on a line from outside, or let it float."""
        with self._lock:
            line = self.line(name)
            before = line.level
            line.outside = level
            if line.request is not None and line.level != before:
                line.request.changed(line, line.level)
