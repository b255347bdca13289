"""What a peer is told before it starts, and the figures it keeps. Values only; nothing here acts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import field

from voicemeet_edge.choices import IcePolicy
from voicemeet_edge.records import dataclass
from voicemeet_edge.voice.control import LineMemory
from voicemeet_edge.webrtc.ice_server import IceServer, TurnMemory


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
    line_memory: LineMemory = field(default_factory=LineMemory)
    turn_ca: str | None = None
    """PEM file of the authority that signed the TURN server's certificate; None: the system's."""
    connect_timeout_s: float = 15.0
    """From both descriptions known to encrypted path; after it the peer fails with `connect_timeout`."""


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
    remote_loss: float = 0.0
    """Fraction of our packets the peer says it missed in its last report, 0..1."""
    loss_reports: int = 0
    """How many such reports have come."""
    local_loss: float = 0.0
    """Fraction of the peer's packets missing here over our last report, 0..1."""
    round_trip_s: float | None = None
    jitter_s: float = 0.0
    """Interarrival jitter of what we receive (RFC 3550 §6.4.1)."""
    send_kbit_s: float = 0.0
    """What our voice takes on the wire now, IP and all."""
    rung: int = 0
    """Where on the ladder of voice/ladder.py that is."""
    queue_s: float = 0.0
    """How long our packets wait somewhere on their way."""
    carries_kbit_s: float | None = None
    """What our line was found to carry; None while nothing stopped us."""
    local_kind: str = ""
    """`host`, `srflx`, `prflx` or `relay`; empty before the path is chosen."""
    remote_kind: str = ""
    last_rtp_at: float | None = None
    """Monotonic seconds of the last authenticated RTP packet."""
    srtp_profile: str = ""
    ice_s: float = 0.0
    dtls_s: float = 0.0
