"""The messages two ends of a call exchange, contract version 1, and the filter that guards them.

Rule: outside this file a message is a dataclass; no dict that came from the wire gets further.

Every payload has `v` (1), `slot` ("a" or "b", the sender) and `seq` (from 1, strictly increasing
per sender). Unknown keys are ignored, so that version 1 can grow; wrong ones are refused.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from enum import StrEnum
from typing import Literal, assert_never

from voicemeet_edge.errors import MessageError
from voicemeet_edge.records import dataclass
from voicemeet_edge.signaling.replay import Freshness, ReplayFilter

VERSION = 1
MAX_SEQ = 2**32 - 1  # fits the nonce of the sealing layer
MAX_SDP_BYTES = 16_384  # bytes; an audio-only description with 20 candidates has 3 kB
MAX_CANDIDATE_CHARS = 1_024  # characters; RFC 8839 lines have about 150
MAX_MID_CHARS = 64  # characters
MAX_WORD_CHARS = 64  # characters of a reason or capability
MAX_NAME_CHARS = 64  # characters of a door's name
MAX_OPEN_S = 60  # s a door says it is open; panels hold it 30 at most
MAX_HEX_CHARS = 128  # characters; 64 bytes, the longest hash in use
MAX_ATTEMPT = 10_000  # media restarts; one a second for the longest call
MIN_BITRATE, MAX_BITRATE = 6_000, 510_000  # bit/s; what Opus knows (RFC 6716 §2)
PACKET_MS = (20, 40, 60)  # ms of sound in a packet that every browser can be asked for
REORDER_WINDOW = 16  # messages; a call sends about ten, so a later stray is a replay
MAX_JUMP = 1_024  # messages; one forged huge number must not lock the true sender out

Slot = Literal["a", "b"]

_WORD = re.compile(r"[a-z][a-z0-9_]*", re.ASCII)
_HEX = re.compile(r"(?:[0-9a-f]{2})+", re.ASCII)
_RANDOM = re.compile(r"[0-9a-f]{32}", re.ASCII)


@dataclass(frozen=True, slots=True)
class _Common:
    slot: Slot
    seq: int


@dataclass(frozen=True, slots=True)
class Hello(_Common):
    """I am here; `reply` asks for a hello back. Carries one half of the check words' exchange."""

    reply: bool = False
    nonce: str = ""
    """Hex; slot b's, said only after slot a's commitment was heard."""
    commitment: str = ""
    """Hex; binds the sender to its nonce and its certificate (call/words.py)."""
    name: str = ""
    """What a door calls itself."""
    announce: bool = False
    """A desk's: the door plays what comes and opens no microphone. The first hello decides."""


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
class Line(_Common):
    """What your packets' line carries, as seen where they arrive: send no more than this."""

    bitrate: int
    """bit/s of Opus."""
    packet_ms: int
    """Sound in one packet: 20, 40 or 60."""


@dataclass(frozen=True, slots=True)
class Ring(_Common):
    """The other end rings for real."""


@dataclass(frozen=True, slots=True)
class Accept(_Common):
    """A person has taken the call."""


@dataclass(frozen=True, slots=True)
class Open(_Common):
    """Desk to door: open. At first without a challenge; the door gives one, and then it counts."""

    request: str
    challenge: str = ""


class DoorState(StrEnum):
    """What a door says of itself."""

    READY = "ready"  # it may be opened in this call
    CHALLENGE = "challenge"
    OPEN = "open"
    CLOSED = "closed"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Door(_Common):
    """Door to desk: what became of it."""

    state: DoorState
    request: str = ""
    challenge: str = ""
    seconds: float = 0.0
    """How long it stays open."""
    reason: str = ""
    """Why it does not open; a snake_case word."""


@dataclass(frozen=True, slots=True)
class Bye(_Common):
    """The call is over; `reason` is a snake_case word. No default: whoever ends a call knows why."""

    reason: str


Message = Hello | Reveal | Offer | Answer | Candidate | Restart | Line | Ring | Accept | Open | Door | Bye


def serialize(message: Message) -> tuple[str, dict[str, object]]:
    """Return the event name and the payload of a message."""
    payload: dict[str, object] = {"v": VERSION, "slot": message.slot, "seq": message.seq}
    match message:
        case Hello():
            event = "hello"
            payload["reply"] = message.reply
            payload |= {"nonce": message.nonce} if message.nonce else {}
            payload |= {"commitment": message.commitment} if message.commitment else {}
            payload |= {"name": message.name} if message.name else {}
            payload |= {"announce": True} if message.announce else {}
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
        case Line():
            event = "line"
            payload |= {"bitrate": message.bitrate, "packet_ms": message.packet_ms}
        case Ring():
            event = "ring"
        case Accept():
            event = "accept"
        case Open():
            event = "open"
            payload["request"] = message.request
            payload |= {"challenge": message.challenge} if message.challenge else {}
        case Door():
            event = "door"
            payload["state"] = message.state.value
            payload |= {"request": message.request} if message.request else {}
            payload |= {"challenge": message.challenge} if message.challenge else {}
            payload |= {"seconds": message.seconds} if message.seconds else {}
            payload |= {"reason": message.reason} if message.reason else {}
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
    reply, announce = fields.get("reply", False), fields.get("announce", False)
    if not isinstance(reply, bool) or not isinstance(announce, bool):
        raise MessageError("reply or announce is not a boolean")
    name = _optional_text(fields, "name", MAX_NAME_CHARS) or ""
    if not name.isprintable():
        raise MessageError("name has a character nobody can read")
    return Hello(slot, seq, reply, _hex(fields, "nonce", ""), _hex(fields, "commitment", ""), name, announce)


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


def _line(slot: Slot, seq: int, fields: dict[str, object]) -> Message:
    packet_ms = _integer(fields, "packet_ms", 20, 60)
    if packet_ms not in PACKET_MS:
        raise MessageError("packet_ms is none of 20, 40, 60")
    return Line(slot, seq, _integer(fields, "bitrate", MIN_BITRATE, MAX_BITRATE), packet_ms)


def _ring(slot: Slot, seq: int, fields: dict[str, object]) -> Message:
    return Ring(slot, seq)


def _accept(slot: Slot, seq: int, fields: dict[str, object]) -> Message:
    return Accept(slot, seq)


def _open(slot: Slot, seq: int, fields: dict[str, object]) -> Message:
    return Open(slot, seq, _random(fields, "request"), _random(fields, "challenge", is_needed=False))


def _door(slot: Slot, seq: int, fields: dict[str, object]) -> Message:
    state = fields.get("state")
    if not isinstance(state, str) or state not in _DOOR_STATES:
        raise MessageError("state is none of a door's")
    seconds = fields.get("seconds", 0)
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 <= seconds <= MAX_OPEN_S:
        raise MessageError("seconds is not a number in range")
    reason = fields.get("reason")
    return Door(
        slot,
        seq,
        DoorState(state),
        _random(fields, "request", is_needed=False),
        _random(fields, "challenge", is_needed=False),
        float(seconds),
        "" if reason is None else _is_word(reason, "reason"),
    )


def _bye(slot: Slot, seq: int, fields: dict[str, object]) -> Message:
    return Bye(slot, seq, _is_word(fields.get("reason"), "reason"))


_READERS: dict[str, _Reader] = {
    "hello": _hello,
    "reveal": _reveal,
    "offer": _offer,
    "answer": _answer,
    "candidate": _candidate,
    "restart": _restart,
    "line": _line,
    "ring": _ring,
    "accept": _accept,
    "open": _open,
    "door": _door,
    "bye": _bye,
}

"""Every event name of contract version 1."""


_DOOR_STATES = frozenset(state.value for state in DoorState)


def _random(fields: dict[str, object], key: str, *, is_needed: bool = True) -> str:
    """Read 16 random bytes, hex."""
    value = fields.get(key)
    if value is None and not is_needed:
        return ""
    if not isinstance(value, str) or not _RANDOM.fullmatch(value):
        raise MessageError(f"{key} is not 32 hex digits")
    return value


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
class FilterCounters:
    """What the filter decided, one count per kind."""

    accepted: int = 0
    reflected: int = 0
    """Carried our own slot: somebody sent our words back to us."""
    replayed: int = 0
    """A sequence number that was already taken."""
    stale: int = 0
    """Older than the window for reordering."""
    jumped: int = 0
    """Further ahead than any sender gets."""


class MessageFilter:
    """Let each message of the other slot pass once, in any order within a small window."""

    def __init__(self, slot: Slot) -> None:
        """Take our own slot: only the other one's messages pass."""
        self.counters = FilterCounters()
        self._slot = slot
        self._replays = ReplayFilter(REORDER_WINDOW)

    def accept(self, message: Message) -> bool:
        """Say whether to handle this message; a refusal is counted and changes nothing else."""
        counters = self.counters
        if message.slot == self._slot:
            counters.reflected += 1
            return False
        if message.seq - self._replays.newest > MAX_JUMP:
            counters.jumped += 1
            return False
        match self._replays.check(message.seq):
            case Freshness.STALE:
                counters.stale += 1
                return False
            case Freshness.REPLAYED:
                counters.replayed += 1
                return False
            case Freshness.NEW:
                self._replays.take(message.seq)
                counters.accepted += 1
                return True
