"""Does the machine stand still? A thread that wants to wake every 5 ms and notes when it does not.

One rule: a figure or a verdict on real-time sound taken while the machine stood still is its own, not
ours; it is repeated or left out, and said so.
"""

from __future__ import annotations

import threading
import time
from types import TracebackType
from typing import Self

from voicemeet_edge.records import dataclass

TICK_S = 0.005  # s between two wakes
STALL_S = 0.060  # s late: more than any playout's slack, so what is heard then is the machine's doing
MAX_STALLS = 10_000  # kept; an hour on a machine that does nothing else


@dataclass(frozen=True, slots=True)
class Stall:
    """A stretch in which this machine ran nothing of ours."""

    start_s: float
    """Monotonic."""
    length_s: float


class StallWatch:
    """Watch for as long as the block lasts."""

    def __init__(self) -> None:
        self.stalls: list[Stall] = []
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="stalls", daemon=True)

    @property
    def longest_s(self) -> float:
        """The longest stall, in seconds; 0 without one."""
        return max((stall.length_s for stall in self.stalls), default=0.0)

    def touches(self, start_s: float, end_s: float) -> bool:
        """Say whether the machine stood still within these two moments."""
        return any(s.start_s < end_s and s.start_s + s.length_s > start_s for s in self.stalls)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        last = time.monotonic()
        while not self._ended.wait(TICK_S):
            now = time.monotonic()
            if now - last >= STALL_S and len(self.stalls) < MAX_STALLS:
                self.stalls.append(Stall(last, now - last))
            last = now
