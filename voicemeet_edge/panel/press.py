"""Tell a press from a hold, and a contact's bouncing from both. Pure: told levels and the time.

One rule: one pressing gives at most one event, and a button that is down from the start gives none.
"""

from __future__ import annotations

from voicemeet_edge.panel.interface import PanelEvent

AGAIN_S = 0.8  # s between two events of a button that is held on: slow enough to let go in time


class PressRecogniser:
    """One button. With `held`, a press counts on release and a hold after `hold_s`; else at once."""

    def __init__(
        self,
        pressed: PanelEvent | None,
        held: PanelEvent | None = None,
        *,
        again: PanelEvent | None = None,
        hold_s: float,
        debounce_s: float,
        down_at_start: bool = False,
    ) -> None:
        self._pressed = pressed
        self._held = held
        self._again = again  # each AGAIN_S while it is held on
        self._again_at: float | None = None
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
    def down_at(self) -> float | None:
        """When it went down, as far as it counts; None while it is up, -inf when it was down at the start."""
        return self._pressed_at if self._down else None

    def drop(self) -> None:
        """Let this pressing give no event any more."""
        if self._down:
            self._spent, self._again_at = True, None

    @property
    def deadline(self) -> float | None:
        """When `tick` wants to be called, if nothing changes before."""
        waits: list[float] = []
        if self._seen != self._down:
            waits.append(self._changed_at + self._debounce_s)
        if self._down and not self._spent and self._held is not None:
            waits.append(self._pressed_at + self._hold_s)
        if self._again_at is not None:
            waits.append(self._again_at)
        return min(waits, default=None)

    def level(self, down: bool, now: float) -> list[PanelEvent]:
        """Take an edge, or a level read again.

        The first edge counts at once; what follows within the debounce time is the contact
        settling, and the level it settles on counts when that time is over.
        """
        # Edges carry the time they happened, which may lie before a level read meanwhile.
        now = max(now, self._changed_at)
        events = self.tick(now)
        self._seen = down
        return events + self._settle(now)

    def tick(self, now: float) -> list[PanelEvent]:
        """Let time pass: a settled level counts, a long press becomes a hold."""
        # What settled comes first, at the time it did: a late tick must not turn a press into a hold.
        events: list[PanelEvent] = []
        settled_at = self._changed_at + self._debounce_s
        if self._seen != self._down and now >= settled_at:
            events += self._settle(settled_at)
        if self._down and now >= self._pressed_at + self._hold_s:
            held = self._spend(self._held)
            if held and self._again is not None:
                self._again_at = now + AGAIN_S
            events += held
        if self._again_at is not None and self._again is not None and now >= self._again_at:
            self._again_at = now + AGAIN_S
            events.append(self._again)
        return events

    def _settle(self, now: float) -> list[PanelEvent]:
        if self._seen == self._down or now < self._changed_at + self._debounce_s:
            return []
        self._down = self._seen
        self._again_at = None
        self._changed_at = now
        if self._down:
            self._pressed_at, self._spent = now, False
            return [] if self._held is not None else self._spend(self._pressed)
        if now >= self._pressed_at + self._hold_s and self._held is not None:
            return self._spend(self._held)  # the tick that should have said so came too late
        return self._spend(self._pressed)

    def _spend(self, event: PanelEvent | None) -> list[PanelEvent]:
        if event is None or self._spent:
            return []
        self._spent = True
        return [event]
