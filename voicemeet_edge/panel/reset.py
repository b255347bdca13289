"""Both buttons held: a request to set the device back, counted down. Pure.

One rule: only two buttons pressed together ask for it. A stuck one, or one that was down from the start,
leaves the other as it is.
"""

from __future__ import annotations

from voicemeet_edge.panel.interface import ButtonEvent

HOLD_S = 10.0  # s; long enough that nobody does it by leaning on the panel
TOGETHER_S = 2.0  # s between the two presses at most
COUNT_EVERY_S = 1.0  # s


def are_together(call_at: float | None, report_at: float | None) -> bool:
    """Say whether two buttons that went down at these times (None: it is up) are pressed together."""
    return call_at is not None and report_at is not None and abs(call_at - report_at) <= TOGETHER_S


class ResetHold:
    """Count while both are held: RESET_COUNTED each second, then RESET_ASKED once or RESET_LEFT."""

    def __init__(self) -> None:
        self._began_at: float | None = None
        self._counted = 0  # how many seconds were told
        self._is_spent = False  # asked, and not let go since

    @property
    def deadline(self) -> float | None:
        """When `tick` wants to be called."""
        if self._began_at is None or self._is_spent:
            return None
        return self._began_at + (self._counted + 1) * COUNT_EVERY_S

    def buttons(self, call_at: float | None, report_at: float | None, now: float) -> list[ButtonEvent]:
        """Take when each button went down, None for one that is up."""
        events = self.tick(now)
        if are_together(call_at, report_at):
            if self._began_at is None:
                self._began_at, self._counted, self._is_spent = now, 0, False
        elif self._began_at is not None:
            was_counting = not self._is_spent
            self._began_at, self._is_spent = None, False
            if was_counting and self._counted:
                events.append(ButtonEvent.RESET_LEFT)
        return events

    def tick(self, now: float) -> list[ButtonEvent]:
        """Let time pass; a late tick counts once and not for each second it missed."""
        if self._began_at is None or self._is_spent:
            return []
        held_s = now - self._began_at
        if held_s >= HOLD_S:
            self._is_spent = True
            return [ButtonEvent.RESET_ASKED]
        counted = int(held_s / COUNT_EVERY_S)
        if counted <= self._counted:
            return []
        self._counted = counted
        return [ButtonEvent.RESET_COUNTED]
