"""One-way delays: the least of late, and what is above it, a queue. Pure.

Words: *delay* is of the whole way with both clocks' difference in it, *queue* is delay above the base.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from math import inf
from typing import NamedTuple

BASE_BINS = 10  # bins of the least delay; a route that got longer is believed after all of them
BASE_BIN_S = 2.0  # s
MOST_SEEN = 400  # packets kept at most: four times what the highest rung sends in that time
RATE_S = 1.0  # s over which a rate is measured
RATE_LEAST_S = 0.001  # s between two arrivals at least, as they are stamped
RATE_PACKETS = 4  # packets at least
STANDING_S = 0.0125  # s of queue before a packet that waited for the line and not for us
BESIDE = 8  # packets that came before a lost one, and tell of the queue it met
DROP_S = 0.004  # s below the base, beside a packet's own length: the line got faster, or the way shorter
QUEUE_MEMORY_S = 30.0  # s the longest queue is remembered


class PacketFate(NamedTuple):
    """What became of one packet."""

    sent_at: float
    """Seconds, this side's clock."""
    octets: int
    """On the wire, IP and all."""
    arrived_at: float | None
    """Seconds, the other side's clock; None: lost."""
    pair: bool = False
    """It was sent right behind the one before, which has the same size."""
    behind: bool = False
    """A report of ours was sent between it and the one before."""


class BaseDelay:
    """The least delay of the last 20 s, in bins, so that it can be forgotten.

    A long packet takes longer through a narrow line, and that is no queue. So each bin keeps beside the delay
    how much of it the packet's own length was, by what was known of the line then.
    """

    def __init__(self) -> None:
        self.fell_at = -inf
        """When it last became clearly shorter."""
        self._bins: deque[tuple[float, float]] = deque(maxlen=BASE_BINS)
        self._bin_ends = 0.0
        self._least = (0.0, 0.0)

    def add(self, delay: float, own: float, now: float) -> None:
        """Take a delay, and how much of it is the time the packet itself takes."""
        if self._bins and delay + max(self._least[1] - own, 0.0) < self._least[0] - DROP_S:
            self.fell_at = now
        if not self._bins or now >= self._bin_ends:
            self._bins.append((delay, own))
            self._bin_ends = now + BASE_BIN_S
        elif delay < self._bins[-1][0]:
            self._bins[-1] = delay, own
        self._least = min(self._bins)

    @property
    def least_s(self) -> float:
        """The least delay, with what the packet's own length was of it."""
        return self._least[0]

    def queue(self, delay: float, own: float) -> float:
        """Return how much of a delay is queue."""
        least, counted = self._least
        return delay - least - max(own - counted, 0.0)


def slope(points: Sequence[tuple[float, float]]) -> float:
    """Return the slope of the line through the points by least squares; 0 for fewer than 4."""
    count = len(points)
    if count < 4:
        return 0.0
    mean_x = sum(x for x, _ in points) / count
    mean_y = sum(y for _, y in points) / count
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    return sum((x - mean_x) * (y - mean_y) for x, y in points) / spread if spread > 0 else 0.0


class Spans(NamedTuple):
    """Over how long a queue is looked at, in seconds and packets."""

    seen_s: float
    slow_s: float
    """A slow growth is looked for in this time."""
    steep_s: float
    """And a fast one in this."""
    least_of: int
    """Packets at least whose least queue is taken for the standing one: of few it tells of jitter."""


DENSE = Spans(1.5, 1.0, 0.5, 5)
"""Where every packet is reported."""
SPARSE = Spans(3.5, 2.6, 1.6, 2)
"""Where a round trip is looked at twice a second: three looks and no less show a growth."""


class QueueWatch:
    """Follow the queue from report to report."""

    def __init__(self, spans: Spans = DENSE) -> None:
        self.spans = spans
        self.queue_s = 0.0
        """What stands in it, by the last report: the least of its packets, for jitter is no queue."""
        self._base = BaseDelay()
        self._seen: deque[tuple[float, float, float, int]] = deque()  # arrived, sent, queue, octets
        self._lows: deque[tuple[float, float]] = deque()  # when, standing queue
        self._longest: deque[tuple[float, float]] = deque()
        self._bases: deque[tuple[float, float]] = deque()
        self._new = 0

    def begin(self, fates: Sequence[PacketFate], per_octet: float, now: float) -> None:
        """A report is here: learn the base of all of it first."""
        self._new = 0
        for fate in fates:
            if fate.arrived_at is not None:
                self._base.add(fate.arrived_at - fate.sent_at, fate.octets * per_octet, now)

    def add(self, fate: PacketFate, per_octet: float) -> None:
        """Take a packet of it that arrived."""
        assert fate.arrived_at is not None
        queue = self._base.queue(fate.arrived_at - fate.sent_at, fate.octets * per_octet)
        self._seen.append((fate.arrived_at, fate.sent_at, queue, fate.octets))
        self._new += 1

    def end(self, now: float) -> None:
        """All of it was taken."""
        seen = self._seen
        self._bases.append((now, self._base.least_s))
        while self._bases[0][0] < now - BASE_BIN_S:
            self._bases.popleft()
        if self._new:
            self.queue_s = max(self._least_of_last(max(self._new, self.spans.least_of)), 0.0)
            self._lows.append((now, self.queue_s))
            self._longest.append((now, self.queue_s))
        while seen and (seen[0][0] < seen[-1][0] - self.spans.seen_s or len(seen) > MOST_SEEN):
            seen.popleft()
        while self._lows and self._lows[0][0] < now - 1.0:
            self._lows.popleft()
        while self._longest and self._longest[0][0] < now - QUEUE_MEMORY_S:
            self._longest.popleft()

    def _least_of_last(self, count: int) -> float:
        """Return the least queue of the last packets that came."""
        last = (self._seen[-1 - place][2] for place in range(min(count, len(self._seen))))
        return min(last, default=0.0)

    def beside(self) -> float:
        """Return the queue that a packet met which was lost after the last that came."""
        return self._least_of_last(BESIDE)

    def longest(self, now: float) -> float:
        """Return the longest queue of late."""
        return max((value for at, value in self._longest if at > now - QUEUE_MEMORY_S), default=0.0)

    @property
    def base_s(self) -> float:
        """The least delay of late, in the time of both clocks."""
        return self._base.least_s

    def base_fell(self, now: float, span_s: float) -> float:
        """Return how much shorter the least delay is than so long ago; 0 where that is not known."""
        before = [base for at, base in self._bases if at <= now - span_s]
        return before[-1] - self.base_s if before else 0.0

    @property
    def base_fell_at(self) -> float:
        """When the least delay last became clearly shorter."""
        return self._base.fell_at

    @property
    def least_s(self) -> float:
        """The least queue of the last second."""
        return min((value for _, value in self._lows), default=0.0)

    def growth(self, *, slow: bool) -> float:
        """Return how fast the queue grew of late, in s each s."""
        if not self._seen:
            return 0.0
        span_s = self.spans.slow_s if slow else self.spans.steep_s
        newest = self._seen[-1][1]
        return slope([(sent, queue) for _, sent, queue, _ in self._seen if sent >= newest - span_s])

    def arriving(self, sent_before: float = inf) -> float | None:
        """Return kb/s that came out of a standing queue in the last second; None when that is not known."""
        if not self._seen:
            return None
        newest, rates = self._seen[-1][0], []
        before = self._seen[0][0]
        for arrived, sent, queue, octets in self._seen:
            # Who waited came when the line had taken the one before; and in the middle of many, a machine
            # that stood still and then hurried does not show.
            if queue > STANDING_S and arrived > newest - RATE_S and sent < sent_before:
                rates.append(octets * 0.008 / max(arrived - before, RATE_LEAST_S))
            before = arrived
        return sorted(rates)[len(rates) // 2] if len(rates) >= RATE_PACKETS else None
