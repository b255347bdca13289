"""The label of a door: readable with the key and for its pool alone, and always of one length."""

from __future__ import annotations

import base64

import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from voicemeet_edge.backend.verbs import MAX_LABEL_CHARS
from voicemeet_edge.call.door_label import NAMELESS, NONCE_BYTES, PREFIX, _label_key, make_label

KEY = bytes(range(32))


def opened(label: str, key: bytes = KEY, pool: str = "frontdesk") -> str:
    text = label.removeprefix(PREFIX)
    sealed = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    plain = AESGCM(_label_key(key, pool)).decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], pool.encode())
    return plain.rstrip(b"\0").decode()


def test_who_has_the_key_reads_it_and_nobody_else() -> None:
    label = make_label(KEY, "frontdesk", "Side entrance")
    assert "Side" not in label
    assert opened(label) == "Side entrance"
    for key, pool in ((bytes(32), "frontdesk"), (KEY, "garage")):
        with pytest.raises(InvalidTag):
            opened(label, key, pool)


def test_labels_have_one_length_and_never_come_twice() -> None:
    labels = [make_label(KEY, "p", name) for name in ("", "x", "x", "é" * 64)]
    assert len(set(labels)) == 4
    assert len({len(label) for label in labels}) == 1
    assert len(labels[0]) <= MAX_LABEL_CHARS


def test_a_name_too_long_ends_with_a_whole_letter() -> None:
    assert opened(make_label(KEY, "frontdesk", "€" * 64)) == "€" * 42


def test_without_a_key_it_is_the_name() -> None:
    assert make_label(None, "p", "Gate") == "Gate"
    assert make_label(None, "p", "") == NAMELESS
