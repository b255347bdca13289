"""A call's token and relay credentials, kept fresh for as long as the call lasts.

One rule: the voice goes on without the backend; only a new connection or a rejoin would miss fresh ones. Told
the time (seconds, monotonic).
"""

from __future__ import annotations

from voicemeet_edge.backend.verbs import RenewReply
from voicemeet_edge.call.commands import Renew, UseGrant
from voicemeet_edge.secret import Secret
from voicemeet_edge.signaling.reconnect import Backoff

RENEW_SHARE = 0.5  # of a token's life: late enough to be rare, early enough to fail twice
RENEW_GAP_S = 1.0  # s between two renewals at least, whoever asks for them and how often


class Renewal:
    """When to renew, and with what; at most one renewal is under way."""

    def __init__(self, token: Secret, token_ttl_s: float) -> None:
        self.token = token
        """The newest."""
        self.deadline: float | None = None
        """When `handle_timer` wants to be called; None while a renewal is under way."""
        self._token_ttl_s = token_ttl_s
        self._backoff = Backoff()
        self._is_asked = False
        self._asked_at = float("-inf")

    def start(self, now: float) -> None:
        """The token's life begins."""
        self.deadline = now + self._token_ttl_s * RENEW_SHARE

    def hurry(self, now: float) -> None:
        """Something needs fresh ones now: the channel was closed, or the path is gone."""
        if not self._is_asked:
            self.deadline = max(now, self._asked_at + RENEW_GAP_S)

    def handle_timer(self, now: float) -> list[Renew]:
        """Ask when it is time to."""
        if self.deadline is None or now < self.deadline:
            return []
        self.deadline = None
        self._is_asked, self._asked_at = True, now
        return [Renew(self.token)]

    def renewed(self, reply: RenewReply, now: float) -> UseGrant:
        """What was asked for is here."""
        self._is_asked = False
        self._backoff.succeeded(now)
        self.token, self._token_ttl_s = reply.token, reply.token_ttl_s
        self.start(now)
        return UseGrant(reply.token, reply.ice_servers)

    def failed(self, now: float, *, is_retryable: bool, asked_s: float | None = None) -> None:
        """The backend did not give it: later again, much later when it refused, or when it says (seconds)."""
        self._is_asked = False
        self.deadline = now + self._backoff.failed(now, hard=not is_retryable, asked_s=asked_s)
