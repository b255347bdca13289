"""When the card has room for the next period, so that its sound is decided then and not a period before.

A stream that is full makes the write of a period wait. Who decides what to play and then waits plays what
was known 10 ms ago; who waits first plays what is known now, and a packet that came meanwhile is in it.
Where the card's buffer allows it the wait is for room for two (`lean`): the second half of a frame that was
decoded is written at once, which spares a wake, and the first half is decided no earlier for it.
The one rule: a guess that is wrong costs a wait in the write, never more than a millisecond of the card's
buffer. Pure: times are given, in seconds, monotonic.
"""

from __future__ import annotations

from voicemeet_edge.voice.format import PERIOD_S

SLACK_S = 0.0003  # s after the guess; a write that has to wait for its room is a second wake
WAITED_S = 0.0004  # s; a write that took longer waited for room, and returned when there was some
PROBE_S = 0.001  # s before the guess; such a write should wait, and so tells when there really was room
PROBE_PERIODS = 50  # wakes (0.5 to 1 s) between two such looks; at 500 ppm the clocks drifted 0.25 ms
SHIFT_S = 0.001  # s; a write that took longer than this beyond the guess was held up by the machine


class PlaybackClock:
    """Learn the card's clock from the writes that had to wait."""

    def __init__(self) -> None:
        self.watched = True
        """Whether `wrote` wants to know of the next write; else it need not be called."""
        self._room_at: float | None = None
        self._until_probe = 0

    def lost(self) -> None:
        """The stream is new: nothing is known of its clock."""
        self._room_at = None
        self.watched = True

    def full(self, now: float) -> None:
        """The stream ran dry, was filled anew, and has no more room."""
        self._room_at, self._until_probe = now + PERIOD_S, 0
        self.watched = True

    @property
    def is_known(self) -> bool:
        """Whether it was learnt when there is room."""
        return self._room_at is not None

    def rest(self, now: float, *, lean: bool = False) -> float:
        """Return how long to wait before the next period is decided; call it once for each wake.

        `lean`: until there is room for two, so that `another` may follow.
        """
        room_at = self._room_at
        if room_at is None:
            return 0.0
        self._room_at = room_at + PERIOD_S
        decided_at = self._room_at if lean else room_at
        if self._until_probe:
            self._until_probe -= 1
            return max(decided_at + SLACK_S - now, 0.0)
        self.watched = True
        return max(decided_at - PROBE_S - now, 0.0)

    def another(self) -> None:
        """One more period is written in this wake."""
        if self._room_at is not None:
            self._room_at += PERIOD_S

    def wrote(self, before: float, after: float) -> None:
        """Note when a write of one period, after which there should be no more room, began and ended."""
        waited = after - before > WAITED_S
        if self._room_at is None:
            if waited:
                self._room_at, self._until_probe = after + PERIOD_S, 0
            return
        guess = self._room_at - PERIOD_S
        if waited:
            self._room_at = min(after, guess + SHIFT_S) + PERIOD_S
            self._until_probe, self.watched = PROBE_PERIODS, False
        elif before < guess:
            self._room_at -= PROBE_S  # there was room already: look earlier next time
