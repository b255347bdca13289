"""Who may do what on Realtime: the door between the Realtime server and the hub's tokens.

Rule: Realtime never looks inside a token; it asks here, and gets claims or a `TokenError`.
"""

from __future__ import annotations

import enum
from typing import Protocol

from voicemeet_edge.errors import RemoteError
from voicemeet_edge.records import dataclass


@dataclass(frozen=True, slots=True)
class Claims:
    """What a verified token says; the same names as in the token (contract version 1)."""

    role: str
    exp: float
    """Unix seconds."""
    call_id: str | None = None
    slot: str | None = None
    """"a" or "b", together with `call_id`."""
    ticket: str | None = None
    jti: str = ""


class TokenFault(enum.Enum):
    """Why a token does not hold; the hub's REST answers hide it, Realtime's codes tell it."""

    EXPIRED = "expired"
    MALFORMED = "malformed"
    SIGNATURE = "signature"
    CLAIMS = "claims"


class TokenError(RemoteError):
    """A token that does not hold."""

    code = "bad_token"

    def __init__(self, kind: TokenFault, expired_s: float = 0.0) -> None:
        super().__init__(f"token is bad: {kind.value}")
        self.kind = kind
        self.expired_s = expired_s
        """Seconds since it expired, for Realtime's text; only with EXPIRED."""


class Authorizer(Protocol):
    """Verifies tokens and decides; none of it waits for anything."""

    def apikey_claims(self, key: str) -> Claims:
        """Return what the deployment's public key allows. Raises TokenError."""

    def token_claims(self, token: str) -> Claims:
        """Return what an access token allows. Raises TokenError."""

    def is_enrolled(self, token: str) -> bool:
        """Say whether a pass stands behind a token of any kind."""

    def may_read(self, claims: Claims, topic: str, private: bool) -> bool:
        """Say whether to let these claims join a topic (without the `realtime:` prefix)."""

    def may_write(self, claims: Claims, topic: str, private: bool) -> bool:
        """Say whether these claims may send on a topic."""
