"""TURN credentials; the one rule: they are made for one slot of one call and name nobody.

Pure, but for the Protocol's `async`, which a provider with an API needs. The `hmac` provider is the
TURN REST API (draft-uberti-behave-turn-rest-00 section 2.2) as coturn understands it.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Awaitable, Callable
from typing import Protocol

from voicemeet_edge.backend.ice_server import IceServer
from voicemeet_edge.backend.verbs import Slot
from voicemeet_edge.errors import BackendError
from voicemeet_edge.records import dataclass
from voicemeet_edge.secret import Secret

NOWHERE_RETRY_S = 1.0  # s until a device asks again while the hub has no address
USER_PART_DIGITS = 24  # hex digits: 96 bits, so that two calls never share a quota


@dataclass(frozen=True, slots=True)
class Grant:
    """ICE servers for one slot of one call, good until `expires_at` (unix seconds)."""

    ice_servers: tuple[IceServer, ...]
    expires_at: float


class TurnProvider(Protocol):
    """Where TURN credentials come from."""

    outlives_credentials: bool
    """Whether an allocation goes on when its credentials have run out."""

    async def issue(self, call_id: str, slot: Slot, now: float, expires_at: float) -> Grant:
        """Make credentials good until `expires_at`; BackendError when the provider cannot."""

    async def revoke(self, grant: Grant) -> None:
        """Take credentials back, best effort; never raises for the network's sake."""

    async def close(self) -> None:
        """Let go of what the provider holds."""


@dataclass(frozen=True, slots=True)
class TurnAddress:
    """Where clients reach the TURN server; a port of 0 leaves that way out."""

    host: str
    port: int
    tls_port: int = 0


def turn_password(secret: Secret, username: str) -> Secret:
    """Return base64(HMAC-SHA1(secret, username)), draft-uberti-behave-turn-rest-00 section 2.2."""
    digest = hmac.digest(secret.reveal().encode(), username.encode(), hashlib.sha1)
    return Secret(base64.b64encode(digest).decode())


def turn_username(secret: Secret, call_id: str, slot: Slot, expires_at: float) -> str:
    """Return `<expiry>:<user part>`; the part is the same at each renewal, so coturn's quota counts it."""
    digest = hmac.digest(secret.reveal().encode(), f"user {call_id} {slot}".encode(), hashlib.sha256)
    return f"{int(expires_at)}:{digest.hex()[:USER_PART_DIGITS]}"


def turn_urls(address: TurnAddress) -> tuple[str, ...]:
    """Return the URLs for udp, tcp, tls (RFC 7065 section 3.1) in the order a client should try it."""
    host = f"[{address.host}]" if ":" in address.host else address.host
    urls = [f"turn:{host}:{address.port}?transport=udp", f"turn:{host}:{address.port}?transport=tcp"]
    if address.tls_port:
        urls.append(f"turns:{host}:{address.tls_port}?transport=tcp")
    return tuple(urls)


def stun_url(address: TurnAddress) -> str:
    """Return the STUN URL (RFC 7064 section 3.1) of the same server."""
    host = f"[{address.host}]" if ":" in address.host else address.host
    return f"stun:{host}:{address.port}"


class HmacTurn:
    """Credentials for a coturn that shares our secret."""

    outlives_credentials = True

    def __init__(
        self,
        secret: Secret,
        address: TurnAddress | Callable[[], TurnAddress | None],
        urls: tuple[str, ...] = (),
        *,
        end: Callable[[str], Awaitable[object]] | None = None,
    ) -> None:
        """Take where the server is: for good, or a question that is answered None while it is nowhere.

        `urls` replaces what is derived from the address, for a server that lives elsewhere. `end(user part)`
        ends the allocations of a slot, where the server can be told to.
        """
        self._secret = secret
        self._end = end
        self._address = address
        self._turn_urls = tuple(url for url in urls if not url.startswith("stun"))
        self._stun_urls = tuple(url for url in urls if url.startswith("stun"))

    async def issue(self, call_id: str, slot: Slot, now: float, expires_at: float) -> Grant:
        """Make credentials good until `expires_at`; BackendError (`turn_unavailable`) while it is nowhere."""
        address = self._address() if callable(self._address) else self._address
        if address is None:
            raise BackendError(
                "the TURN server is not ready: the hub has no address yet",
                code="turn_unavailable",
                status=503,
                retry_after_s=NOWHERE_RETRY_S,
            )
        username = turn_username(self._secret, call_id, slot, expires_at)
        password = turn_password(self._secret, username)
        stun = IceServer(self._stun_urls or (stun_url(address),))
        turn = IceServer(self._turn_urls or turn_urls(address), username, password)
        return Grant((stun, turn), float(int(expires_at)))

    async def revoke(self, grant: Grant) -> None:
        """End what these credentials hold. They themselves work until their time, within their quota."""
        users = [server.username for server in grant.ice_servers if server.username]
        if self._end is not None:
            for user in users:
                await self._end(user.partition(":")[2])

    async def close(self) -> None:
        """Do nothing."""


class NoTurn:
    """No TURN at all: only direct paths."""

    outlives_credentials = True

    async def issue(self, call_id: str, slot: Slot, now: float, expires_at: float) -> Grant:
        """Return an empty list."""
        return Grant((), expires_at)

    async def revoke(self, grant: Grant) -> None:
        """Do nothing."""

    async def close(self) -> None:
        """Do nothing."""
