"""What a panel is: two buttons that happen, one lamp that is set, a door that can be opened.

Real adapter: panel/buttons.py (gpiozero); panel/terminal.py is the panel of a machine without GPIO.
Fake for tests: voicemeet_edge/testing/panel.py.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from enum import Enum
from typing import Protocol

from voicemeet_edge.call.signs import Lamp
from voicemeet_edge.panel.keypad import PoolPressed


class ButtonEvent(Enum):
    """What a person did."""

    CALL_PRESSED = "call_pressed"  # pressed and released before the hold time
    CALL_HELD = "call_held"  # held for the hold time; comes once, and no CALL_PRESSED after it
    CALL_HELD_ON = "call_held_on"  # and is still: comes again and again until it is released
    REPORT_PRESSED = "report_pressed"
    RESET_COUNTED = "reset_counted"  # both are held, one more second
    RESET_LEFT = "reset_left"  # and let go too soon
    RESET_ASKED = "reset_asked"  # and held long enough: somebody asks for a factory reset
    STUCK = "stuck"  # a button has been down for longer than anybody holds one; nobody did anything
    TAMPERED = "tampered"  # the housing was opened
    FREED = "freed"  # and no button is any more


PanelEvent = ButtonEvent | PoolPressed


class Panel(Protocol):
    """Buttons, lamp and door release."""

    def events(self) -> AsyncIterator[PanelEvent]:
        """Yield button events until the panel is closed; a bounded queue drops the oldest."""

    def show(self, lamp: Lamp) -> None:
        """Show this pattern from now on; cheap, never blocks, never raises."""

    def alive_at(self) -> float | None:
        """When its lines were last read (seconds, monotonic); None for a panel without lines to read."""

    def dim(self, night_level: int) -> None:
        """Set the brightness of all patterns but an open microphone's, in per cent."""

    async def open_door(self, seconds: float) -> bool:
        """Hold the door release for so long (30 s at most); False when there is none or it cannot be held.

        Returns once it is held, never raises. It lets go by itself, also when this process hangs or dies.
        """

    async def close(self) -> None:
        """Lamp off, lines released; idempotent."""
