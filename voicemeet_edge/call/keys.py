"""The intercom key: 32 random bytes that the ends of one deployment share, as people handle them.

One rule: a key is either whole or refused with a sentence; nothing is guessed, cut or filled up.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import io
import secrets
from typing import Final

from voicemeet_edge.call.wordlist import EVEN, ODD
from voicemeet_edge.errors import LocalError
from voicemeet_edge.secret import Secret

KEY_BYTES: Final = 32  # bytes; what signaling/sealed.py derives from
KEY_CHARS: Final = 43  # characters; base64url of 32 bytes without padding
QR_PREFIX: Final = "voicemeet-key:1:"  # so that a scanner tells a key from any other QR code

_ALPHABET: Final = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")


class KeyTextError(LocalError):
    """A text is not an intercom key; the sentence says what is wrong with it, never the text."""

    code = "bad_intercom_key"


def new_key() -> Secret:
    """Make a key: 43 characters of base64url from the system's random source."""
    return to_text(secrets.token_bytes(KEY_BYTES))


def to_text(key: bytes) -> Secret:
    """Return a key's text form."""
    if len(key) != KEY_BYTES:
        raise KeyTextError(f"an intercom key has {KEY_BYTES} bytes, this one {len(key)}")
    return Secret(base64.urlsafe_b64encode(key).rstrip(b"=").decode())


def parse_key(text: Secret) -> bytes:
    """Return the 32 bytes of a key as typed, pasted or scanned; spaces and line ends do not matter.

    Raises:
        KeyTextError: wrong length, a character that cannot be, or a mistyped last character.
    """
    letters = "".join(text.reveal().split()).removeprefix(QR_PREFIX).rstrip("=")
    if not letters:
        raise KeyTextError("the intercom key is empty")
    if foreign := len([letter for letter in letters if letter not in _ALPHABET]):
        raise KeyTextError(f"{foreign} characters of the intercom key are not letters, digits, - or _")
    if len(letters) != KEY_CHARS:
        raise KeyTextError(f"an intercom key has {KEY_CHARS} characters, this one {len(letters)}")
    try:
        key = base64.urlsafe_b64decode(letters + "=")
    except binascii.Error:  # pragma: no cover - the checks above leave nothing for it to find
        raise KeyTextError("the intercom key is not base64url") from None
    if to_text(key) != Secret(letters):
        # 43 characters hold two bits more than 32 bytes; those are zero in a key we made.
        raise KeyTextError("the last character of the intercom key is mistyped")
    return key


def qr_text(key: Secret) -> str:
    """Return what the QR code says; the desk page scans it."""
    return QR_PREFIX + to_text(parse_key(key)).reveal()


def qr_terminal(key: Secret) -> str:
    """Return the QR code as text of half blocks, for a dark or a light terminal."""
    import segno  # 1.6 MB that a device which only reads its key does not need

    out = io.StringIO()
    segno.make_qr(qr_text(key), error="m").terminal(out=out, compact=True)
    return out.getvalue()


def key_check(key: Secret) -> str:
    """Return two words that tell keys apart, to compare what was typed on two ends.

    They give away 16 bits of a hash of 256 random bits: nothing that helps to find the key.
    """
    digest = hashlib.sha256(b"voicemeet-edge v1 key check\n" + parse_key(key)).digest()
    return f"{EVEN[digest[0]]} {ODD[digest[1]]}"
