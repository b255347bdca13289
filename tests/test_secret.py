"""A secret shows itself to nobody who does not ask for it."""

from __future__ import annotations

import copy
import pickle
import traceback

import pytest

from voicemeet_edge.secret import Secret

TEXT = "eyJhbGciOi.very.secret"


@pytest.mark.parametrize("shown", [str, repr, "{}".format, "{!r:>40}".format, lambda one: "%s" % one])  # noqa: UP031
def test_nothing_that_writes_shows_it(shown: object) -> None:
    assert callable(shown)
    assert TEXT not in shown(Secret(TEXT))
    assert "••••" in shown(Secret(TEXT))


def test_a_traceback_does_not_show_it() -> None:
    try:
        raise ValueError(Secret(TEXT))
    except ValueError:
        assert TEXT not in traceback.format_exc()


def test_it_is_given_back_to_who_asks() -> None:
    assert Secret(TEXT).reveal() == TEXT


def test_two_of_the_same_text_are_the_same() -> None:
    assert Secret("a") == Secret("a")
    assert Secret("a") != Secret("b")
    assert Secret("a") != "a"
    assert len({Secret("a"), Secret("a"), Secret("b")}) == 2
    assert Secret("é") == Secret("é")


def test_an_empty_one_is_none() -> None:
    assert not Secret("")
    assert Secret("x")


def test_it_leaves_the_process_by_no_copy() -> None:
    with pytest.raises(TypeError):
        pickle.dumps(Secret(TEXT))
    with pytest.raises(TypeError):
        copy.deepcopy(Secret(TEXT))
