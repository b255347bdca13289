"""Why calls end: every word there is, sorted once by what it means to the person.

One rule: a word that came over the wire is read with `EndReason.of`, so that nothing outside this list
gets to the call machine, into a `bye` of ours or onto a page.

Only the codes that can end a call stand here; the other codes of errors.py are for logs. The desk page has
the same list in `hub/desk/reasons.js`, written by `python -m voicemeet_edge.reasons FILE`.
"""

from __future__ import annotations

import sys
from enum import Enum, StrEnum
from pathlib import Path
from typing import Self


class ReasonKind(Enum):
    """What an end means to whoever hears it; the value is the word the desk page uses."""

    QUIET = "quiet"  # the person did it and needs no telling
    CALM = "calm"  # as calls end
    BUSY = "busy"  # nobody is there just now; no fault of the device
    DISTRUST = "distrust"  # somebody may sit in the middle: a lamp and a tone of its own
    FAILED = "failed"  # it did not work


_QUIET, _CALM, _BUSY = ReasonKind.QUIET, ReasonKind.CALM, ReasonKind.BUSY
_DISTRUST, _FAILED = ReasonKind.DISTRUST, ReasonKind.FAILED


class EndReason(StrEnum):
    """Why a call ended; the value travels in `bye` and stands in logs."""

    kind: ReasonKind

    def __new__(cls, word: str, kind: ReasonKind) -> Self:
        """Make a member from its word and its kind."""
        member = str.__new__(cls, word)
        member._value_ = word
        member.kind = kind
        return member

    @classmethod
    def of(cls, word: str) -> EndReason:
        """Read a word from outside; one that nobody here knows means that it did not work."""
        try:
            return cls(word)  # type: ignore[call-arg]  # the look-up, not a new member
        except ValueError:
            return cls.FAILED

    @property
    def said(self) -> EndReason:
        """What the other side is told instead: whoever is reported must not learn it from us."""
        return EndReason.HUNG_UP if self is EndReason.REPORTED else self

    CANCELLED = "cancelled", _QUIET

    HUNG_UP = "hung_up", _CALM
    PEER_HUNG_UP = "peer_hung_up", _CALM
    REPORTED = "reported", _CALM
    SHUTDOWN = "shutdown", _CALM
    ANSWERED_ELSEWHERE = "answered_elsewhere", _CALM  # another desk was first
    TIME_LIMIT = "time_limit", _CALM

    NOBODY = "nobody", _BUSY
    NO_ANSWER = "no_answer", _BUSY
    DECLINED = "declined", _BUSY
    AWAY = "away", _BUSY  # desks are on duty, and none takes calls now
    BUSY = "busy", _BUSY
    POOL_FULL = "pool_full", _BUSY
    TOO_FAST = "too_fast", _BUSY
    TOO_MANY_CALLS = "too_many_calls", _BUSY
    REFUSED_RISK = "refused_risk", _BUSY

    # Another certificate than the one that was promised, or none that could be checked.
    FINGERPRINT_MISMATCH = "fingerprint_mismatch", _DISTRUST
    FINGERPRINT_CHANGED = "fingerprint_changed", _DISTRUST
    CERTIFICATE_REFUSED = "certificate_refused", _DISTRUST
    NO_FINGERPRINT = "no_fingerprint", _DISTRUST
    BAD_FINGERPRINT = "bad_fingerprint", _DISTRUST
    NO_ENCRYPTION = "no_encryption", _DISTRUST
    NO_SRTP_PROFILE = "no_srtp_profile", _DISTRUST
    # One side has an intercom key, the other has none or another one.
    PEER_NOT_SEALED = "peer_not_sealed", _DISTRUST
    PEER_SEALED = "peer_sealed", _DISTRUST
    WRONG_KEY = "wrong_key", _DISTRUST
    # The exchange for the check words did not go as it must.
    BAD_COMMITMENT = "bad_commitment", _DISTRUST
    WORDS_CHANGED = "words_changed", _DISTRUST
    WORDS_ORDER = "words_order", _DISTRUST
    WORDS_MISSING = "words_missing", _DISTRUST

    FAILED = "failed", _FAILED
    INTERNAL = "internal", _FAILED
    # The two sides did not come together, or not back.
    PEER_ABSENT = "peer_absent", _FAILED
    CONNECT_TIMEOUT = "connect_timeout", _FAILED
    ICE_FAILED = "ice_failed", _FAILED
    DTLS_FAILED = "dtls_failed", _FAILED
    PEER_CLOSED = "peer_closed", _FAILED
    PATH_LOST = "path_lost", _FAILED
    NO_NETWORK = "no_network", _FAILED
    SIGNALING_REFUSED = "signaling_refused", _FAILED
    # The relay.
    NO_RELAY = "no_relay", _FAILED
    TURN_UNREACHABLE = "turn_unreachable", _FAILED
    TURN_UNAUTHORIZED = "turn_unauthorized", _FAILED
    TURN_QUOTA = "turn_quota", _FAILED
    TURN_REFUSED = "turn_refused", _FAILED
    # The other side's description or message is not one we take.
    BAD_MESSAGE = "bad_message", _FAILED
    BAD_SDP = "bad_sdp", _FAILED
    SDP_TOO_LARGE = "sdp_too_large", _FAILED
    BAD_MEDIA_LINE = "bad_media_line", _FAILED
    SEVERAL_MEDIA = "several_media", _FAILED
    NO_AUDIO = "no_audio", _FAILED
    NO_OPUS = "no_opus", _FAILED
    NO_RTCP_MUX = "no_rtcp_mux", _FAILED
    NO_ICE = "no_ice", _FAILED
    NO_SETUP = "no_setup", _FAILED
    BAD_CANDIDATE = "bad_candidate", _FAILED
    UNEXPECTED_OFFER = "unexpected_offer", _FAILED
    UNEXPECTED_ANSWER = "unexpected_answer", _FAILED
    # The sound of either side.
    SOUND_UNUSABLE = "sound_unusable", _FAILED
    MICROPHONE_LOST = "microphone_lost", _FAILED
    MICROPHONE_REFUSED = "microphone_refused", _FAILED
    TAMPERED = "tampered", _FAILED  # the box was opened
    # The backend refuses this device, and asking again would not help (docs/contract.md, Errors).
    BAD_REQUEST = "bad_request", _FAILED
    BAD_APIKEY = "bad_apikey", _FAILED
    BAD_TOKEN = "bad_token", _FAILED
    PASS_NEEDED = "pass_needed", _FAILED
    PASS_REFUSED = "pass_refused", _FAILED
    PROOF_NEEDED = "proof_needed", _FAILED
    PROOF_REFUSED = "proof_refused", _FAILED
    UNKNOWN_POOL = "unknown_pool", _FAILED
    TICKET_TAKEN = "ticket_taken", _FAILED
    WRONG_HOST = "wrong_host", _FAILED
    DOOR_AWAY = "door_away", _FAILED


def javascript() -> str:
    """The list as the desk page imports it."""
    lines = [
        "// Why calls end, and what each end means: written by python -m voicemeet_edge.reasons.",
        "",
        "/** reason: quiet, calm, busy, distrust or failed. A word that is not here means failed. */",
        "export const KINDS = {",
        *(f"  {reason.value}: '{reason.kind.value}'," for reason in EndReason),
        "};",
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(javascript())
