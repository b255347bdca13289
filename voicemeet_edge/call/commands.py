"""What the pure core of a call answers with: orders for the adapters, and news for the call machine.

One rule: whatever happens in a call reaches the machine as one of its own events (`Tell`); there is no
other vocabulary in between.
"""

from __future__ import annotations

from voicemeet_edge.backend.ice_server import IceServer
from voicemeet_edge.call.door_lock import Unlock
from voicemeet_edge.call.machine import Event
from voicemeet_edge.reasons import EndReason
from voicemeet_edge.records import dataclass
from voicemeet_edge.secret import Secret


@dataclass(frozen=True, slots=True)
class Tell:
    """Tell the call machine this; `reason` counts with PEER_BYE and FAILED."""

    event: Event
    reason: EndReason = EndReason.FAILED


@dataclass(frozen=True, slots=True)
class Publish:
    """Put this on the call's channel, sealed already; what is published first must go first."""

    event: str
    payload: dict[str, object]


@dataclass(frozen=True, slots=True)
class Prepare:
    """Look for addresses for the connection of this attempt, whose offer is on its way."""

    attempt: int


@dataclass(frozen=True, slots=True)
class MakeOffer:
    """Build the connection of this attempt and its offer; then tell `described`."""

    attempt: int


@dataclass(frozen=True, slots=True)
class MakeAnswer:
    """Build the connection of this attempt from the peer's offer; then tell `described`."""

    sdp: str
    attempt: int


@dataclass(frozen=True, slots=True)
class TakeAnswer:
    """Give the peer's answer to the connection of this attempt."""

    sdp: str
    attempt: int


@dataclass(frozen=True, slots=True)
class TakeCandidate:
    """Give a trickled candidate (None: there are no more) to the connection of this attempt."""

    candidate: str | None
    mid: str | None
    attempt: int


@dataclass(frozen=True, slots=True)
class UseConnection:
    """Let the voice go through the connection of this attempt from now on, and close the one before it."""

    attempt: int


@dataclass(frozen=True, slots=True)
class DropConnection:
    """Close the connection of this attempt; nothing it still says counts."""

    attempt: int


@dataclass(frozen=True, slots=True)
class SendSilence:
    """Send one frame of silence over the connection in use: the peer must hear that we are there."""


@dataclass(frozen=True, slots=True)
class CheckNetwork:
    """Find out whether signaling is still alive: a new connection cannot be made without it."""


@dataclass(frozen=True, slots=True)
class Renew:
    """Ask the backend for a fresh token and relay credentials; then tell `renewed` or `renewal_failed`."""

    token: Secret


@dataclass(frozen=True, slots=True)
class UseGrant:
    """Use this token in the channel, and these servers for connections made from now on."""

    token: Secret
    ice_servers: tuple[IceServer, ...]


@dataclass(frozen=True, slots=True)
class WordsKnown:
    """The check words of this call; said once."""

    words: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class WordsMissing:
    """The voice flows and there are no check words: nobody can tell who sits in between; said once."""


@dataclass(frozen=True, slots=True)
class Leave:
    """Say this goodbye if there is one, free everything and be done; comes once and last."""

    bye: Publish | None
    talked_s: int
    """Whole seconds since voice could first flow; 0 when it never could."""


Command = (
    Tell
    | Unlock
    | Publish
    | Prepare
    | MakeOffer
    | MakeAnswer
    | TakeAnswer
    | TakeCandidate
    | UseConnection
    | DropConnection
    | SendSilence
    | CheckNetwork
    | Renew
    | UseGrant
    | WordsKnown
    | WordsMissing
    | Leave
)
