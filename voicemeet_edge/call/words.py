"""Check words: both ends see the same words only if nobody sits between them.

One rule: each end is bound to its nonce and its certificate before it learns the other's nonce, so
whoever sits in the middle has one blind guess of 2^-24 (docs/sealed.md shows why).

The order, which this class keeps: slot a says a commitment in its hello; only then slot b says its
nonce, and its own commitment, in a hello; only then slot a reveals its nonce. A commitment is to the
nonce *and* the fingerprint: without the fingerprint inside, the middle could search for a certificate
that gives the right words after it has seen the nonces.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Sequence
from enum import Enum
from typing import Final

from voicemeet_edge.call.wordlist import EVEN, ODD
from voicemeet_edge.errors import LocalError, MessageError
from voicemeet_edge.records import dataclass

NONCE_BYTES: Final = 32  # bytes; nobody guesses it, and a commitment to it hides it
FINGERPRINT_BYTES: Final = 32  # bytes; SHA-256 of the DTLS certificate (RFC 8122)
WORDS: Final = 3  # words of 8 bits: a blind guess is right once in 2^24 calls

_COMMIT: Final = b"voicemeet-edge v1 commit\n"
_SHOW: Final = b"voicemeet-edge v1 check words\n"


class WordsStep(Enum):
    """What the call session has to send next for the words."""

    NOTHING = "nothing"
    HELLO = "hello"  # a hello with `hello_fields()`
    REVEAL = "reveal"  # a reveal with `reveal_nonce()`


@dataclass(frozen=True)
class HelloFields:
    """What goes into a hello for the words; empty texts say not yet. Both lower-case hex."""

    nonce: str = ""
    commitment: str = ""


class WordsExchange:
    """One call's exchange, seen from one end.

    Args:
        slot: our slot, "a" or "b".
        call_id: the call's id as the backend gave it.
        fingerprint: SHA-256 fingerprint of our own certificate, any of the usual ways to write it.
        nonce: our nonce of 32 bytes; made here unless a test gives one.
    """

    def __init__(self, slot: str, call_id: str, fingerprint: str, nonce: bytes | None = None) -> None:
        if slot not in ("a", "b"):
            raise LocalError("check words need slot a or b")
        self._slot = slot
        self._call_id = call_id
        self._fingerprint = fingerprint_bytes(fingerprint)
        self._nonce = secrets.token_bytes(NONCE_BYTES) if nonce is None else nonce
        if len(self._nonce) != NONCE_BYTES:
            raise LocalError(f"a nonce has {NONCE_BYTES} bytes")
        self._peer_nonce: bytes | None = None
        self._peer_commitment: bytes | None = None
        self._said_nonce = False

    def hello_fields(self) -> HelloFields:
        """Return what every hello of ours carries now; asking means saying it."""
        commitment = commit(self._call_id, self._slot, self._fingerprint, self._nonce).hex()
        if self._slot == "a":
            return HelloFields(commitment=commitment)
        if self._peer_commitment is None:
            return HelloFields()  # slot a must be bound first
        self._said_nonce = True
        return HelloFields(self._nonce.hex(), commitment)

    def reveal_nonce(self) -> str:
        """Return slot a's nonce for the reveal; LocalError while slot b is not bound yet."""
        if self._slot != "a" or self._peer_nonce is None:
            raise LocalError("the nonce is revealed by slot a, after slot b's", code="words_order")
        self._said_nonce = True
        return self._nonce.hex()

    def on_hello(self, nonce: str, commitment: str) -> WordsStep:
        """Take a peer's hello; say what to send because of it.

        Raises:
            MessageError: `words_order` (a nonce too early), `words_changed` (a second, other value).
        """
        if not commitment:
            if nonce:
                raise MessageError("a nonce came without its commitment", code="words_order")
            return WordsStep.NOTHING  # slot b before slot a's hello, or a peer without words
        bound = _unhex(commitment)
        if self._slot == "b":
            if nonce:
                raise MessageError("slot a said its nonce before ours", code="words_order")
            first = self._peer_commitment is None
            self._peer_commitment = _pin(self._peer_commitment, bound)
            return WordsStep.HELLO if first or not self._said_nonce else WordsStep.NOTHING
        said = _unhex(nonce)
        self._peer_commitment = _pin(self._peer_commitment, bound)
        self._peer_nonce = _pin(self._peer_nonce, said)
        return WordsStep.NOTHING if self._said_nonce else WordsStep.REVEAL

    def on_reveal(self, nonce: str) -> None:
        """Take slot a's reveal.

        Raises:
            MessageError: `words_order` (too early, or from slot b), `words_changed`.
        """
        if self._slot != "b" or not self._said_nonce:
            raise MessageError("a reveal out of order", code="words_order")
        self._peer_nonce = _pin(self._peer_nonce, _unhex(nonce))

    def words(self, fingerprint_a: str, fingerprint_b: str) -> tuple[str, ...] | None:
        """Return the words for the certificates that DTLS really used; None while they cannot be had.

        Raises:
            MessageError: `bad_commitment`: the peer is not the one that said hello. End the call.
        """
        if self._peer_commitment is None or self._peer_nonce is None:
            return None
        if not self._said_nonce:
            return None  # the peer cannot have them yet either
        a, b = fingerprint_bytes(fingerprint_a), fingerprint_bytes(fingerprint_b)
        ours, theirs = (a, b) if self._slot == "a" else (b, a)
        if not hmac.compare_digest(ours, self._fingerprint):
            raise MessageError("our certificate is not the one we said", code="bad_commitment")
        peer_slot = "b" if self._slot == "a" else "a"
        expected = commit(self._call_id, peer_slot, theirs, self._peer_nonce)
        if not hmac.compare_digest(expected, self._peer_commitment):
            raise MessageError("the peer's certificate is not the one it said", code="bad_commitment")
        mine, other = self._nonce, self._peer_nonce
        nonce_a, nonce_b = (mine, other) if self._slot == "a" else (other, mine)
        return show(self._call_id, a, b, nonce_a, nonce_b)


def commit(call_id: str, slot: str, fingerprint: bytes, nonce: bytes) -> bytes:
    """Bind an end to its nonce and certificate; every part but the call id has a fixed length."""
    return hashlib.sha256(_COMMIT + slot.encode() + nonce + fingerprint + call_id.encode()).digest()


def show(call_id: str, a: bytes, b: bytes, nonce_a: bytes, nonce_b: bytes) -> tuple[str, ...]:
    """Turn what both ends know into words, two and three syllables in turn."""
    digest = hashlib.sha256(_SHOW + a + b + nonce_a + nonce_b + call_id.encode()).digest()
    return tuple((ODD if at % 2 else EVEN)[digest[at]] for at in range(WORDS))


def fingerprint_bytes(text: str) -> bytes:
    """Read `sha-256 AB:CD:…`, `AB:CD:…` or plain hex.

    Raises:
        MessageError: it is not a SHA-256 fingerprint.
    """
    digits = text.strip().lower().removeprefix("sha-256").strip().replace(":", "")
    try:
        data = bytes.fromhex(digits)
    except ValueError:
        data = b""
    if len(data) != FINGERPRINT_BYTES:
        raise MessageError("not a SHA-256 fingerprint", code="bad_fingerprint")
    return data


def _unhex(text: str) -> bytes:
    try:
        data = bytes.fromhex(text)
    except ValueError:
        data = b""
    if len(data) != NONCE_BYTES:
        raise MessageError("not 32 bytes in hex", code="bad_message")
    return data


def _pin(old: bytes | None, new: bytes) -> bytes:
    """Keep the first value; saying it again is fine, saying another is not."""
    if old is not None and not hmac.compare_digest(old, new):
        raise MessageError("a value for the check words was changed", code="words_changed")
    return new


def as_numbers(words: Sequence[str]) -> tuple[int, ...]:
    """Return the words as people of different languages can compare them: each as the byte it stands for."""
    return tuple((EVEN if at % 2 == 0 else ODD).index(word) for at, word in enumerate(words))
