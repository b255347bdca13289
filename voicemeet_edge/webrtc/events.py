"""What a peer tells of its path: connected once, then failed or closed once, and nothing after."""

from __future__ import annotations

from voicemeet_edge.errors import MediaError
from voicemeet_edge.records import dataclass


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
