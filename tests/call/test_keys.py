"""The intercom key as people handle it: typed, pasted, scanned, compared."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voicemeet_edge.call.keys import (
    KeyTextError,
    key_check,
    new_key,
    parse_key,
    qr_terminal,
    qr_text,
    to_text,
)
from voicemeet_edge.secret import Secret

KEY = Secret("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8")  # bytes 0 to 31


def test_a_new_key_is_32_bytes_and_never_the_same() -> None:
    one, two = new_key(), new_key()
    assert len(parse_key(one)) == 32
    assert one != two
    assert one.reveal() not in f"{one!r} {one}"


@given(st.binary(min_size=32, max_size=32))
def test_text_comes_back_the_same(key: bytes) -> None:
    assert parse_key(to_text(key)) == key
    assert parse_key(Secret(qr_text(to_text(key)))) == key


@pytest.mark.parametrize(
    "form", ["{}", " {} \n", "{}=", "voicemeet-key:1:{}"], ids=["bare", "spaces", "padded", "scanned"]
)
def test_usual_ways_to_write_it_are_taken(form: str) -> None:
    assert parse_key(Secret(form.format(KEY.reveal()))) == bytes(range(32))


def test_a_key_in_groups_is_taken() -> None:
    text = KEY.reveal()
    grouped = " ".join(text[at : at + 6] for at in range(0, len(text), 6))
    assert parse_key(Secret(grouped)) == bytes(range(32))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "empty"),
        ("   ", "empty"),
        (KEY.reveal()[:-1], "43 characters, this one 42"),
        (KEY.reveal() + "A", "43 characters, this one 44"),
        (KEY.reveal()[:-2] + "+/", "2 characters"),
        (KEY.reveal()[:-1] + "9", "last character"),
        ("ü" * 43, "43 characters of"),
    ],
)
def test_what_is_wrong_is_said_without_the_key(text: str, said: str) -> None:
    with pytest.raises(KeyTextError, match=said) as caught:
        parse_key(Secret(text))
    assert caught.value.code == "bad_intercom_key"
    assert not text.strip() or text not in str(caught.value)


def test_only_32_bytes_are_a_key() -> None:
    with pytest.raises(KeyTextError):
        to_text(b"short")


def test_the_check_tells_keys_apart() -> None:
    assert key_check(KEY) == key_check(Secret(qr_text(KEY)))
    assert key_check(KEY) != key_check(Secret("B" + KEY.reveal()[1:]))
    assert len(key_check(KEY).split()) == 2


def test_the_qr_code_fits_a_terminal() -> None:
    lines = qr_terminal(KEY).splitlines()
    assert 15 <= len(lines) <= 24
    assert KEY.reveal() not in "".join(lines)
