"""When a search asks again, with which token, and when it gives up: told what the backend answered.

One rule: only what waiting cannot mend ends a search. Told the time (seconds, monotonic); the asking is done
in call/search.py.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from voicemeet_edge.backend.verbs import Role
from voicemeet_edge.errors import BackendError, is_retryable
from voicemeet_edge.records import dataclass
from voicemeet_edge.signaling.reconnect import Backoff

JITTER = (0.8, 1.2)  # share of the asked-for wait; spreads a building's devices
MAX_REFUSED_TOKENS = 3  # in a row; a backend that refuses fresh tokens will refuse the next one too
UNAUTHORIZED = 401  # HTTP: the device token is not, or no longer, good
NOT_ADMITTED = ("pass_needed", "pass_refused")  # what a token was made with is not, or no longer, good
POOL_FULL = "pool_full"  # a person at the button is told so at once; a desk that stands by waits its turn


@dataclass(frozen=True, slots=True)
class AfterRefusal:
    """What to do about a refusal; without `gives_up` the search asks again at the plan's deadline."""

    gives_up: bool = False
    drops_token: bool = False
    """The device token is no good: the next is made anew."""


class SearchPlan:
    """One search as the clock sees it."""

    def __init__(self, role: Role, *, uniform: Callable[[float, float], float] = random.uniform) -> None:
        self._role = role
        self._uniform = uniform
        self._backoff = Backoff(uniform=uniform)
        self._refused_tokens = 0
        self.deadline = float("-inf")
        """When to ask next, seconds, monotonic; at once in the beginning."""

    @property
    def failures(self) -> int:
        """How often in a row the backend could not answer."""
        return self._backoff.failures

    def waits(self, poll_after_s: float, now: float) -> None:
        """The backend has us in the pool and wants to be asked again then."""
        self._refused_tokens = 0
        self._backoff.succeeded(now)
        self.deadline = now + poll_after_s * self._uniform(*JITTER)

    def refused(self, error: BackendError, now: float, *, has_token: bool) -> AfterRefusal:
        """The backend refused or did not answer; `has_token`: it was asked with a device token."""
        if error.status == UNAUTHORIZED and has_token and self._refused_tokens < MAX_REFUSED_TOKENS:
            self._refused_tokens += 1
            self.deadline = now
            return AfterRefusal(drops_token=True)
        # Asked again later, it is with a token made anew: the pass may have been made meanwhile.
        drops = error.code in NOT_ADMITTED and has_token
        is_told = error.code == POOL_FULL and self._role is not Role.ANSWERER
        if is_told or not is_retryable(error):
            return AfterRefusal(gives_up=True, drops_token=drops)
        self.deadline = now + self._backoff.failed(now, asked_s=error.retry_after_s)
        return AfterRefusal(drops_token=drops)
