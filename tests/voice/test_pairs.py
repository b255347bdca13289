"""The speed of a line by pairs of packets."""

from __future__ import annotations

import pytest

from voicemeet_edge.voice.pairs import Pairs


def seen(*gaps_ms: float) -> Pairs:
    pairs = Pairs()
    for gap in gaps_ms:
        pairs.add(100, gap / 1000)
    return pairs


def test_what_is_between_two_tells_the_speed_of_the_narrowest_link() -> None:
    pairs = seen(25.0, 26.0, 24.0)
    assert pairs.middle() == pytest.approx(32.0)
    assert pairs.fastest() == pytest.approx(100 * 8 / 24.0)
    assert pairs.agree() == pytest.approx(100 * 8 / 26.0)
    assert pairs.last(2) == pytest.approx([100 * 8 / 26.0, 100 * 8 / 24.0])


def test_few_or_unlike_ones_say_nothing() -> None:
    assert seen().middle() is None
    assert seen().fastest() == 0.0
    assert seen(25.0).middle() is None
    assert seen(25.0, 25.0).agree() is None
    assert seen(25.0, 25.0).agree(2) == pytest.approx(32.0)
    assert seen(25.0, 20.0, 35.0).agree() is None
    assert seen(5.0, 25.0, 25.0, 25.0).agree() == pytest.approx(32.0), "the first is forgotten"


def test_two_that_come_at_once_are_no_line_of_endless_speed() -> None:
    assert seen(0.0).fastest() == pytest.approx(800.0)
