"""Which numbers came before: one sliding window against replays, for sealed and for open messages alike.

The window of RFC 4303 §3.4.3: `check` looks, `take` remembers. They are two steps so that only what was
authenticated is taken: a forger cannot push the window forward.
"""

from __future__ import annotations

import enum


class Freshness(enum.Enum):
    """What the window knows of a number."""

    NEW = "new"
    REPLAYED = "replayed"
    STALE = "stale"
    """Older than the window reaches, so nobody can say whether it came before."""


class ReplayFilter:
    """The newest number that was taken, and a bit for each of the `size` numbers up to it."""

    def __init__(self, size: int) -> None:
        self.newest = 0
        self._size = size
        self._seen = 0  # bit n: newest - n was taken

    def check(self, number: int) -> Freshness:
        """Say whether this number was taken before; changes nothing."""
        behind = self.newest - number
        if behind < 0:
            return Freshness.NEW
        if behind >= self._size:
            return Freshness.STALE
        return Freshness.REPLAYED if self._seen >> behind & 1 else Freshness.NEW

    def take(self, number: int) -> None:
        """Remember a number that `check` called new."""
        ahead = number - self.newest
        if ahead > 0:
            # A shift by a hostile distance would make a number of that many bits.
            self._seen = (self._seen << min(ahead, self._size) | 1) & ((1 << self._size) - 1)
            self.newest = number
        else:
            self._seen |= 1 << -ahead
