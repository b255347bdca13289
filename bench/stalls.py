"""Does the machine stand still? A thread that wants to wake every 5 ms and notes when it does not.

One rule: a figure taken while the machine stood still is repeated or left out, and the table says so.
"""

from __future__ import annotations

import threading
import time
from types import TracebackType
from typing import Self

STEP_S = 0.005  # seconds between two wake-ups


class StallWatch:
    """Watch for as long as the block lasts."""

    def __init__(self) -> None:
        self.longest_s = 0.0
        """The longest time a wake-up was late, in seconds."""
        self.stalls: list[tuple[float, float]] = []
        """(monotonic time, seconds late) of those above 50 ms."""
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="stall-watch", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        before = time.monotonic()
        while not self._stop.wait(STEP_S):
            now = time.monotonic()
            late = now - before - STEP_S
            before = now
            self.longest_s = max(self.longest_s, late)
            if late > 0.05 and len(self.stalls) < 10_000:
                self.stalls.append((now, late))
