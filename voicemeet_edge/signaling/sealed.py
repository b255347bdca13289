"""Sealed signaling: what carries the messages can neither read nor change them.

One rule: nothing a peer or a server sends gets past `open` unless it was sealed by somebody who holds
one of our intercom keys, for this call, in this direction, under this event name, and never before.

The envelope (docs/sealed.md has it field by field, with test vectors) is a JSON object
`{v, slot, seq, f, k, sealed}`. The direction's key is HKDF-SHA-256 (RFC 5869) of the intercom key, salted
with the call id and the freshness of both ends; the seal is AES-256-GCM (RFC 5116). An end without a key
uses `NoSeal`, which refuses sealed peers, so that neither side ever falls back in silence.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import field
from enum import StrEnum
from typing import Final, Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from voicemeet_edge.errors import LocalError, SealError
from voicemeet_edge.records import dataclass
from voicemeet_edge.signaling.replay import Freshness, ReplayFilter

VERSION: Final = 1  # of the wire contract; also inside every derived key
KEY_BYTES: Final = 32  # bytes; AES-256, and what `voicemeet-edge keygen` makes
KEY_ID_BYTES: Final = 6  # bytes; enough to tell two keys apart, and only valid within one call
FRESH_BYTES: Final = 16  # bytes; random, of each end for each call: keys never come again
FRESH_CHARS: Final = 22  # characters; those in base64url
MAX_HEARD: Final = 16  # freshnesses of the peer we bear; an honest one has one
KNOCKS: Final = ("hello", "bye")  # what may be said before the other's freshness is known
PREFIX_BYTES: Final = 4  # bytes; random part of the nonce, so that a restarted end never repeats one
SEQ_BYTES: Final = 8  # bytes; the rest of the 96-bit nonce
TAG_BYTES: Final = 16  # bytes; AES-GCM's tag
LENGTH_BYTES: Final = 4  # bytes; length of the message, before it, inside the seal
SMALL_BYTES: Final = 1024  # bytes; every message without a session description has this one size
STEP_BYTES: Final = 4096  # bytes; the larger ones grow in these steps, so candidates cannot be counted
MAX_PLAIN_BYTES: Final = 6 * STEP_BYTES  # bytes; 16 kB of SDP with its JSON escapes fits
MAX_SEALED_CHARS: Final = (PREFIX_BYTES + MAX_PLAIN_BYTES + TAG_BYTES) * 4 // 3 + 4  # characters; base64url
MAX_SEQ: Final = 2**53 - 1  # JavaScript counts no further
WINDOW: Final = 64  # messages; how far one may arrive after its successors
MAX_KEYS: Final = 2  # keys; one in use and one coming or going

_SLOTS: Final = {"a": "a>b", "b": "b>a"}  # sender's slot: direction


class Refusal(StrEnum):
    """Why a payload was not opened; the value is the `code` of the SealError."""

    PEER_NOT_SEALED = "peer_not_sealed"  # we hold a key and the peer speaks openly
    PEER_SEALED = "peer_sealed"  # the peer holds a key and we do not
    WRONG_KEY = "wrong_key"  # sealed with a key we do not have, or for another call
    REFLECTION = "reflection"  # our own message came back
    REPLAY = "replay"  # this sequence number was opened before
    OLD = "old"  # older than the window: cannot be told from a replay
    TRUNCATED = "truncated"  # not of a length we ever send
    TOO_BIG = "too_big"  # longer than anything we send
    MALFORMED = "malformed"  # not an envelope at all
    NOT_FRESH = "not_fresh"  # of an earlier call, or of an end that is not the one we know
    BROKEN = "seal_broken"  # changed on the way: payload, event, slot, version or number


_NOT_NEW: Final = {Freshness.REPLAYED: Refusal.REPLAY, Freshness.STALE: Refusal.OLD}


@dataclass
class SealCounters:
    """How many payloads were opened, knocked before that, and were refused by reason."""

    opened: int = 0
    knocks: int = 0
    refused: dict[Refusal, int] = field(default_factory=lambda: dict.fromkeys(Refusal, 0))

    def refuse(self, why: Refusal) -> SealError:
        """Count a refusal and give back the error to raise."""
        self.refused[why] += 1
        return SealError(_SENTENCES[why], code=why.value)


class Envelope(Protocol):
    """What the call session needs; `Sealer` and `NoSeal` are the two of them."""

    counters: SealCounters

    @property
    def sealed(self) -> bool:
        """True when payloads are sealed."""

    @property
    def verified(self) -> bool:
        """True once one payload of the peer has been opened."""

    def seal(self, event: str, payload: Mapping[str, object]) -> dict[str, object]:
        """Return what goes on the wire for this message."""

    def open(self, event: str, payload: object) -> dict[str, object]:
        """Return the message that came over the wire, or raise SealError."""


class Sealer:
    """Seal and open the messages of one call, for the end in one slot.

    Until the peer's freshness is known, we *knock*: a hello (or a goodbye) under a key that only says that
    its sender has the intercom key, of whatever call. Everything else is under a key into which the
    freshness of both ends went, so that nothing of an earlier call opens, whatever call id the backend gives.

    Args:
        keys: one or two intercom keys of 32 bytes; the first seals, all of them open.
        call_id: the call's id as the backend gave it.
        slot: our slot, "a" or "b".
    """

    def __init__(self, keys: Sequence[bytes], call_id: str, slot: str) -> None:
        if not 1 <= len(keys) <= MAX_KEYS or any(len(key) != KEY_BYTES for key in keys):
            raise LocalError("one or two intercom keys of 32 bytes are needed", code="bad_intercom_key")
        if slot not in _SLOTS or not call_id:
            raise LocalError("a sealer needs a call id and slot a or b", code="bad_sealer")
        self.counters = SealCounters()
        self._keys = tuple(keys)
        self._call_id = call_id
        self._slot = slot
        self._peer = "b" if slot == "a" else "a"
        self._fresh = os.urandom(FRESH_BYTES)
        self._prefix = os.urandom(PREFIX_BYTES)
        self._send = _knock(keys[0], call_id, slot, self._fresh)
        self._heard: dict[bytes, _Heard] = {}
        self._proven: bytes | None = None
        self._last_sent = 0
        self._replays = ReplayFilter(WINDOW)

    @property
    def sealed(self) -> bool:
        """True: that is what a Sealer is for."""
        return True

    @property
    def verified(self) -> bool:
        """True once the peer has shown that it is there now: it sealed with our freshness in the key."""
        return self._proven is not None

    def seal(self, event: str, payload: Mapping[str, object]) -> dict[str, object]:
        """Seal a serialized message; to send one again, send the same result again.

        Raises:
            LocalError: wrong slot, or a sequence number not above the last (a nonce is used once).
            SealError: `too_big`.
        """
        seq = payload.get("seq")
        if payload.get("v") != VERSION or payload.get("slot") != self._slot:
            raise LocalError("only our own messages are sealed", code="bad_seal_order")
        if type(seq) is not int or not self._last_sent < seq <= MAX_SEQ:
            raise LocalError("sequence numbers only grow", code="bad_seal_order")
        plain = _pad(json.dumps(payload, ensure_ascii=False, separators=(",", ":")).encode())
        if plain is None:
            raise self.counters.refuse(Refusal.TOO_BIG)
        nonce = self._prefix + seq.to_bytes(SEQ_BYTES)
        fresh = _to_base64url(self._fresh)
        key_id, cipher = self._send
        box = cipher.encrypt(nonce, plain, associated_data(self._slot, event, fresh))
        self._last_sent = seq
        return {
            "v": VERSION,
            "slot": self._slot,
            "seq": seq,
            "f": fresh,
            "k": key_id,
            "sealed": _to_base64url(self._prefix + box),
        }

    def open(self, event: str, payload: object) -> dict[str, object]:
        """Open what the peer sealed and return its message.

        While `verified` stays false afterwards it was a knock, perhaps of an earlier call: good for nothing
        but to be answered with a hello, which then is under the call's own key.

        Raises:
            SealError: its `code` is a `Refusal`; nothing but the counters has changed.
        """
        refuse = self.counters.refuse
        envelope = _read(payload)
        if isinstance(envelope, Refusal):
            raise refuse(envelope)
        if envelope.slot == self._slot:
            raise refuse(Refusal.REFLECTION)
        late = _NOT_NEW.get(self._replays.check(envelope.seq))
        if self._proven is not None and late is not None:
            raise refuse(late)
        heard = self._hear(envelope.fresh)
        if heard is None:
            raise refuse(Refusal.NOT_FRESH)
        is_knock = envelope.key_id in heard.knock
        cipher = (heard.knock if is_knock else heard.call).get(envelope.key_id)
        if cipher is None:
            raise refuse(Refusal.WRONG_KEY)
        if is_knock and event not in KNOCKS:
            raise refuse(Refusal.NOT_FRESH)
        nonce = envelope.box[:PREFIX_BYTES] + envelope.seq.to_bytes(SEQ_BYTES)
        vouched = associated_data(self._peer, event, _to_base64url(envelope.fresh))
        try:
            plain = cipher.decrypt(nonce, envelope.box[PREFIX_BYTES:], vouched)
        except InvalidTag:
            raise refuse(Refusal.BROKEN) from None
        message = _unpad(plain)
        if message is None or any(
            message.get(name) != value
            for name, value in (("v", VERSION), ("slot", envelope.slot), ("seq", envelope.seq))
        ):
            raise refuse(Refusal.BROKEN)
        self._heard[envelope.fresh] = heard
        if is_knock and self._proven is None:
            self._send = heard.send
            self.counters.knocks += 1
            return message
        self._proven, self._send = envelope.fresh, heard.send
        self._replays.take(envelope.seq)
        self.counters.opened += 1
        return message

    def _hear(self, fresh: bytes) -> _Heard | None:
        """Return the keys of a peer with this freshness; None for one too many, or not the proven one."""
        if self._proven is not None and fresh != self._proven:
            return None
        heard = self._heard.get(fresh)
        if heard is None and len(self._heard) < MAX_HEARD:
            pair = (self._fresh, fresh) if self._slot == "a" else (fresh, self._fresh)
            heard = _Heard(
                dict(_knock(key, self._call_id, self._peer, fresh) for key in self._keys),
                dict(_direction(key, self._call_id, self._peer, pair) for key in self._keys),
                _direction(self._keys[0], self._call_id, self._slot, pair),
            )
        return heard


class NoSeal:
    """The end without an intercom key: passes messages through and refuses sealed ones."""

    def __init__(self) -> None:
        self.counters = SealCounters()

    @property
    def sealed(self) -> bool:
        """False: everything is readable by whoever carries it."""
        return False

    @property
    def verified(self) -> bool:
        """True once one payload of the peer came through."""
        return self.counters.opened > 0

    def seal(self, event: str, payload: Mapping[str, object]) -> dict[str, object]:
        """Return the message as it is."""
        return dict(payload)

    def open(self, event: str, payload: object) -> dict[str, object]:
        """Return the message as it is, or raise SealError `peer_sealed` or `malformed`."""
        if not isinstance(payload, dict):
            raise self.counters.refuse(Refusal.MALFORMED)
        if "sealed" in payload:
            raise self.counters.refuse(Refusal.PEER_SEALED)
        self.counters.opened += 1
        return payload


def make_envelope(keys: Sequence[bytes], call_id: str, slot: str) -> Envelope:
    """Return a Sealer when there are intercom keys, and a NoSeal when there are none."""
    return Sealer(keys, call_id, slot) if keys else NoSeal()


def associated_data(slot: str, event: str, fresh: str) -> bytes:
    """Return what the seal vouches for without hiding it: version, sender's slot, event and freshness."""
    return f"voicemeet-edge v{VERSION} sealed\n{slot}\n{event}\n{fresh}".encode()


def derive(key: bytes, call_id: str, fresh: bytes, info: str, length: int) -> bytes:
    """Derive bytes from an intercom key for one call (RFC 5869); both ends and the desk page agree."""
    label = f"voicemeet-edge v{VERSION} {info}".encode()
    return HKDF(algorithm=SHA256(), length=length, salt=call_id.encode() + fresh, info=label).derive(key)


@dataclass(frozen=True)
class _Envelope:
    slot: str
    seq: int
    fresh: bytes
    key_id: str
    box: bytes  # nonce prefix, ciphertext, tag


_Keyed = tuple[str, AESGCM]  # short key id, cipher


@dataclass(frozen=True)
class _Heard:
    """What goes with one freshness of the peer."""

    knock: Mapping[str, AESGCM]
    call: Mapping[str, AESGCM]
    send: _Keyed


def _knock(key: bytes, call_id: str, sender: str, fresh: bytes) -> _Keyed:
    """Return what the end in slot `sender` knocks with, before it knows the other's freshness."""
    direction = _SLOTS[sender]
    key_id = derive(key, call_id, fresh, f"knock id {direction}", KEY_ID_BYTES)
    return _to_base64url(key_id), AESGCM(derive(key, call_id, fresh, f"knock {direction}", KEY_BYTES))


def _direction(key: bytes, call_id: str, sender: str, pair: tuple[bytes, bytes]) -> _Keyed:
    """Return what the end in slot `sender` seals with; `pair`: the freshness of slot a and of slot b."""
    direction, fresh = _SLOTS[sender], pair[0] + pair[1]
    key_id = derive(key, call_id, fresh, f"key id {direction}", KEY_ID_BYTES)
    return _to_base64url(key_id), AESGCM(derive(key, call_id, fresh, f"signaling {direction}", KEY_BYTES))


def _read(payload: object) -> _Envelope | Refusal:
    """Check an envelope's shape, before any key is touched."""
    if not isinstance(payload, dict):
        return Refusal.MALFORMED
    if "sealed" not in payload:
        return Refusal.PEER_NOT_SEALED
    slot, seq, fresh, key_id, text = (payload.get(name) for name in ("slot", "seq", "f", "k", "sealed"))
    if payload.get("v") != VERSION or not isinstance(key_id, str) or not isinstance(text, str):
        return Refusal.MALFORMED
    if slot not in ("a", "b") or type(seq) is not int or not 1 <= seq <= MAX_SEQ:
        return Refusal.MALFORMED
    bare = _from_base64url(fresh) if isinstance(fresh, str) and len(fresh) == FRESH_CHARS else None
    if bare is None:
        return Refusal.MALFORMED
    if len(text) > MAX_SEALED_CHARS:
        return Refusal.TOO_BIG
    box = _from_base64url(text)
    if box is None:
        return Refusal.MALFORMED
    size = len(box) - PREFIX_BYTES - TAG_BYTES
    if size != SMALL_BYTES and (size <= 0 or size % STEP_BYTES):
        return Refusal.TRUNCATED
    return _Envelope(slot, seq, bare, key_id, box)


def _pad(message: bytes) -> bytes | None:
    """Put the length before the message and zeros behind it; None when it is too long."""
    size = LENGTH_BYTES + len(message)
    if size > MAX_PLAIN_BYTES:
        return None
    padded = SMALL_BYTES if size <= SMALL_BYTES else -(-size // STEP_BYTES) * STEP_BYTES
    return (len(message).to_bytes(LENGTH_BYTES) + message).ljust(padded, b"\0")


def _unpad(plain: bytes) -> dict[str, object] | None:
    """Undo `_pad`; None when a key holder sealed something that is no message."""
    length = int.from_bytes(plain[:LENGTH_BYTES])
    if length > len(plain) - LENGTH_BYTES:
        return None
    try:
        message = json.loads(plain[LENGTH_BYTES : LENGTH_BYTES + length])
    except (ValueError, RecursionError):
        return None
    return message if isinstance(message, dict) else None


def _to_base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _from_base64url(text: str) -> bytes | None:
    try:
        data = text.encode("ascii")
        box = base64.b64decode(data + b"=" * (-len(data) % 4), altchars=b"-_", validate=True)
    except (UnicodeEncodeError, binascii.Error, ValueError):
        return None
    # One box has one spelling: the decoder also takes + and /, and bits that no byte holds.
    return box if _to_base64url(box) == text else None


_SENTENCES: Final = {
    Refusal.PEER_NOT_SEALED: "the other side has no intercom key, and we only speak sealed",
    Refusal.PEER_SEALED: "the other side has an intercom key, and we have none",
    Refusal.WRONG_KEY: "sealed with another intercom key, or for another call",
    Refusal.REFLECTION: "our own message was sent back to us",
    Refusal.REPLAY: "this message was opened before",
    Refusal.OLD: "this message is older than the window",
    Refusal.TRUNCATED: "a piece of this message is missing",
    Refusal.TOO_BIG: "the message is too long to be sealed or opened",
    Refusal.MALFORMED: "not a message and not an envelope",
    Refusal.NOT_FRESH: "not sealed for this call: perhaps for an earlier one",
    Refusal.BROKEN: "the seal does not hold: something was changed on the way",
}
