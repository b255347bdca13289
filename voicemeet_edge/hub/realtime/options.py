"""The limits of the Realtime server and its counters.

Rule: every number that stops somebody stands here, with its unit and its reason.
"""

from __future__ import annotations

from voicemeet_edge.hub.limits import Rate
from voicemeet_edge.records import dataclass

FRAMES = Rate(per_s=100.0, burst=300.0)  # of any kind; a client at its busiest sends twenty a second
MESSAGES = Rate(per_s=50.0, burst=150.0)  # a call sends about ten in all
JOINS = Rate(per_s=10.0, burst=100.0)  # a rejoin of all channels of one socket must pass
PRESENCE = Rate(per_s=0.5, burst=10.0)  # hosted: 5 in 30 s
BYTES = Rate(per_s=65_536.0, burst=300_000.0)  # of frames from one socket; hosted: 100,000 for a tenant
ADDRESS_BYTES = Rate(per_s=131_072.0, burst=1_000_000.0)  # of frames from one address, of who has no pass
REST = Rate(per_s=20.0, burst=60.0)  # requests; only servers and pages without a socket use it


@dataclass(frozen=True, slots=True)
class RealtimeOptions:
    """What the server allows; the defaults suit a building of a few thousand devices."""

    allow_public: bool = False
    """Let anyone with the apikey open public topics; off, or the hub is a chat server for all."""
    idle_timeout_s: float = 60.0
    """Seconds without a frame until a socket is closed; clients send a heartbeat every 25 s."""
    sweep_s: float = 1.0
    """Seconds between looks at idle sockets and expired tokens; one task for all of them."""
    handshake_error_delay_s: float = 0.5
    """Seconds a refused handshake waits for its answer; slows guessing down."""
    join_error_delay_s: float = 0.5
    """Seconds a refused join waits for its answer (hosted: 5); the socket is not read meanwhile."""
    max_connections: int = 6_000
    """Sockets in all; 5,000 idle ones are the budget of one machine."""
    max_connections_per_address: int = 200
    """Sockets of one address; a whole building may stand behind one."""
    max_delayed_refusals: int = 100
    """Refused handshakes held back at once; beyond, they are answered without the delay."""
    max_channels: int = 100
    """Channels on one socket, as hosted."""
    max_payload_bytes: int = 200_000
    """Bytes of one broadcast; leaves room for its frame below the frame limit of 256 kB."""
    max_presence_bytes: int = 4_096
    """Bytes of one tracked object: it goes to every member again and again."""
    max_presences: int = 100
    """Tracked objects on one topic; the whole state goes into one frame."""
    max_queue: int = 256
    """Frames waiting for one slow reader, then it is dropped."""
    max_queue_bytes: int = 2_000_000
    """Bytes waiting for one slow reader, then it is dropped."""
    max_stranger_bytes: int = 8_192
    """Bytes of one frame before the socket has joined anything; a join with the longest token fits."""
    max_malformed: int = 20
    """Frames that are none, then the socket is closed."""
    bytes: Rate = BYTES
    """Bytes from one socket; beyond, the socket is closed."""
    address_bytes: Rate = ADDRESS_BYTES
    """Bytes from one address, of sockets that no pass stands behind; beyond, the socket is closed."""
    frames: Rate = FRAMES
    """Frames of any kind from one socket; beyond, the socket is closed."""
    messages: Rate = MESSAGES
    """Broadcasts from one socket; beyond, the channel is closed."""
    joins: Rate = JOINS
    """Joins from one socket; beyond, the socket is closed."""
    presence: Rate = PRESENCE
    """Presence calls from one socket; beyond, the channel is closed."""
    rest: Rate = REST
    """REST broadcasts from one address."""


@dataclass(slots=True)
class RealtimeCounters:
    """What happened since the start; numbers only, nothing that identifies anyone."""

    accepted: int = 0
    refused_handshakes: int = 0
    refused_joins: int = 0
    frames: int = 0
    malformed: int = 0
    delivered: int = 0
    """Broadcasts, each receiver counted."""
    refused_writes: int = 0
    too_fast: int = 0
    dropped_slow: int = 0
    dropped_idle: int = 0
    expired: int = 0
    replaced: int = 0


@dataclass(frozen=True, slots=True)
class RealtimeStats:
    """A moment's picture of the server."""

    connections: int
    channels: int
    topics: int
    counters: dict[str, int]
