"""When the door opens: pure, asked by the conversation that holds the verified desk.

One rule: only what was asked for just now opens it. A request is good once, with the challenge that was made
for it, for `FRESH_S` on our own clock; so a message that was held back, sent again or sent in another order
opens nothing. Whether the talk is sealed, verified and alive is the conversation's to say.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Callable
from enum import StrEnum

from voicemeet_edge.records import dataclass
from voicemeet_edge.signaling.messages import DoorState, Open

FRESH_S = 2.0  # s a challenge is good: two trips over a bad line
MAX_OPENINGS = 20  # in one call; more is a finger that plays, or a fault
MAX_REQUESTS = 64  # in one call, of which most are asked in vain


class Denial(StrEnum):
    """Why a door stays closed; the word travels in `door`."""

    NOT_ALLOWED = "not_allowed"  # no lock in the settings, no key, or an announcement
    NOT_TALKING = "not_talking"
    STALE = "stale"
    ALREADY_OPEN = "already_open"
    TOO_OFTEN = "too_often"
    BROKEN = "broken"  # the lock could not be switched


@dataclass(frozen=True, slots=True)
class DoorAnswer:
    """Say this of the door."""

    state: DoorState
    request: str = ""
    challenge: str = ""
    seconds: float = 0.0
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Unlock:
    """Open the door for so long; then tell `unlocked`."""

    request: str
    seconds: float


class DoorLock:
    """The door's end of opening it in one call.

    Args:
        open_s: how long it stays open, seconds; 0 where there is no lock.
        new_challenge: 16 random bytes as hex.
    """

    def __init__(
        self, open_s: float, *, new_challenge: Callable[[], str] = lambda: secrets.token_hex(16)
    ) -> None:
        self.open_s = open_s
        self._new_challenge = new_challenge
        self._taken: set[str] = set()
        self._request = ""
        self._challenge = ""
        self._good_until = 0.0
        self._open_until = float("-inf")
        self._closing = ""
        self._openings = 0

    @property
    def deadline(self) -> float | None:
        """When `handle_timer` has to say that the door is closed again."""
        return self._open_until if self._closing else None

    def receive(self, message: Open, now: float, *, is_talking: bool) -> DoorAnswer | Unlock | None:
        """Take a request of the verified desk; None: nothing to say."""
        if not self.open_s:
            return self._deny(message, Denial.NOT_ALLOWED)
        if not is_talking:
            return self._deny(message, Denial.NOT_TALKING)
        if now < self._open_until:
            return self._deny(message, Denial.ALREADY_OPEN)
        if not message.challenge:
            return self._challenge_for(message, now)
        expected, good_until, self._challenge = self._challenge, self._good_until, ""
        is_ours = message.request == self._request and hmac.compare_digest(expected, message.challenge)
        if not expected or not is_ours or now >= good_until:
            return self._deny(message, Denial.STALE)
        if self._openings >= MAX_OPENINGS:
            return self._deny(message, Denial.TOO_OFTEN)
        self._openings += 1
        self._open_until = now + self.open_s  # no second one while the first is on its way to the lock
        return Unlock(message.request, self.open_s)

    def unlocked(self, request: str, now: float, *, is_open: bool) -> DoorAnswer:
        """What came of `Unlock`."""
        if not is_open:
            self._open_until = float("-inf")
            return DoorAnswer(DoorState.REFUSED, request, reason=Denial.BROKEN)
        self._open_until = now + self.open_s
        self._closing = request
        return DoorAnswer(DoorState.OPEN, request, seconds=self.open_s)

    def handle_timer(self, now: float) -> list[DoorAnswer]:
        """Do what is due at `now`; harmless when nothing is."""
        if not self._closing or now < self._open_until:
            return []
        request, self._closing = self._closing, ""
        return [DoorAnswer(DoorState.CLOSED, request)]

    def _challenge_for(self, message: Open, now: float) -> DoorAnswer | None:
        if message.request in self._taken:
            return None  # said again by somebody: the first one was answered
        if len(self._taken) >= MAX_REQUESTS:
            return self._deny(message, Denial.TOO_OFTEN)
        self._taken.add(message.request)
        self._request, self._challenge = message.request, self._new_challenge()
        self._good_until = now + FRESH_S
        return DoorAnswer(DoorState.CHALLENGE, message.request, self._challenge)

    @staticmethod
    def _deny(message: Open, why: Denial) -> DoorAnswer:
        return DoorAnswer(DoorState.REFUSED, message.request, reason=why)
