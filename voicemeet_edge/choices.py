"""Words of the settings that other parts act on; on the ground floor, so checking them loads nothing."""

from __future__ import annotations

from enum import StrEnum


class IcePolicy(StrEnum):
    """What of our addresses the other party may learn."""

    RELAY = "relay"
    """Nothing but the relay's address; only the TURN server is ever contacted."""
    MDNS = "mdns"
    """Host candidates as random `.local` names, no server-reflexive ones."""
    DIRECT = "direct"
    """Everything ICE can use."""


class RelayProtocol(StrEnum):
    """How a client speaks to a TURN server (W3C relayProtocol), cheapest first."""

    UDP = "udp"
    TCP = "tcp"
    TLS = "tls"


class LampKind(StrEnum):
    """What a panel lights up with."""

    ONE = "one"
    """One lamp for everything."""
    TWO = "two"
    """A red lamp for the open microphone alone, a second one for everything else."""
    RGB = "rgb"
    """One lamp of three colours."""


class Language(StrEnum):
    """What page and device speak; each has its file in `languages/`."""

    EN = "en"
    DE = "de"
    FR = "fr"
    ES = "es"
    IT = "it"
