"""Which line of the panel shows what: one lamp, a red one and a second one, or red, green and blue. Pure.

One rule: red alone is the open microphone and nothing else, on every kind of panel with colours. And a
colour never says anything by itself: the pattern (panel/lamp.py) is the same on all kinds, so nobody has to
see colours.
"""

from __future__ import annotations

from typing import NamedTuple, assert_never

from voicemeet_edge.call.signs import Lamp
from voicemeet_edge.choices import LampKind


class Colour(NamedTuple):
    """Shares of full light, 0 to 1."""

    red: float
    green: float
    blue: float


_RED = Colour(1.0, 0.0, 0.0)
_GREEN = Colour(0.0, 1.0, 0.0)
_BLUE = Colour(0.0, 0.0, 1.0)
_CYAN = Colour(0.0, 1.0, 1.0)
_AMBER = Colour(1.0, 0.4, 0.0)
_WHITE = Colour(1.0, 1.0, 1.0)
_MAGENTA = Colour(1.0, 0.0, 1.0)

# No flash is of saturated red, which has a limit of its own (WCAG 2.2, "red flash").
COLOURS: dict[Lamp, Colour] = {
    Lamp.OFF: _GREEN,
    Lamp.READY: _GREEN,
    Lamp.WAITING: _AMBER,
    Lamp.SEEKING: _BLUE,
    Lamp.RINGING: _CYAN,
    Lamp.CONNECTING: _BLUE,
    Lamp.MICROPHONE_OPEN: _RED,
    Lamp.DOOR_OPEN: _WHITE,
    Lamp.ANNOUNCEMENT: _CYAN,
    Lamp.RECONNECTING: _AMBER,
    Lamp.REPORT_WAITING: _CYAN,
    Lamp.REPORT_SENT: _GREEN,
    Lamp.REPORT_FAILED: _AMBER,
    Lamp.DISTRUST: _MAGENTA,
    Lamp.RESET_COUNT: _WHITE,
    Lamp.RESET_DONE: _WHITE,
    Lamp.ERROR: _AMBER,
}


def line_levels(kind: LampKind, lamp: Lamp, level: float) -> tuple[float, ...]:
    """Return the brightness of each line, 0 to 1: the lamp; red and second lamp; or red, green, blue."""
    match kind:
        case LampKind.ONE:
            return (level,)
        case LampKind.TWO:
            if lamp is Lamp.DOOR_OPEN:
                return (float(level > 0), level)  # the red one for the microphone, which is open too
            return (level, 0.0) if lamp is Lamp.MICROPHONE_OPEN else (0.0, level)
        case LampKind.RGB:
            return tuple(level * share for share in COLOURS[lamp])
        case _:
            assert_never(kind)
