"""The replay window: each number once, in any order that fits, and nothing that a forger could move."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from voicemeet_edge.signaling.replay import Freshness, ReplayFilter

SIZE = 16


def test_each_number_is_new_once() -> None:
    window = ReplayFilter(SIZE)
    for number in (1, 3, 2):
        assert window.check(number) is Freshness.NEW
        window.take(number)
        assert window.check(number) is Freshness.REPLAYED


def test_what_is_older_than_the_window_is_stale() -> None:
    window = ReplayFilter(SIZE)
    window.take(100)
    assert window.check(100 - SIZE + 1) is Freshness.NEW
    assert window.check(100 - SIZE) is Freshness.STALE


def test_looking_moves_nothing() -> None:
    window = ReplayFilter(SIZE)
    window.take(5)
    assert window.check(2**62) is Freshness.NEW
    assert window.newest == 5
    assert window.check(4) is Freshness.NEW


@given(st.lists(st.integers(1, 2**62) | st.integers(1, 60), max_size=80))
def test_nothing_is_taken_twice_and_the_window_stays_small(numbers: list[int]) -> None:
    window, taken = ReplayFilter(SIZE), set[int]()
    for number in numbers:
        found = window.check(number)
        assert (found is Freshness.STALE) == (number <= window.newest - SIZE)
        if found is Freshness.NEW:
            assert number not in taken
            window.take(number)
            taken.add(number)
        elif found is Freshness.REPLAYED:
            assert number in taken
        assert window._seen < 1 << SIZE
