"""Each field is of its form and within its limit, or refused with a sentence that repeats none of it."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voicemeet_edge.backend import fields
from voicemeet_edge.errors import MessageError

HIDDEN = "hidden-value"


@pytest.mark.parametrize("body", [None, [], "{}", 1, True])
def test_a_body_is_an_object(body: object) -> None:
    with pytest.raises(MessageError):
        fields.read_object(body)
    assert fields.read_object({"a": 1}) == {"a": 1}


@pytest.mark.parametrize("value", [None, "", "x" * 6, 5, ["x"]])
def test_a_text_has_a_length(value: object) -> None:
    with pytest.raises(MessageError):
        fields.read_text({"name": value}, "name", 5)
    assert fields.read_text({"name": "x" * 5}, "name", 5) == "x" * 5


@pytest.mark.parametrize("value", ["", "a b", "ä", "t\n", "x" * (fields.MAX_TOKEN_LENGTH + 1), 7, None])
def test_a_token_is_printable_and_has_an_end(value: object) -> None:
    with pytest.raises(MessageError):
        fields.read_token({"token": value}, "token")
    longest = "x" * fields.MAX_TOKEN_LENGTH
    assert fields.read_token({"token": longest}, "token").reveal() == longest


@pytest.mark.parametrize("value", [True, 1.0, -1, fields.MAX_COUNT + 1, "3", None])
def test_a_count_is_a_whole_number(value: object) -> None:
    with pytest.raises(MessageError):
        fields.read_count({"doors": value}, "doors")
    assert [fields.read_count({"doors": one}, "doors") for one in (0, fields.MAX_COUNT)] == [0, 1_000_000]


@pytest.mark.parametrize("value", [True, float("nan"), float("inf"), -0.1, 60.1, "3", None])
def test_a_time_is_a_number_within_its_limit(value: object) -> None:
    with pytest.raises(MessageError):
        fields.read_seconds({"wait": value}, "wait", 60.0)
    assert [fields.read_seconds({"wait": one}, "wait", 60.0) for one in (0, 60.0)] == [0, 60.0]


def test_what_is_refused_is_not_repeated() -> None:
    with pytest.raises(MessageError) as refused:
        fields.read_matching({"ticket": HIDDEN}, "ticket", re.compile(r"[0-9]+\Z"))
    assert "ticket" in str(refused.value)
    assert HIDDEN not in str(refused.value)


@given(st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.lists(st.integers())))
def test_any_value_is_read_or_refused(value: object) -> None:
    for read in (fields.read_token, fields.read_count, fields.read_seconds):
        try:
            read({"one": value}, "one")
        except MessageError:
            pass
