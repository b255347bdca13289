"""A gpiozero pin factory on libgpiod v2: lines by name, debounced and time-stamped by the kernel.

One rule: a line is found by its name ("GPIO17") on whatever chip carries it, never by a chip's number,
because the numbers differ between boards and kernels. A line of the Raspberry Pi's header that this kernel
calls something else is found by its place on the chip with the header's label.
"""

from __future__ import annotations

import errno
import logging
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from types import MethodType
from typing import Any
from weakref import WeakMethod, ref

from gpiod import EdgeEvent, LineSettings
from gpiod.line import Bias, Clock, Direction, Edge, Value
from gpiozero.exc import (
    GPIOPinInUse,
    PinInvalidBounce,
    PinInvalidEdges,
    PinInvalidFunction,
    PinInvalidPin,
    PinInvalidPull,
    PinMultiplePins,
    PinSetInput,
    PinUnsupported,
)
from gpiozero.pins import Factory, Pin, PinInfo

from voicemeet_edge.panel.edge_reader import EdgeReader
from voicemeet_edge.panel.gpiod_api import Chip, GpiodApi, LineRequest, RealGpiod
from voicemeet_edge.panel.header import (
    HEADER_LINES,
    NoSuchPositionError,
    header_number,
    is_header,
    line_name,
)
from voicemeet_edge.panel.soft_pwm import SoftPwm
from voicemeet_edge.records import dataclass

logger = logging.getLogger(__name__)

CONSUMER = "voicemeet-edge"  # shown by `gpioinfo`; not an identity, the same on every device
EVENT_BUFFER = 16  # events per line in the kernel; a person makes two per press

BIASES = {"floating": Bias.DISABLED, "up": Bias.PULL_UP, "down": Bias.PULL_DOWN}
EDGES = {"none": Edge.NONE, "rising": Edge.RISING, "falling": Edge.FALLING, "both": Edge.BOTH}

WhenChanged = Callable[[float, int], None]


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a line is."""

    chip_path: str
    offset: int
    called: str
    """What the kernel calls it here; may be empty."""


class LineBoard:
    """What gpiozero asks a board for: pins by name. It knows no headers, since lines have none."""

    def __init__(self, find: Callable[[str], PinInfo | None]) -> None:
        self._find = find

    def find_pin(self, name: int | str) -> Iterator[tuple[str, Any]]:
        """Yield the one line of that name, or nothing."""
        try:
            info = self._find(line_name(name))
        except NoSuchPositionError:
            info = None  # `pin` says why
        if info is not None:
            yield "lines", info


class GpiodFactory(Factory):
    """Make gpiozero pins from GPIO character devices."""

    def __init__(self, api: GpiodApi | None = None) -> None:
        super().__init__()
        self.api: GpiodApi = api or RealGpiod()
        self._board = LineBoard(self._find)
        self._places: dict[str, _Place] = {}  # by the name asked for
        self._pins: dict[_Place, GpiodPin] = {}  # one line has one pin, whatever names it is asked for by
        self.reader = EdgeReader()

    @property
    def alive_at(self) -> float | None:
        """When the thread that reads the edges last began to wait (monotonic); None without one."""
        return self.reader.alive_at

    def ticks(self) -> float:
        """The clock of the kernel's edge events: monotonic seconds."""
        return time.monotonic()

    def ticks_diff(self, later: float, earlier: float) -> float:
        """Seconds between two ticks."""
        return max(0.0, later - earlier)

    def pin(self, name: int | str) -> GpiodPin:
        """Take the line of that name.

        Raises:
            PinInvalidPin: no chip has such a line.
            PinMultiplePins: two chips have one.
            PinUnsupported: there is no chip, or none we may open.
            GPIOPinInUse: another process or the kernel holds it.
        """
        try:
            wanted = line_name(name)
        except NoSuchPositionError as error:
            raise PinInvalidPin(str(error)) from None
        if self._find(wanted) is None:
            raise PinInvalidPin(f"no GPIO line is called {wanted} (`gpioinfo` lists them all)")
        place = self._places[wanted]
        if place not in self._pins:
            request = self._request(wanted, place)
            self._pins[place] = GpiodPin(self, _info(wanted, place.offset), request, place.offset)
        return self._pins[place]

    def place(self, name: str) -> tuple[str, int]:
        """Return chip and offset of a line that somebody else is to hold.

        Raises:
            PinInvalidPin, PinMultiplePins, PinUnsupported: as `pin` does.
        """
        wanted = line_name(name)
        if self._find(wanted) is None:
            raise PinInvalidPin(f"no GPIO line is called {wanted} (`gpioinfo` lists them all)")
        return self._places[wanted].chip_path, self._places[wanted].offset

    def forget(self, pin: GpiodPin) -> None:
        """Drop a closed pin, so that asking for its name takes the line anew."""
        self._pins = {place: held for place, held in self._pins.items() if held is not pin}

    def close(self) -> None:
        """Release all lines and end the thread; idempotent."""
        for pin in list(self._pins.values()):
            pin.close()
        self.reader.close()

    def _get_board_info(self) -> LineBoard:
        return self._board

    def _find(self, wanted: str) -> PinInfo | None:
        """Look for a line on all chips; remembered, since wiring does not move while we run."""
        if wanted not in self._places:
            named, headers = self._search(wanted)
            places = named or headers
            if not places:
                return None
            if len(places) > 1:
                chips = ", ".join(place.chip_path for place in places)
                raise PinMultiplePins(f"more than one GPIO line is called {wanted}: on {chips}")
            self._places[wanted] = place = places[0]
            if place.called != wanted:
                logger.info("GPIO line %s is called %s on this kernel", wanted, place.called or "nothing")
        return _info(wanted, self._places[wanted].offset)

    def _search(self, wanted: str) -> tuple[list[_Place], list[_Place]]:
        """Return where a line of that name is, and where the header's line of that number is."""
        named: list[_Place] = []
        headers: list[_Place] = []
        refused: OSError | None = None
        opened = 0
        number = header_number(wanted)
        for path in self.api.chip_paths():
            try:
                chip = self.api.open_chip(path)
            except OSError as error:
                refused = error
                continue
            opened += 1
            try:
                offset = _offset(chip, wanted)
                if offset is not None:
                    named.append(_Place(path, offset, wanted))
                elif number is not None and (called := _called(chip, number)) is not None:
                    headers.append(_Place(path, number, called))
            finally:
                chip.close()
        if not opened:
            why = refused.strerror if refused else "there is no /dev/gpiochip*"
            cure = 'without buttons set panel.factory to "terminal" (keys) or "none"'
            raise PinUnsupported(f"no GPIO chip can be opened: {why}; {cure}")
        return named, headers

    def _request(self, name: str, place: _Place) -> LineRequest:
        chip = self.api.open_chip(place.chip_path)
        try:
            return chip.request_lines(
                {place.offset: LineSettings(direction=Direction.AS_IS)},
                consumer=CONSUMER,
                event_buffer_size=EVENT_BUFFER,
            )
        except OSError as error:
            if error.errno != errno.EBUSY:
                raise
            user = chip.get_line_info(place.offset).consumer or "somebody else"
            here = f" ({place.called} on this kernel)" if place.called not in ("", name) else ""
            raise GPIOPinInUse(f"GPIO line {name}{here} is in use by {user}") from None
        finally:
            chip.close()  # the request keeps what it needs


def _offset(chip: Chip, name: str) -> int | None:
    """Return the line of that name on this chip."""
    try:
        return chip.line_offset_from_id(name)
    except OSError as error:
        if error.errno != errno.ENOENT:
            raise
        return None


def _called(chip: Chip, number: int) -> str | None:
    """Return the name of line `number` when this chip has the header; None when it has not."""
    info = chip.get_info()
    if info.num_lines < HEADER_LINES:
        return None
    names = [chip.get_line_info(offset).name for offset in range(HEADER_LINES)]
    return names[number] if is_header(info.label, names) else None


def _info(name: str, offset: int) -> PinInfo:
    return PinInfo(
        number=offset,
        name=name,
        names=frozenset({name}),
        pull="",
        row=None,
        col=None,
        interfaces=frozenset({"gpio"}),
    )


class GpiodPin(Pin):
    """One line; gpiozero's devices configure it and read or drive it."""

    def __init__(self, factory: GpiodFactory, info: PinInfo, request: LineRequest, offset: int) -> None:
        super().__init__()
        self._factory = factory
        self._info = info
        self._request: LineRequest | None = request
        self._offset = offset
        self._function = "input"
        self._pull = "floating"
        self._bounce: float | None = None
        self._edges = "both"
        self._output = False
        self._pwm: SoftPwm | None = None
        self._frequency: float | None = None
        self._lock = threading.RLock()
        self._when_changed: ref[WhenChanged] | WeakMethod[WhenChanged] | None = None

    def __repr__(self) -> str:
        return str(self._info.name)

    @property
    def factory(self) -> GpiodFactory:
        """The factory that made this pin."""
        return self._factory

    def close(self) -> None:
        """Switch an output off and let the line go; idempotent."""
        self._end_pwm()  # first, because its thread drives the line
        with self._lock:
            request, self._request = self._request, None
        if request is None:
            return
        self._factory.reader.remove(request)
        try:
            if self._function == "output":
                request.set_value(self._offset, Value.INACTIVE)
        finally:
            request.release()
            self._factory.forget(self)

    def output_with_state(self, state: float) -> None:
        """Make it an output that starts with `state`, without a flicker in between."""
        self._function, self._output = "output", bool(state)
        self._apply()

    def input_with_pull(self, pull: str) -> None:
        """Make it an input that is pulled from the start."""
        self._function = "input"
        self._set_pull(pull)

    def _held(self) -> LineRequest:
        request = self._request
        if request is None:
            raise PinInvalidPin(f"GPIO line {self!r} is closed")
        return request

    def _apply(self) -> None:
        """Tell the kernel all at once how the line is to be."""
        with self._lock:
            self._held().reconfigure_lines({self._offset: self._settings()})

    def _settings(self) -> LineSettings:
        if self._function == "output":
            value = Value.ACTIVE if self._output else Value.INACTIVE
            return LineSettings(direction=Direction.OUTPUT, output_value=value)
        watched = self._when_changed is not None
        return LineSettings(
            direction=Direction.INPUT,
            bias=BIASES[self._pull],
            edge_detection=EDGES[self._edges] if watched else Edge.NONE,
            debounce_period=timedelta(seconds=self._bounce or 0.0),
            event_clock=Clock.MONOTONIC,
        )

    def _get_info(self) -> PinInfo:
        return self._info

    def _get_function(self) -> str:
        return self._function

    def _set_function(self, value: str) -> None:
        if value not in ("input", "output"):
            raise PinInvalidFunction(f'a GPIO line is "input" or "output", not "{value}"')
        self._end_pwm()
        self._function = value
        self._apply()

    def _get_state(self) -> float:
        if self._pwm is not None:
            return self._pwm.duty
        return int(self._held().get_value(self._offset) is Value.ACTIVE)

    def _set_state(self, value: float) -> None:
        if self._function != "output":
            raise PinSetInput(f"cannot set the state of GPIO line {self!r}: it is an input")
        if self._pwm is not None:
            self._pwm.set(float(value))
        else:
            self._drive(bool(value))

    def _drive(self, on: bool) -> None:
        request = self._held()
        self._output = on
        request.set_value(self._offset, Value.ACTIVE if on else Value.INACTIVE)

    def _get_pull(self) -> str:
        return self._pull

    def _set_pull(self, value: str) -> None:
        if value not in BIASES:
            raise PinInvalidPull(f'the pull of a GPIO line is "up", "down" or "floating", not "{value}"')
        if self._function != "input":
            raise PinInvalidFunction(f"cannot pull GPIO line {self!r}: it is an output")
        self._pull = value
        self._apply()

    def _get_bounce(self) -> float | None:
        return self._bounce

    def _set_bounce(self, value: float | None) -> None:
        if value is not None and value < 0:
            raise PinInvalidBounce("a debounce time is 0 or more seconds")
        self._bounce = value
        self._apply()

    def _get_edges(self) -> str:
        return self._edges

    def _set_edges(self, value: str) -> None:
        if value not in EDGES:
            raise PinInvalidEdges(f'edges are "none", "rising", "falling" or "both", not "{value}"')
        self._edges = value
        self._apply()

    def _get_frequency(self) -> float | None:
        return self._frequency

    def _set_frequency(self, value: float | None) -> None:
        self._end_pwm()
        if value is not None and value > 0:
            if self._function != "output":
                raise PinInvalidFunction(f"cannot dim GPIO line {self!r}: it is an input")
            self._frequency = value
            self._pwm = SoftPwm(self._drive, value)
            self._pwm.set(float(self._output))

    def _end_pwm(self) -> None:
        pwm, self._pwm, self._frequency = self._pwm, None, None
        if pwm is not None:
            pwm.close()

    def _get_when_changed(self) -> WhenChanged | None:
        return None if self._when_changed is None else self._when_changed()

    def _set_when_changed(self, value: WhenChanged | None) -> None:
        """Watch or stop watching; the handler is held weakly, since gpiozero's devices hold the pin."""
        request = self._held()
        self._factory.reader.remove(request)
        with self._lock:
            if value is None:
                self._when_changed = None
            else:
                self._when_changed = WeakMethod(value) if isinstance(value, MethodType) else ref(value)
            self._apply()
        if value is not None:
            self._factory.reader.add(request, self._deliver)

    def _deliver(self, event: EdgeEvent) -> None:
        handler = self._get_when_changed()
        if handler is not None:
            handler(event.timestamp_ns / 1e9, int(event.event_type is EdgeEvent.Type.RISING_EDGE))
