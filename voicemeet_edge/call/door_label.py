"""What a door is called in the list that desks choose from: sealed where there is an intercom key.

Pure. One rule: with a key the backend never sees the name, nor how long it is (docs/contract.md, "Ringing").
"""

from __future__ import annotations

import base64
import os
from typing import Final

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

PREFIX: Final = "voicemeet-name:1:"
NAME_BYTES: Final = 128  # of a name in UTF-8, filled with zeros: every label has one length
NONCE_BYTES: Final = 12
NAMELESS: Final = "-"  # in the open, for a door that was given no name


def make_label(key: bytes | None, pool: str, name: str) -> str:
    """Return the label of a door; sealed with the intercom key if there is one."""
    if key is None:
        return name or NAMELESS
    plain = name.encode()[:NAME_BYTES].decode(errors="ignore").encode()  # not in the middle of a letter
    nonce = os.urandom(NONCE_BYTES)
    sealed = AESGCM(_label_key(key, pool)).encrypt(nonce, plain.ljust(NAME_BYTES, b"\0"), pool.encode())
    return PREFIX + base64.urlsafe_b64encode(nonce + sealed).rstrip(b"=").decode()


def _label_key(key: bytes, pool: str) -> bytes:
    return HKDF(SHA256(), 32, pool.encode(), b"voicemeet-edge v1 door name").derive(key)
