"""The messages two ends of a call exchange, contract version 1, and the inbox that guards them.

Rule: outside this file a message is a dataclass; no dict that came from the wire gets further.

Every payload has `v` (1), `slot` ("a" or "b", the sender) and `seq` (from 1, strictly increasing
per sender). Unknown keys are ignored, so that version 1 can grow; wrong ones are refused.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, assert_never

from voicemeet_edge.errors import MessageError

VERSION = 1
MAX_SEQ = 2**32 - 1  # fits the nonce of the sealing layer
MAX_SDP_BYTES = 16_384  # bytes; an audio-only description with 20 candidates has 3 kB
MAX_CANDIDATE_CHARS = 1_024  # characters; RFC 8839 lines have about 150
MAX_MID_CHARS = 64  # characters
MAX_WORD_CHARS = 64  # characters of a reason or capability
MAX_CAPS = 16  # capabilities in one hello
MAX_HEX_CHARS = 128  # characters; 64 bytes, the longest hash in use
MAX_ATTEMPT = 10_000  # media restarts; one a second for the longest call
REORDER_WINDOW = 16  # messages; a call sends about ten, so a later stray is a replay
MAX_JUMP = 1_024  # messages; one forged huge number must not lock the true sender out

Slot = Literal["a", "b"]

_WORD = re.compile(r"[a-z][a-z0-9_]*", re.ASCII)
_HEX = re.compile(r"(?:[0-9a-f]{2})+", re.ASCII)


@dataclass(frozen=True, slots=True)
class _Common:
    slot: Slot
    seq: int


@dataclass(frozen=True, slots=True)
class Hello(_Common):
    """I am here; `reply` asks for a hello back. Carries one half of the check words' exchange."""

    reply: bool = False
    caps: tuple[str, ...] = ()
    nonce: str = ""
    """Hex; slot b's, said only after slot a's commitment was heard."""
    commitment: str = ""
    """Hex; binds the sender to its nonce and its certificate (call/words.py)."""


@dataclass(frozen=True, slots=True)
class Reveal(_Common):
    """The nonce slot a has committed to, hex."""

    nonce: str


@dataclass(frozen=True, slots=True)
class Offer(_Common):
    """A session description; `attempt` is 0 at first and n for the n-th media restart."""

    sdp: str
    attempt: int = 0


@dataclass(frozen=True, slots=True)
class Answer(_Common):
    """The description that answers the offer of the same attempt."""

    sdp: str
    attempt: int = 0


@dataclass(frozen=True, slots=True)
class Candidate(_Common):
    """A trickled ICE candidate; None says that there are no more."""

    candidate: str | None
    mid: str | None = None
    attempt: int = 0


@dataclass(frozen=True, slots=True)
class Restart(_Common):
    """The answering end has lost the path and asks the offerer for the offer of this attempt."""

    attempt: int


@dataclass(frozen=True, slots=True)
class Ring(_Common):
    """The other end rings for real."""


@dataclass(frozen=True, slots=True)
class Accept(_Common):
    """A person has taken the call."""


@dataclass(frozen=True, slots=True)
class Bye(_Common):
    """The call is over; `reason` is a snake_case word."""

    reason: str = "hangup"


Message = Hello | Reveal | Offer | Answer | Candidate | Restart | Ring | Accept | Bye


def serialize(message: Message) -> tuple[str, dict[str, object]]:
    """Return the event name and the payload of a message."""
    payload: dict[str, object] = {"v": VERSION, "slot": message.slot, "seq": message.seq}
    match message:
        case Hello():
            event = "hello"
            payload |= {"reply": message.reply, "caps": list(message.caps)}
            payload |= {"nonce": message.nonce} if message.nonce else {}
            payload |= {"commitment": message.commitment} if message.commitment else {}
        case Reveal():
            event = "reveal"
            payload["nonce"] = message.nonce
        case Offer():
            event = "offer"
            payload |= {"sdp": message.sdp, "attempt": message.attempt}
        case Answer():
            event = "answer"
            payload |= {"sdp": message.sdp, "attempt": message.attempt}
        case Candidate():
            event = "candidate"
            payload |= {"candidate": message.candidate, "mid": message.mid, "attempt": message.attempt}
        case Restart():
            event = "restart"
            payload["attempt"] = message.attempt
        case Ring():
            event = "ring"
        case Accept():
            event = "accept"
        case Bye():
            event = "bye"
            payload["reason"] = message.reason
        case _:
            assert_never(message)
    return event, payload


def parse(event: str, payload: object) -> Message:
    """Read a message.

    Raises:
        MessageError: unknown event, wrong version, or a field missing, of wrong type or too large.
    """
    if not isinstance(payload, dict):
        raise MessageError("payload is not an object")
    reader = _READERS.get(event)
    if reader is None:
        raise MessageError("unknown event", code="unknown_event")
    version = payload.get("v")
    if type(version) is not int or version != VERSION:
        raise MessageError("not contract version 1", code="bad_version")
    fields: dict[str, object] = payload
    slot = fields.get("slot")
    if slot != "a" and slot != "b":
        raise MessageError("slot is neither a nor b")
    return reader(slot, _integer(fields, "seq", 1, MAX_SEQ), fields)


_Reader = Callable[[Slot, int, dict[str, object]], Message]


def _hello(slot: Slot, seq: int, fields: dict[str, object]) -> Message:
    reply = fields.get("reply", False)
    caps = fields.get("caps", [])
    if not isinstance(reply, bool):
        raise MessageError("reply is not a boolean")
    if not isinstance(caps, list) or len(caps) > MAX_CAPS:
        raise MessageError("caps is not a short list")
    words = tuple(_is_word(word, "caps") for word in caps)
    return Hello(slot, seq, reply, words, _hex(fields, "nonce", ""), _hex(fields, "commitment", ""))


def _reveal(slot: Slot, seq: int, fields: dict[str, object]) -> Message:
    return Reveal(slot, seq, _hex(fields, "nonce", None))


def _offer(slot: Slot, seq: int, fields: dict[str, object]) -> Message:
    return Offer(slot, seq, _sdp(fields), _attempt(fields))


def _answer(slot: Slot, seq: int, fields: dict[str, object]) -> Message:
    return Answer(slot, seq, _sdp(fields), _attempt(fields))


def _candidate(slot: Slot, seq: int, fields: dict[str, object]) -> Message:
    if "candidate" not in fields:
        raise MessageError("candidate is missing")
    candidate = _optional_text(fields, "candidate", MAX_CANDIDATE_CHARS)
    return Candidate(slot, seq, candidate, _optional_text(fields, "mid", MAX_MID_CHARS), _attempt(fields))


def _restart(slot: Slot, seq: int, fields: dict[str, object]) -> Message:
    return Restart(slot, seq, _integer(fields, "attempt", 1, MAX_ATTEMPT))


def _ring(slot: Slot, seq: int, fields: dict[str, object]) -> Message:
    return Ring(slot, seq)


def _accept(slot: Slot, seq: int, fields: dict[str, object]) -> Message:
    return Accept(slot, seq)


def _bye(slot: Slot, seq: int, fields: dict[str, object]) -> Message:
    return Bye(slot, seq, _is_word(fields.get("reason"), "reason"))


_READERS: dict[str, _Reader] = {
    "hello": _hello,
    "reveal": _reveal,
    "offer": _offer,
    "answer": _answer,
    "candidate": _candidate,
    "restart": _restart,
    "ring": _ring,
    "accept": _accept,
    "bye": _bye,
}

EVENTS = frozenset(_READERS)
"""Every event name of contract version 1."""


def _integer(fields: dict[str, object], key: str, low: int, high: int) -> int:
    value = fields.get(key)
    if type(value) is not int or not low <= value <= high:  # type(): a bool is an int to isinstance
        raise MessageError(f"{key} is not an integer in range")
    return value


def _attempt(fields: dict[str, object]) -> int:
    return _integer(fields, "attempt", 0, MAX_ATTEMPT) if "attempt" in fields else 0


def _sdp(fields: dict[str, object]) -> str:
    value = fields.get("sdp")
    if not isinstance(value, str) or not value:
        raise MessageError("sdp is not a text")
    if len(value.encode(errors="replace")) > MAX_SDP_BYTES:
        raise MessageError("sdp too large", code="too_large")
    return _unicode(value, "sdp")


def _optional_text(fields: dict[str, object], key: str, limit: int) -> str | None:
    value = fields.get(key)
    if value is None:
        return None
    if not isinstance(value, str) or len(value) > limit:
        raise MessageError(f"{key} is not a short text")
    return _unicode(value, key)


def _unicode(value: str, key: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError:  # a lone surrogate: nothing behind us could write it anywhere
        raise MessageError(f"{key} is not Unicode text") from None
    return value


def _is_word(value: object, key: str) -> str:
    if not isinstance(value, str) or len(value) > MAX_WORD_CHARS or not _WORD.fullmatch(value):
        raise MessageError(f"{key} is not a snake_case word")
    return value


def _hex(fields: dict[str, object], key: str, default: str | None) -> str:
    value = fields.get(key, default)
    if value == "" and default == "":
        return ""
    if not isinstance(value, str) or len(value) > MAX_HEX_CHARS or not _HEX.fullmatch(value):
        raise MessageError(f"{key} is not hex")
    return value


@dataclass(slots=True)
class InboxCounters:
    """What the inbox decided, one count per kind."""

    accepted: int = 0
    reflected: int = 0
    """Carried our own slot: somebody sent our words back to us."""
    replayed: int = 0
    """A sequence number that was already taken."""
    stale: int = 0
    """Older than the window for reordering."""
    jumped: int = 0
    """Further ahead than any sender gets."""


@dataclass(slots=True)
class Inbox:
    """Let each message of the other slot pass once, in any order within a small window."""

    slot: Slot
    """Our own; only the other one's messages are taken."""
    counters: InboxCounters = field(default_factory=InboxCounters)
    _highest: int = 0
    _seen: int = 0  # bit n set: _highest - n was taken

    def accept(self, message: Message) -> bool:
        """Say whether to handle this message; a refusal is counted and changes nothing else."""
        if message.slot == self.slot:
            self.counters.reflected += 1
            return False
        ahead = message.seq - self._highest
        if ahead > MAX_JUMP:
            self.counters.jumped += 1
            return False
        if ahead > 0:
            self._seen = ((self._seen << ahead) | 1) & ((1 << REORDER_WINDOW) - 1)
            self._highest = message.seq
        elif -ahead >= REORDER_WINDOW:
            self.counters.stale += 1
            return False
        elif self._seen & (1 << -ahead):
            self.counters.replayed += 1
            return False
        else:
            self._seen |= 1 << -ahead
        self.counters.accepted += 1
        return True
