"""Passes and proofs, as docs/contract.md has them; the one rule: what is stored opens nothing.

A pass is a capability: 130 random bits that let their bearer take one role in one closed pool. A proof
says that its maker also holds the intercom key, to a backend that does not. Pure; used by device and hub.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
import secrets
from typing import Final

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from voicemeet_edge.backend.verbs import Role
from voicemeet_edge.errors import LocalError
from voicemeet_edge.secret import Secret

PASS_CHARS: Final = 26  # characters of 5 bits: 130 random bits
PASS_QR_PREFIX: Final = "voicemeet-pass:1:"  # so that a scanner tells a pass from any other code
PASS_ID_CHARS: Final = 16  # hex digits of the hash that name a pass in a token and on the command line
GROUP_CHARS: Final = 5  # characters between hyphens, as people read a pass
ADMISSION_KEY_BYTES: Final = 32
ADMISSION_KEY_CHARS: Final = 43  # base64url of 32 bytes without padding
MAX_ADMISSION_KEYS: Final = 2  # per pool: one in use, one coming or going

_ALPHABET: Final = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's base32: no i, l, o, u
_PASS_PATTERN: Final = re.compile(rf"[{_ALPHABET}]{{{PASS_CHARS}}}\Z")
_PASS_CONTEXT: Final = b"voicemeet-edge v1 pass\n"
_PROOF_CONTEXT: Final = "voicemeet-edge v1 admission"


class PassTextError(LocalError):
    """A text is no pass; the sentence says what is wrong with it, never the text."""

    code = "bad_pass"


class AdmissionKeyError(LocalError):
    """A text is no admission key."""

    code = "bad_admission_key"


def new_pass() -> Secret:
    """Make a pass from the system's random source, in its one form."""
    return Secret("".join(secrets.choice(_ALPHABET) for _ in range(PASS_CHARS)))


def parse_pass(text: Secret) -> Secret:
    """Bring a pass as typed, pasted or scanned to its one form; PassTextError when it is none."""
    letters = "".join(text.reveal().split()).removeprefix(PASS_QR_PREFIX).replace("-", "").lower()
    letters = letters.translate(str.maketrans("oil", "011"))
    if not letters:
        raise PassTextError("the pass is empty")
    if len(letters) != PASS_CHARS:
        raise PassTextError(f"a pass has {PASS_CHARS} letters and digits, this one {len(letters)}")
    if not _PASS_PATTERN.match(letters):
        raise PassTextError("there is a character in the pass that no pass has")
    return Secret(letters)


def as_typed(text: Secret) -> str:
    """Return a pass as people read and type it: capitals in groups of five."""
    letters = parse_pass(text).reveal().upper()
    return "-".join(letters[at : at + GROUP_CHARS] for at in range(0, PASS_CHARS, GROUP_CHARS))


def pass_hash(text: Secret) -> str:
    """Return what a backend keeps of a pass: 64 hex digits. The pass is random, so no salt is needed."""
    return hashlib.sha256(_PASS_CONTEXT + parse_pass(text).reveal().encode()).hexdigest()


def admission_key(intercom_key: bytes, pool: str) -> bytes:
    """Derive what the backend may know of an intercom key: enough to check a proof for this pool."""
    hkdf = HKDF(SHA256(), ADMISSION_KEY_BYTES, salt=pool.encode(), info=_PROOF_CONTEXT.encode())
    return hkdf.derive(intercom_key)


def admission_key_text(key: bytes) -> Secret:
    """Return an admission key as text: 43 characters of base64url."""
    return Secret(base64.urlsafe_b64encode(key).rstrip(b"=").decode())


def parse_admission_key(text: Secret) -> bytes:
    """Return the bytes of an admission key; AdmissionKeyError when it is none."""
    letters = "".join(text.reveal().split())
    try:
        key = base64.b64decode(letters + "=", altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) != ADMISSION_KEY_BYTES or admission_key_text(key) != Secret(letters):
        raise AdmissionKeyError(f"an admission key has {ADMISSION_KEY_CHARS} characters of base64url")
    return key


def make_proof(key: bytes, device_token: Secret, pool: str, role: Role, ticket: str) -> str:
    """Return the proof for one `match`: a MAC over the backend's challenge and what is asked for."""
    said = "\n".join((_PROOF_CONTEXT, device_token.reveal(), pool, role.value, ticket))
    return base64.urlsafe_b64encode(hmac.digest(key, said.encode(), "sha256")).rstrip(b"=").decode()


def admission_key_id(key: bytes) -> str:
    """Return what tells admission keys apart in lists; it opens nothing."""
    return hashlib.sha256(key).hexdigest()[:PASS_ID_CHARS]


def proved_key(
    keys: list[bytes], proof: str, device_token: Secret, pool: str, role: Role, ticket: str
) -> bytes | None:
    """Return which of these admission keys a proof for just this `match` was made with; None: with none."""
    found = None
    for key in keys:
        wanted = make_proof(key, device_token, pool, role, ticket)
        if hmac.compare_digest(wanted.encode(), proof.encode("utf-8", "replace")):
            found = key
    return found
