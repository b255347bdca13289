"""A queue from its beginning to its end, and whose it is: ours shrinks when we send less. Pure."""

from __future__ import annotations

from voicemeet_edge.records import dataclass

FOREIGN_SHARE = 0.75  # of what got through: sending less, a queue of ours must shrink
FOREIGN_DRAIN = 0.4  # share of what should have drained; less did: it is somebody else's queue
FOREIGN_PROOF_S = 0.1  # s that should have drained before that is believed
FOREIGN_HALF = 0.5  # of what got through: a queue of ours must be gone
FOREIGN_LOW_S = 1.5  # s after which that shows, however much it grew before


@dataclass(slots=True)
class Episode:
    """From a queue that looks like ours to its end."""

    rung: int
    """Before it began."""
    began: float
    carried: float
    """kb/s that got through before we sent less."""
    base: float
    """The least delay then, of whose queue nothing was known yet."""
    shows_at: float
    """Before that nothing that comes of sending less can have been reported."""
    drains_from: tuple[float, float] | None = None
    """(when, queue): from then on what is seen was sent after the fall."""
    low_from: tuple[float, float] | None = None
    """(when, queue): from then on we have sent no more than half of what got through."""
    share: float = 1.0
    """What is sent now of what got through."""

    def look(self, now: float, sent: float, queue: float) -> None:
        """Take what is sent now (kb/s), and the queue (seconds)."""
        self.share = sent / self.carried
        if self.drains_from is not None and queue > self.drains_from[1]:
            self.drains_from = now, queue
        if self.low_from is None and self.share <= FOREIGN_HALF:
            self.low_from = now, queue

    def is_foreign(self, now: float, queue: float) -> bool:
        """Say whether we send so much less than got through, and the queue did not care."""
        low = self.low_from
        if low is not None and now - low[0] > FOREIGN_LOW_S + low[1]:  # so long until it shows at all
            return low[1] - queue < FOREIGN_DRAIN * FOREIGN_HALF * (now - low[0])
        if self.drains_from is None or self.share > FOREIGN_SHARE:
            return False
        began, longest = self.drains_from
        due = (1 - self.share) * (now - began)
        return due >= max(FOREIGN_PROOF_S, 0.2 * longest) and longest - queue < FOREIGN_DRAIN * due
