"""The panel of a device: two buttons and a lamp on GPIO lines, as gpiozero devices.

One rule: a lost edge cannot leave a button stuck: every line is read again each second, so the worst
that a full kernel queue can do is to make an event late.

The buttons are gpiozero's InputDevice, not its Button: that one waits for holds in a thread per button
and tells them apart from presses only by which of two threads runs first. Here the kernel's edges, with
the time they happened, go to `PressRecogniser` on the loop.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any

from gpiozero import InputDevice
from gpiozero.pins import Factory
from typing_extensions import override

from voicemeet_edge.call.signs import Lamp
from voicemeet_edge.panel.door import DoorOpener, DoorRelease, NoDoor
from voicemeet_edge.panel.door_keeper import rest
from voicemeet_edge.panel.gpiod_factory import GpiodFactory
from voicemeet_edge.panel.header import line_name
from voicemeet_edge.panel.interface import ButtonEvent, Panel, PanelEvent
from voicemeet_edge.panel.keypad import PoolPressed
from voicemeet_edge.panel.lamp import LampDriver
from voicemeet_edge.panel.light import PanelLight
from voicemeet_edge.panel.press import PressRecogniser
from voicemeet_edge.panel.queue import ButtonQueue
from voicemeet_edge.panel.reset import ResetHold, are_together
from voicemeet_edge.settings import PanelSettings
from voicemeet_edge.timers import next_beat

logger = logging.getLogger(__name__)

STUCK_S = 60.0  # s a button may be down before it counts as stuck; nobody holds one that long
TAMPER_S = 0.5  # s the housing's contact must be open: a slammed door is no burglary
READ_AGAIN_S = 2.0  # s; how late a press can be when its edge was lost
MAX_EDGE_AGE_S = 5.0  # s; an edge older than this was stamped by another clock


class _ButtonLine:
    """One button on one line: from the pin's edges, in whatever thread, to levels on the loop."""

    def __init__(
        self,
        device: Any,
        recogniser: PressRecogniser,
        *,
        loop: asyncio.AbstractEventLoop,
        put: Callable[[PanelEvent], None],
        changed: Callable[[], None],
        inverted: bool = False,
    ) -> None:
        self._inverted = inverted  # it is the open contact that counts as down
        self._changed = changed
        self.device = device
        self.recogniser = recogniser
        self._loop = loop
        self._put = put
        self._timer: asyncio.TimerHandle | None = None
        self._failed = False
        self._cancelled = False
        self.down_since: float | None = None
        """Since when every look has found it down (monotonic); None: it is up."""

    def watch(self, debounce_s: float) -> None:
        """Let the line's edges come here; gpiozero keeps only a weak reference to `on_edge`."""
        pin = self.device.pin
        pin.bounce = debounce_s or None
        pin.edges = "both"
        pin.when_changed = self.on_edge

    def on_edge(self, ticks: float, state: float) -> None:
        """Take an edge in the pin factory's thread and hand it to the loop."""
        factory = self.device.pin_factory
        age_s = factory.ticks_diff(factory.ticks(), ticks)
        when = time.monotonic() - (age_s if 0 <= age_s <= MAX_EDGE_AGE_S else 0.0)
        is_down = (bool(state) != bool(self.device.pull_up is not False)) != self._inverted
        try:
            self._loop.call_soon_threadsafe(self.level, is_down, when)
        except RuntimeError:  # the loop is closed: the device is going down
            pass

    def level(self, is_down: bool, when: float) -> None:
        """Take a level on the loop."""
        self._emit(self.recogniser.level(is_down, when))

    def read_again(self) -> None:
        """Compare what we believe with what the line says."""
        try:
            is_down = bool(self.device.is_active) != self._inverted
        except Exception as error:  # of the pin factory in use, each with errors of its own
            if not self._failed:
                logger.warning("A button cannot be read: %s", type(error).__name__)
            self._failed = True
            return
        self._failed = False
        now = time.monotonic()
        if not is_down:
            self.down_since = None
        elif self.down_since is None:
            self.down_since = now
        self.level(is_down, now)

    def cancel(self) -> None:
        """Wait for nothing any more."""
        self._cancelled = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _tick(self) -> None:
        self._emit(self.recogniser.tick(time.monotonic()))

    def _emit(self, events: list[PanelEvent]) -> None:
        if self._cancelled:
            return
        for event in events:
            self._put(event)
        self._changed()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        deadline = self.recogniser.deadline
        if deadline is not None:
            self._timer = self._loop.call_later(max(0.0, deadline - time.monotonic()), self._tick)


class GpioPanel(Panel):
    """Buttons and lamp on the lines the settings name; made and used on the running loop.

    The panel owns the factory and closes it.
    """

    def __init__(self, settings: PanelSettings, factory: Factory) -> None:
        self._loop = asyncio.get_running_loop()
        self._settings = settings
        self._factory = factory
        self._queue = ButtonQueue()
        self._lines: list[_ButtonLine] = []
        self._contact: _ButtonLine | None = None  # of the housing
        self._reset = ResetHold() if settings.factory_reset else None
        self._reset_timer: asyncio.TimerHandle | None = None
        self._read_again_timer: asyncio.TimerHandle | None = None
        self._light: PanelLight | None = None
        self._door: DoorOpener = NoDoor()
        self._closed = False
        self._is_stuck = False
        self._read_at = time.monotonic()
        try:
            self._light = PanelLight(settings, factory)
            self._door = _door(settings, factory)
            self._add(settings.call_line, ButtonEvent.CALL_PRESSED, ButtonEvent.CALL_HELD)
            self._add(settings.report_line, ButtonEvent.REPORT_PRESSED, None)
            for button in settings.keypad:
                self._add(button.line, PoolPressed(button.pool), ButtonEvent.CALL_HELD)
            if settings.tamper_line:
                self._contact = self._watch_housing(settings.tamper_line)
            # Only with all lines in hand: watching starts the factory's thread, taking lines does not.
            for line in self._all_lines():
                line.watch(settings.debounce_ms / 1000)
        except BaseException:
            self._release()
            raise
        self._driver = LampDriver(
            self._light.write, loop=self._loop, night_level=settings.night_level, ready=settings.ready_lamp
        )
        self._read_again()

    @override
    def events(self) -> AsyncIterator[PanelEvent]:
        """Yield button events until the panel is closed."""
        return self._queue.events()

    @override
    def show(self, lamp: Lamp) -> None:
        """Show this pattern from now on."""
        self._driver.show(lamp)

    @override
    def dim(self, night_level: int) -> None:
        """Set the brightness of all patterns but an open microphone's, in per cent."""
        self._driver.dim(night_level)

    @override
    def alive_at(self) -> float | None:
        """When its lines were last read on the loop, or its edges in their thread: the older of the two."""
        if self._closed:
            return None
        edges_at = getattr(self._factory, "alive_at", None)  # of our own factory; others hide their threads
        return self._read_at if edges_at is None else min(self._read_at, edges_at)

    @override
    async def open_door(self, seconds: float) -> bool:
        """Hold the door release for so long; False when there is none or it cannot be held."""
        return not self._closed and await self._door.open(seconds)

    @override
    async def close(self) -> None:
        """Lamp off, lines released; idempotent."""
        if self._closed:
            return
        self._closed = True
        self._driver.close()
        self._queue.close()
        for timer in (self._read_again_timer, self._reset_timer):
            if timer is not None:
                timer.cancel()
        for line in self._all_lines():
            line.cancel()
        await self._door.close()
        await asyncio.to_thread(self._release)  # ends the factory's thread, which takes a moment

    def _all_lines(self) -> list[_ButtonLine]:
        return self._lines + ([self._contact] if self._contact is not None else [])

    def _watch_housing(self, line: str) -> _ButtonLine:
        """Watch the housing's contact: closed to ground while all is well, whatever the buttons' pull is."""
        device = InputDevice(line_name(line), pull_up=True, pin_factory=self._factory)
        debounce_s = self._settings.debounce_ms / 1000
        # One that is open at the start counts, too: the box may have been opened without power.
        recogniser = PressRecogniser(None, ButtonEvent.TAMPERED, hold_s=TAMPER_S, debounce_s=debounce_s)
        return _ButtonLine(
            device, recogniser, loop=self._loop, put=self._queue.put, changed=_nothing, inverted=True
        )

    def _add(self, line: str, pressed: PanelEvent, held: PanelEvent | None) -> None:
        pull_up = {"up": True, "down": False, "none": None}[self._settings.pull]
        # Without a pull of ours the button has its own and goes to ground, as with a pull-up.
        active_state = False if pull_up is None else None
        device = InputDevice(
            line_name(line), pull_up=pull_up, active_state=active_state, pin_factory=self._factory
        )
        recogniser = PressRecogniser(
            pressed,
            held,
            again=None if held is None else ButtonEvent.CALL_HELD_ON,
            hold_s=self._settings.hold_s,
            debounce_s=self._settings.debounce_ms / 1000,
            down_at_start=bool(device.is_active),
        )
        if recogniser.is_down:
            logger.warning("A button is down at start; it counts once it has been released")
        self._lines.append(
            _ButtonLine(device, recogniser, loop=self._loop, put=self._take, changed=self._look_for_reset)
        )

    def _down_at(self) -> tuple[float | None, float | None]:
        call, report = self._lines[:2]
        return call.recogniser.down_at, report.recogniser.down_at

    def _take(self, event: PanelEvent) -> None:
        """Pass an event on, unless both buttons are pressed together: that is neither a press nor a hold."""
        if self._reset is None or not are_together(*self._down_at()):
            self._queue.put(event)

    def _look_for_reset(self) -> None:
        """Count down while both buttons are held."""
        if self._reset is None or self._closed:
            return
        down_at = self._down_at()
        if are_together(*down_at):
            for line in self._lines:
                line.recogniser.drop()
        for event in self._reset.buttons(*down_at, time.monotonic()):
            self._queue.put(event)
        if self._reset_timer is not None:
            self._reset_timer.cancel()
            self._reset_timer = None
        deadline = self._reset.deadline
        if deadline is not None:
            wait_s = max(0.0, deadline - time.monotonic())
            self._reset_timer = self._loop.call_later(wait_s, self._look_for_reset)

    def _read_again(self) -> None:
        for line in self._all_lines():
            line.read_again()
        self._read_at = time.monotonic()
        self._look_for_stuck()
        self._read_again_timer = self._loop.call_at(next_beat(READ_AGAIN_S), self._read_again)

    def _look_for_stuck(self) -> None:
        """Say once that a button is stuck, and once that none is any more; its line is ignored by itself.

        One pressing gives one event at most (panel/press.py), so a stuck button disturbs nobody; but somebody
        has to know why it does nothing.
        """
        since = [line.down_since for line in self._lines if line.down_since is not None]
        is_stuck = bool(since) and self._read_at - min(since) >= STUCK_S
        if is_stuck != self._is_stuck:
            self._is_stuck = is_stuck
            logger.warning(
                "A button is stuck: ignored until it is released" if is_stuck else "The button is free again"
            )
            self._queue.put(ButtonEvent.STUCK if is_stuck else ButtonEvent.FREED)

    def _release(self) -> None:
        for line in self._all_lines():
            line.device.close()
        if self._light is not None:
            self._light.close()
        self._factory.close()


def _nothing() -> None:
    """Nobody counts down with the housing's contact."""


def _door(settings: PanelSettings, factory: Factory) -> DoorOpener:
    """The door release of the settings, at rest whatever held it before."""
    if not settings.relay_line or not isinstance(factory, GpiodFactory):
        return NoDoor()
    place = partial(factory.place, settings.relay_line)
    rest(factory.api, *place(), low=settings.relay_low)
    return DoorRelease(place, low=settings.relay_low)
