"""What each `Lamp` looks like: one table, and the task that plays it.

One rule: steady full light means an open microphone and nothing else does; it is written in the call
to `show`, before anything is waited for.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import NamedTuple

from voicemeet_edge.call.signs import Lamp
from voicemeet_edge.settings import ReadyLamp
from voicemeet_edge.timers import next_beat

logger = logging.getLogger(__name__)

LONG_REST_S = 1.5  # s
DIM = 0.15  # of full light; seen from across a room, and not taken for full by day or night


class Step(NamedTuple):
    """A piece of a pattern."""

    level: float  # of full light, 0 to 1
    seconds: float


def _flashes(count: int, on_s: float, off_s: float, pause_s: float) -> tuple[Step, ...]:
    one = (Step(1.0, on_s), Step(0.0, off_s))
    return one * (count - 1) + (Step(1.0, on_s), Step(0.0, pause_s))


# A pattern of one step is steady; all others repeat. Nothing flashes more than three times in any
# second, the limit below which light does not trigger seizures (WCAG 2.2, 2.3.1).
PATTERNS: dict[Lamp, tuple[Step, ...]] = {
    Lamp.OFF: (Step(0.0, 1.0),),
    # What is shown most of a panel's life is fully on or off: dimming costs a wake-up for each switch.
    Lamp.READY: (Step(1.0, 0.1), Step(0.0, 1.9)),
    Lamp.WAITING: _flashes(2, 0.1, 0.2, 2.6),
    Lamp.SEEKING: (
        Step(0.1, 0.3),
        Step(0.3, 0.2),
        Step(0.6, 0.2),
        Step(1.0, 0.3),
        Step(0.6, 0.2),
        Step(0.3, 0.2),
        Step(0.1, 0.3),
        Step(0.0, 0.3),
    ),
    Lamp.RINGING: _flashes(2, 0.2, 0.2, 0.9),
    Lamp.CONNECTING: (Step(1.0, 0.25), Step(DIM, 0.25)),
    Lamp.MICROPHONE_OPEN: (Step(1.0, 1.0),),
    Lamp.DOOR_OPEN: (Step(1.0, 0.8), Step(DIM, 0.2)),
    Lamp.ANNOUNCEMENT: (Step(DIM, 0.3), Step(0.6, 0.6), Step(DIM, 0.3), Step(0.0, 0.6)),
    Lamp.RECONNECTING: (Step(1.0, 0.17), Step(0.0, 0.17)),
    Lamp.REPORT_WAITING: (Step(DIM, 0.8), Step(0.0, 0.2)),
    Lamp.REPORT_SENT: (Step(0.1, 0.3), Step(0.3, 0.3), Step(0.6, 0.3), Step(1.0, 0.6), Step(0.0, 0.5)),
    Lamp.REPORT_FAILED: (Step(1.0, 0.6), Step(0.3, 0.3), Step(0.1, 0.3), Step(0.0, 0.8)),
    Lamp.DISTRUST: _flashes(3, 0.17, 0.17, 1.0),
    Lamp.RESET_COUNT: (Step(1.0, 0.5), Step(DIM, 0.5)),
    Lamp.RESET_DONE: (Step(1.0, 0.9), Step(DIM, 0.3), Step(1.0, 0.3), Step(DIM, 0.3)),
    Lamp.ERROR: (Step(1.0, 1.0), Step(0.0, 1.0)),
}


READY_DIM: tuple[Step, ...] = (Step(DIM, 1.0),)
"""What `Lamp.READY` looks like where the settings ask for a steady glow."""


def pattern_of(lamp: Lamp, ready: ReadyLamp) -> tuple[Step, ...]:
    """Return the pattern of a sign on a panel that shows *ready* so."""
    return READY_DIM if lamp is Lamp.READY and ready == "dim" else PATTERNS[lamp]


def brightness(lamp: Lamp, level: float, night_level: int) -> float:
    """Apply the brightness of the settings (per cent), from which an open microphone is exempt."""
    return level if lamp in (Lamp.MICROPHONE_OPEN, Lamp.DOOR_OPEN) else level * night_level / 100


def end_of(pattern: tuple[Step, ...], place: int, now: float) -> float:
    """Return when a step ends that begins now (monotonic).

    The long rest of a pattern ends at a beat (timers.py): an idle process is then woken once for the lamp and
    for all that it looks at.
    """
    seconds = pattern[place].seconds
    if seconds < LONG_REST_S:
        return now + seconds
    beat = next_beat(period := sum(step.seconds for step in pattern), now)
    # Not two flashes close to each other: they would mean something else.
    return beat if beat - now >= seconds / 2 else beat + period


class LampDriver:
    """Play patterns on something that can be set to a brightness; all calls on the loop.

    Args:
        write: sets the brightness of a sign, 0 to 1; may raise, which is logged once.
        night_level: brightness of all but an open microphone, in per cent.
        ready: how *ready* looks.
    """

    def __init__(
        self,
        write: Callable[[Lamp, float], None],
        *,
        loop: asyncio.AbstractEventLoop,
        night_level: int = 100,
        ready: ReadyLamp = "flash",
    ) -> None:
        self._write = write
        self._loop = loop
        self._night_level = night_level
        self._ready = ready
        self._lamp = Lamp.OFF
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False
        self._failed = False

    @property
    def lamp(self) -> Lamp:
        """What is shown."""
        return self._lamp

    def show(self, lamp: Lamp) -> None:
        """Show a pattern from its beginning; showing the same again lets it run on."""
        if self._closed or (lamp is self._lamp and not self._failed):
            return
        self._lamp = lamp
        self._step(0)

    def dim(self, night_level: int) -> None:
        """Set the brightness of all but an open microphone, in per cent; from the pattern's next step on."""
        self._night_level = night_level
        if not self._closed and self._timer is None:  # a steady pattern has no next step
            self._step(0)

    def close(self) -> None:
        """Light off; idempotent."""
        self.show(Lamp.OFF)
        self._closed = True
        self._cancel()

    def _cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _step(self, index: int) -> None:
        self._cancel()
        pattern = pattern_of(self._lamp, self._ready)
        step = pattern[index % len(pattern)]
        self._set(brightness(self._lamp, step.level, self._night_level))
        if len(pattern) > 1:
            at = end_of(pattern, index % len(pattern), self._loop.time())
            self._timer = self._loop.call_at(at, self._step, index + 1)

    def _set(self, level: float) -> None:
        try:
            self._write(self._lamp, level)
        except Exception as error:  # the contract of `show`: never raises; a call goes on without its lamp
            if not self._failed:
                logger.warning("The lamp cannot be set: %s", type(error).__name__)
            self._failed = True
        else:
            self._failed = False
