"""TURN credentials from Cloudflare's API; the one rule: the API token never leaves the hub.

One POST per slot of a matched call, one to revoke at its end (best effort). Both documented shapes of
the answer are read. Unlike coturn, Cloudflare cuts a session when its credential expires: so the
lifetime covers the longest call, and the device renews before.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Mapping
from typing import cast

import aiohttp

from voicemeet_edge.backend.ice_server import IceServer
from voicemeet_edge.backend.verbs import Slot
from voicemeet_edge.errors import BackendError, MessageError
from voicemeet_edge.hub.turn.provider import Grant
from voicemeet_edge.secret import Secret

logger = logging.getLogger(__name__)

API_TIMEOUT_S = 5.0  # s; the caller waits for it with a receiver in the hand
MAX_ANSWER_BYTES = 32 * 1024  # bytes; the documented answer has about 1 kB
MAX_TTL_S = 172_800  # s: 48 h, the documented limit
MIN_TTL_S = 60  # s; less would expire on the way
MAX_CONNECTIONS = 16  # to the API at once
BLOCKED_PORT = ":53?"  # Cloudflare offers port 53; browsers and many providers block it


class CloudflareTurn:
    """A TurnProvider on Cloudflare Realtime TURN."""

    outlives_credentials = False  # a session ends shortly after its credentials expire

    def __init__(self, api: str, key_id: str, token: Secret) -> None:
        """Take the API's base URL, the TURN key's id and its token; needs a running loop."""
        self._base = f"{api.rstrip('/')}/v1/turn/keys/{key_id}/credentials"
        self._headers = {"Authorization": f"Bearer {token.reveal()}"}
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=MAX_CONNECTIONS),
            timeout=aiohttp.ClientTimeout(total=API_TIMEOUT_S),
            trust_env=False,
        )

    async def issue(self, call_id: str, slot: Slot, now: float, expires_at: float) -> Grant:
        """Make credentials; BackendError (`turn_unavailable`) when the API does not."""
        ttl_s = max(MIN_TTL_S, min(MAX_TTL_S, int(expires_at - now)))
        status, body = await self._post("generate-ice-servers", {"ttl": ttl_s})
        if status not in (200, 201) or body is None:
            logger.warning("the TURN API answered %s", status)
            raise BackendError("the TURN API refused", code="turn_unavailable", status=502)
        try:
            servers = parse_cloudflare(body)
        except MessageError:
            raise BackendError(
                "the TURN API's answer is out of shape", code="turn_unavailable", status=502
            ) from None
        return Grant(servers, now + ttl_s)

    async def revoke(self, grant: Grant) -> None:
        """Take the credentials back, best effort."""
        for username in dict.fromkeys(server.username for server in grant.ice_servers if server.username):
            # Only names that cannot change the path they are put into.
            if not username.isalnum():
                continue
            try:
                status, _ = await self._post(f"{username}/revoke", None)
            except BackendError:
                status = 0
            if status not in (200, 204):
                logger.debug("a TURN credential could not be revoked (%s)", status)

    async def close(self) -> None:
        """Close the connections to the API."""
        await self._session.close()

    async def _post(self, path: str, body: dict[str, object] | None) -> tuple[int, object]:
        try:
            async with self._session.post(
                f"{self._base}/{path}", json=body, headers=self._headers, allow_redirects=False
            ) as response:
                raw = bytearray()
                async for chunk in response.content.iter_chunked(8192):
                    raw += chunk
                    if len(raw) > MAX_ANSWER_BYTES:
                        raise BackendError("the TURN API's answer is too large", code="turn_unavailable")
                return response.status, _json(bytes(raw))
        except (aiohttp.ClientError, OSError, asyncio.TimeoutError):  # noqa: UP041 - aiohttp's own subclass
            raise BackendError(
                "the TURN API cannot be reached", code="turn_unavailable", status=502
            ) from None


def parse_cloudflare(body: object) -> tuple[IceServer, ...]:
    """Read `iceServers`, a list in the new answer and one object in the old; MessageError otherwise."""
    if not isinstance(body, dict):
        raise MessageError("must be an object")
    listed = cast("Mapping[str, object]", body).get("iceServers")
    entries = [listed] if isinstance(listed, dict) else listed
    if not isinstance(entries, list) or not 1 <= len(entries) <= 8:
        raise MessageError("iceServers must be a short list")
    servers = []
    for server in map(IceServer.parse, entries):
        urls = tuple(url for url in server.urls if BLOCKED_PORT not in f"{url}?")
        if urls:
            servers.append(IceServer(urls, server.username, server.credential))
    if not any(server.username for server in servers):
        raise MessageError("no TURN server among them")
    return tuple(servers)


def _json(raw: bytes) -> object:
    try:
        return cast("object", json.loads(raw))
    except (ValueError, RecursionError):
        return None
