"""What a panel is: two buttons that happen and one lamp that is set.

Real adapter: panel/buttons.py (gpiozero); panel/terminal.py is the panel of a machine without GPIO.
Fake for tests: voicemeet_edge/testing/panel.py.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from enum import Enum
from typing import Protocol

from voicemeet_edge.call.signs import Lamp


class ButtonEvent(Enum):
    """What a person did."""

    CALL_PRESSED = "call_pressed"  # pressed and released before the hold time
    CALL_HELD = "call_held"  # held for the hold time; comes once, and no CALL_PRESSED after it
    REPORT_PRESSED = "report_pressed"


class Panel(Protocol):
    """Buttons and lamp."""

    def events(self) -> AsyncIterator[ButtonEvent]:
        """Yield button events until the panel is closed; a bounded queue drops the oldest."""

    def show(self, lamp: Lamp) -> None:
        """Show this pattern from now on; cheap, never blocks, never raises."""

    async def close(self) -> None:
        """Lamp off, lines released; idempotent."""
