"""STUN and TURN servers: their URLs, how to reach them, and which way worked last."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import field

from voicemeet_edge.choices import RelayProtocol
from voicemeet_edge.records import dataclass
from voicemeet_edge.secret import Secret

DEFAULT_PORT = 3478  # RFC 8656 §6 and RFC 8489 §8: STUN and TURN without TLS
DEFAULT_TLS_PORT = 5349  # the same sections, over TLS
BLOCKED_PORT = 53  # some providers list it; many networks hijack it, so it only costs time

_URL = re.compile(
    r"(?P<scheme>stuns?|turns?):(?:\[(?P<v6>[0-9A-Fa-f:.]{2,45})\]|(?P<host>[A-Za-z0-9._-]{1,253}))"
    r"(?::(?P<port>[0-9]{1,5}))?(?:\?transport=(?P<transport>udp|tcp))?"
)


@dataclass(frozen=True, slots=True)
class IceServer:
    """One entry of `ice_servers` as the backend hands it out."""

    urls: tuple[str, ...]
    username: str = ""
    credential: Secret = field(default_factory=lambda: Secret(""))


@dataclass(frozen=True, slots=True)
class IceUrl:
    """A parsed `stun:` or `turn:` URL (RFC 7064, RFC 7065)."""

    text: str
    relay: bool
    host: str
    port: int
    transport: RelayProtocol


def parse_ice_url(text: str) -> IceUrl | None:
    """Return the parsed URL, or None when we cannot use it (unknown scheme, bad port, DTLS to the server)."""
    match = _URL.fullmatch(text)
    if match is None:
        return None
    scheme = match["scheme"]
    secure = scheme.endswith("s")
    port = int(match["port"]) if match["port"] else DEFAULT_TLS_PORT if secure else DEFAULT_PORT
    if not 0 < port < 65536 or port == BLOCKED_PORT:
        return None
    if secure:
        transport = RelayProtocol.TLS
        if match["transport"] == "udp":
            return None
    else:
        transport = RelayProtocol.TCP if match["transport"] == "tcp" else RelayProtocol.UDP
    relay = scheme.startswith("turn")
    if not relay and transport is not RelayProtocol.UDP:
        return None
    return IceUrl(text, relay, match["v6"] or match["host"], port, transport)


class TurnMemory:
    """Which TURN URL worked last; the caller keeps it from call to call, in memory only."""

    def __init__(self, order: Sequence[RelayProtocol] = tuple(RelayProtocol)) -> None:
        """Take the protocols in the order they are tried; one that is not named is never tried."""
        self._order = tuple(order)
        self._best: str | None = None

    def remember(self, url: str) -> None:
        """Note that this URL gave an allocation."""
        self._best = url

    def forget(self, url: str) -> None:
        """Note that this URL failed."""
        if self._best == url:
            self._best = None

    def order(self, urls: Iterable[IceUrl]) -> list[IceUrl]:
        """Return the URLs to try: what worked last first, then protocol by protocol."""
        wanted = [url for url in urls if url.transport in self._order]
        return sorted(wanted, key=lambda url: (url.text != self._best, self._order.index(url.transport)))
