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
from typing import Any

from gpiozero import PWMLED, InputDevice
from gpiozero.pins import Factory

from voicemeet_edge.call.signs import Lamp
from voicemeet_edge.panel.interface import ButtonEvent
from voicemeet_edge.panel.lamp import LampDriver
from voicemeet_edge.panel.press import PressRecogniser
from voicemeet_edge.panel.queue import ButtonQueue
from voicemeet_edge.settings import PanelSettings

logger = logging.getLogger(__name__)

READ_AGAIN_S = 1.0  # seconds; how late a press can be when its edge was lost
LAMP_FREQUENCY_HZ = 100  # Hz; above what an eye sees flicker, and few enough wake-ups for a Pi
MAX_EDGE_AGE_S = 5.0  # seconds; an edge older than this was stamped by another clock


class _ButtonLine:
    """One button on one line: from the pin's edges, in whatever thread, to levels on the loop."""

    def __init__(
        self,
        device: Any,
        recogniser: PressRecogniser,
        *,
        loop: asyncio.AbstractEventLoop,
        put: Callable[[ButtonEvent], None],
    ) -> None:
        self.device = device
        self.recogniser = recogniser
        self._loop = loop
        self._put = put
        self._timer: asyncio.TimerHandle | None = None
        self._failed = False
        self._cancelled = False

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
        is_down = bool(state) != bool(self.device.pull_up is not False)
        try:
            self._loop.call_soon_threadsafe(self.level, is_down, when)
        except RuntimeError:  # the loop is closed: the device is going down
            pass

    def level(self, is_down: bool, when: float) -> None:
        """Take a level on the loop."""
        self._say(self.recogniser.level(is_down, when))

    def read_again(self) -> None:
        """Compare what we believe with what the line says."""
        try:
            is_down = bool(self.device.is_active)
        except Exception as error:  # of the pin factory in use, each with errors of its own
            if not self._failed:
                logger.warning("A button cannot be read: %s", type(error).__name__)
            self._failed = True
            return
        self._failed = False
        self.level(is_down, time.monotonic())

    def cancel(self) -> None:
        """Wait for nothing any more."""
        self._cancelled = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _tick(self) -> None:
        self._say(self.recogniser.tick(time.monotonic()))

    def _say(self, events: list[ButtonEvent]) -> None:
        if self._cancelled:
            return
        for event in events:
            self._put(event)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        deadline = self.recogniser.deadline
        if deadline is not None:
            self._timer = self._loop.call_later(max(0.0, deadline - time.monotonic()), self._tick)


class GpioPanel:
    """Buttons and lamp on the lines the settings name; made and used on the running loop.

    The panel owns the factory and closes it.
    """

    def __init__(self, settings: PanelSettings, factory: Factory) -> None:
        self._loop = asyncio.get_running_loop()
        self._settings = settings
        self._factory = factory
        self._queue = ButtonQueue()
        self._lines: list[_ButtonLine] = []
        self._read_again_timer: asyncio.TimerHandle | None = None
        self._led: Any = None
        self._closed = False
        try:
            self._led = PWMLED(settings.lamp_line, frequency=LAMP_FREQUENCY_HZ, pin_factory=factory)
            self._add(settings.call_line, ButtonEvent.CALL_PRESSED, ButtonEvent.CALL_HELD)
            self._add(settings.report_line, ButtonEvent.REPORT_PRESSED, None)
            # Only with all lines in hand: watching starts the factory's thread, taking lines does not.
            for line in self._lines:
                line.watch(settings.debounce_ms / 1000)
        except BaseException:
            self._release()
            raise
        self._driver = LampDriver(self._set_light, loop=self._loop, night_level=settings.night_level)
        self._read_again()

    def events(self) -> AsyncIterator[ButtonEvent]:
        """Yield button events until the panel is closed."""
        return self._queue.events()

    def show(self, lamp: Lamp) -> None:
        """Show this pattern from now on."""
        self._driver.show(lamp)

    async def close(self) -> None:
        """Lamp off, lines released; idempotent."""
        if self._closed:
            return
        self._closed = True
        self._driver.close()
        self._queue.close()
        if self._read_again_timer is not None:
            self._read_again_timer.cancel()
        for line in self._lines:
            line.cancel()
        await asyncio.to_thread(self._release)  # ends the factory's thread, which takes a moment

    def _add(self, line: str, pressed: ButtonEvent, held: ButtonEvent | None) -> None:
        pull_up = {"up": True, "down": False, "none": None}[self._settings.pull]
        # Without a pull of ours the button has its own and goes to ground, as with a pull-up.
        active_state = False if pull_up is None else None
        device = InputDevice(line, pull_up=pull_up, active_state=active_state, pin_factory=self._factory)
        recogniser = PressRecogniser(
            pressed,
            held,
            hold_s=self._settings.hold_s,
            debounce_s=self._settings.debounce_ms / 1000,
            down_at_start=bool(device.is_active),
        )
        if recogniser.is_down:
            logger.warning("A button is down at start; it counts once it has been released")
        self._lines.append(_ButtonLine(device, recogniser, loop=self._loop, put=self._queue.put))

    def _set_light(self, level: float) -> None:
        self._led.value = level

    def _read_again(self) -> None:
        for line in self._lines:
            line.read_again()
        self._read_again_timer = self._loop.call_later(READ_AGAIN_S, self._read_again)

    def _release(self) -> None:
        for line in self._lines:
            line.device.close()
        if self._led is not None:
            self._led.close()
        self._factory.close()
