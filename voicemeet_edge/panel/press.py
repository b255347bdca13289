"""Tell a press from a hold, and a contact's bouncing from both. Pure: told levels and the time.

One rule: one pressing gives at most one event, and a button that is down from the start gives none.
"""

from __future__ import annotations

from voicemeet_edge.panel.interface import ButtonEvent


class PressRecogniser:
    """One button. With `held`, a press counts on release and a hold after `hold_s`; else at once."""

    def __init__(
        self,
        pressed: ButtonEvent,
        held: ButtonEvent | None = None,
        *,
        hold_s: float,
        debounce_s: float,
        down_at_start: bool = False,
    ) -> None:
        self._pressed = pressed
        self._held = held
        self._hold_s = hold_s
        self._debounce_s = debounce_s
        self._down = down_at_start  # the level that counts
        self._seen = down_at_start  # the level last seen, maybe still bouncing
        self._spent = down_at_start  # this pressing has given its event, or must give none
        self._changed_at = float("-inf")
        self._pressed_at = float("-inf")

    @property
    def is_down(self) -> bool:
        """The button is pressed, as far as it counts."""
        return self._down

    @property
    def deadline(self) -> float | None:
        """When `tick` wants to be called, if nothing changes before."""
        waits: list[float] = []
        if self._seen != self._down:
            waits.append(self._changed_at + self._debounce_s)
        if self._down and not self._spent and self._held is not None:
            waits.append(self._pressed_at + self._hold_s)
        return min(waits, default=None)

    def level(self, down: bool, now: float) -> list[ButtonEvent]:
        """Take an edge, or a level read again.

        The first edge counts at once; what follows within the debounce time is the contact
        settling, and the level it settles on counts when that time is over.
        """
        # Edges carry the time they happened, which may lie before a level read meanwhile.
        now = max(now, self._changed_at)
        events = self.tick(now)
        self._seen = down
        return events + self._settle(now)

    def tick(self, now: float) -> list[ButtonEvent]:
        """Let time pass: a settled level counts, a long press becomes a hold."""
        # What settled comes first, at the time it did: a late tick must not turn a press into a hold.
        events: list[ButtonEvent] = []
        settled_at = self._changed_at + self._debounce_s
        if self._seen != self._down and now >= settled_at:
            events += self._settle(settled_at)
        if self._down and now >= self._pressed_at + self._hold_s:
            events += self._spend(self._held)
        return events

    def _settle(self, now: float) -> list[ButtonEvent]:
        if self._seen == self._down or now < self._changed_at + self._debounce_s:
            return []
        self._down = self._seen
        self._changed_at = now
        if self._down:
            self._pressed_at, self._spent = now, False
            return [] if self._held is not None else self._spend(self._pressed)
        if now >= self._pressed_at + self._hold_s and self._held is not None:
            return self._spend(self._held)  # the tick that should have said so came too late
        return self._spend(self._pressed)

    def _spend(self, event: ButtonEvent | None) -> list[ButtonEvent]:
        if event is None or self._spent:
            return []
        self._spent = True
        return [event]
