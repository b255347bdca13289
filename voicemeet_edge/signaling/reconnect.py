"""When to try again: full-jitter, unlimited back-off, told the time.

Rule: this file only names the moment; whoever waits, waits elsewhere.

Full jitter (a random wait between nothing and the doubled bound) spreads a building's devices
after a power cut better than a fixed ladder does.
"""

from __future__ import annotations

import random
from collections.abc import Callable

BASE_S = 1.0  # s; the bound of the first wait
CAP_S = 30.0  # s; an unattended device must be back soon after the network is
STABLE_S = 5.0  # s; a connection that lived shorter does not count as success
HARD_FLOOR = 0.5  # share of the cap; after a refusal a lucky short wait helps nobody
ASKED_JITTER = (1.0, 1.5)  # share of the wait the server asked for; never less, and not all at one moment


class Backoff:
    """Count failures in a row and name the moment of the next attempt."""

    def __init__(
        self,
        *,
        base_s: float = BASE_S,
        cap_s: float = CAP_S,
        stable_s: float = STABLE_S,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._base_s = base_s
        self._cap_s = cap_s
        self._stable_s = stable_s
        self._uniform = uniform
        self._up_since: float | None = None
        self.failures = 0
        """Failures in a row; 0 after a connection that lasted."""
        self.deadline: float | None = None
        """The moment of the next attempt; None when none is due."""

    def succeeded(self, now: float) -> None:
        """Note that the attempt worked; the count falls to zero only if it lasts."""
        self._up_since = now
        self.deadline = None

    def failed(self, now: float, *, hard: bool = False, asked_s: float | None = None) -> float:
        """Note a failure and return the wait in seconds: the larger of ours and what the server asked for.

        Args:
            now: seconds, monotonic.
            hard: the other side refused (authentication, rate limit): wait the maximum at once.
            asked_s: the server's `retry_after_s`, when it named one.
        """
        if self._up_since is not None and now - self._up_since >= self._stable_s:
            self.failures = 0
        self._up_since = None
        # 2 ** 30 already is beyond any cap; the bound keeps the power small after a year offline.
        bound = min(self._cap_s, self._base_s * 2.0 ** min(self.failures, 30))
        self.failures += 1
        wait = self._uniform(self._cap_s * HARD_FLOOR, self._cap_s) if hard else self._uniform(0.0, bound)
        if asked_s is not None:
            wait = max(wait, asked_s * self._uniform(*ASKED_JITTER))
        self.deadline = now + wait
        return wait

    def network_back(self, now: float) -> None:
        """Cut the wait short: something outside saw the network return."""
        if self.deadline is not None:
            self.deadline = min(self.deadline, now)
        self.failures = 0
