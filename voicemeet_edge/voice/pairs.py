"""How fast a line is by pairs of packets: how far apart two come that left together. Pure.

The narrowest link spreads the two by the time it takes for the second (packet pair, Keshav 1991).
Speeds are in kb/s.
"""

from __future__ import annotations

from collections import deque

from voicemeet_edge.voice.delays import RATE_LEAST_S

PAIRS = 3  # pairs the line's speed is judged by
ALIKE = 1.2  # times: pairs that differ by no more measured the line, and not jitter


class Pairs:
    """The last pairs."""

    def __init__(self) -> None:
        self._speeds: deque[float] = deque(maxlen=PAIRS)

    def __len__(self) -> int:
        return len(self._speeds)

    def add(self, octets: int, gap_s: float) -> None:
        """Take a pair: bytes of the second on the wire, and how far behind the first it came."""
        self._speeds.append(octets * 0.008 / max(gap_s, RATE_LEAST_S))

    def last(self, count: int) -> list[float]:
        """Return the last ones, fewer where there are none."""
        return list(self._speeds)[-count:]

    def middle(self) -> float | None:
        """Return the middle of the last few; None for too few."""
        speeds = sorted(self._speeds)
        return speeds[len(speeds) // 2] if len(speeds) >= PAIRS - 1 else None

    def fastest(self) -> float:
        """Return the fastest; 0 where there are none."""
        return max(self._speeds, default=0.0)

    def agree(self, least: int = PAIRS) -> float | None:
        """Return the slowest of at least so many that agree; None where they do not."""
        if len(self._speeds) < least or max(self._speeds) > ALIKE * min(self._speeds):
            return None
        return min(self._speeds)
