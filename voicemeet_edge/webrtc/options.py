"""What a peer is told and what it tells: options, events, figures. Values only; nothing here acts."""

from __future__ import annotations

import enum
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import assert_never

from voicemeet_edge.errors import MediaError
from voicemeet_edge.secret import Secret

DEFAULT_PORT = 3478  # RFC 8656 §6 and RFC 8489 §8: STUN and TURN without TLS
DEFAULT_TLS_PORT = 5349  # the same sections, over TLS
BLOCKED_PORT = 53  # some providers list it; many networks hijack it, so it only costs time

_URL = re.compile(
    r"(?P<scheme>stuns?|turns?):(?:\[(?P<v6>[0-9A-Fa-f:.]{2,45})\]|(?P<host>[A-Za-z0-9._-]{1,253}))"
    r"(?::(?P<port>[0-9]{1,5}))?(?:\?transport=(?P<transport>udp|tcp))?"
)


class IcePolicy(enum.Enum):
    """What of our addresses the other party may learn."""

    RELAY = "relay"
    """Nothing but the relay's address; only the TURN server is ever contacted."""
    MDNS = "mdns"
    """Host candidates as random `.local` names, no server-reflexive ones."""
    DIRECT = "direct"
    """Everything ICE can use."""


class IceTransport(enum.Enum):
    """The rungs of the TURN ladder, cheapest first."""

    UDP = 0
    TCP = 1
    TLS = 2


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
    transport: IceTransport


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
        transport = IceTransport.TLS
        if match["transport"] == "udp":
            return None
    else:
        transport = IceTransport.TCP if match["transport"] == "tcp" else IceTransport.UDP
    relay = scheme.startswith("turn")
    if not relay and transport is not IceTransport.UDP:
        return None
    return IceUrl(text, relay, match["v6"] or match["host"], port, transport)


class TurnMemory:
    """Which rung of the ladder worked last; the caller keeps it from call to call, in memory only."""

    def __init__(self, order: Sequence[IceTransport] = tuple(IceTransport)) -> None:
        """Take the rungs in the order they are tried; one that is not named is never tried."""
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
        """Return the URLs to try: what worked last first, then rung by rung."""
        wanted = [url for url in urls if url.transport in self._order]
        return sorted(wanted, key=lambda url: (url.text != self._best, self._order.index(url.transport)))


@dataclass(frozen=True, slots=True)
class PeerOptions:
    """Everything a `Peer` needs to know before it starts."""

    ice_servers: Sequence[IceServer] = ()
    policy: IcePolicy = IcePolicy.DIRECT
    addresses: Sequence[str] = ()
    """Bind exactly these addresses; empty: all usable ones, loopback only when there is nothing else."""
    interfaces: Sequence[str] = ()
    """Use only these network interfaces; empty: all."""
    ipv6: bool = True
    red: bool = False
    """Offer and take RFC 2198 redundancy; when to send it is the voice's decision (voice/sender.py)."""
    turn_memory: TurnMemory = field(default_factory=TurnMemory)
    turn_ca: str | None = None
    """PEM file of the authority that signed the TURN server's certificate; None: the system's."""
    connect_timeout_s: float = 15.0
    """From both descriptions known to encrypted path; after it the peer fails with `connect_timeout`."""


@dataclass(frozen=True, slots=True)
class Connected:
    """The path is there, encrypted and with the right peer."""

    ice_s: float
    dtls_s: float


@dataclass(frozen=True, slots=True)
class Failed:
    """The peer will not (or no longer) work; `error.code` says why."""

    error: MediaError


@dataclass(frozen=True, slots=True)
class Closed:
    """The other party closed the encrypted path."""


PeerEvent = Connected | Failed | Closed


@dataclass(frozen=True, slots=True)
class Fingerprints:
    """SHA-256 fingerprints of both DTLS certificates, for the check words."""

    ours: bytes
    theirs: bytes


@dataclass(frozen=True, slots=True)
class PeerStats:
    """Figures of one connection; counts since it began."""

    packets_sent: int = 0
    bytes_sent: int = 0
    """On the wire: RTP with SRTP, without UDP and IP headers."""
    packets_received: int = 0
    bytes_received: int = 0
    packets_dropped: int = 0
    """Datagrams from strangers, beyond a queue's bound, or failing authentication."""
    loss_there: float = 0.0
    """Fraction of our packets the peer says it missed in its last report, 0..1."""
    loss_reports: int = 0
    """How many such reports have come."""
    loss_here: float = 0.0
    """Fraction of the peer's packets missing here over our last report, 0..1."""
    round_trip_s: float | None = None
    jitter_s: float = 0.0
    """Interarrival jitter of what we receive (RFC 3550 §6.4.1)."""
    local_kind: str = ""
    """`host`, `srflx`, `prflx` or `relay`; empty before the path is chosen."""
    remote_kind: str = ""
    last_rtp_at: float | None = None
    """Monotonic seconds of the last authenticated RTP packet."""
    srtp_profile: str = ""
    ice_s: float = 0.0
    dtls_s: float = 0.0


def policy_allows(policy: IcePolicy, kind: str, *, is_name: bool) -> bool:
    """Say whether a candidate of this kind may appear in a description we send."""
    match policy:
        case IcePolicy.RELAY:
            return kind == "relay"
        case IcePolicy.MDNS:
            return kind == "relay" or (kind == "host" and is_name)
        case IcePolicy.DIRECT:
            return True
        case _:
            assert_never(policy)
