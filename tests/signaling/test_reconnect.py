"""Back-off: bounds, jitter, reset after a connection that lasted, hard refusals, the hint."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voicemeet_edge.signaling.reconnect import CAP_S, Backoff


def highest(low: float, high: float) -> float:
    return high


def test_the_bound_doubles_up_to_the_cap_and_stays_there() -> None:
    backoff = Backoff(uniform=highest)
    assert [backoff.failed(0.0) for _ in range(8)] == [1, 2, 4, 8, 16, 30, 30, 30]


@given(st.integers(0, 5_000), st.booleans())
def test_every_wait_is_within_the_cap_for_ever(failures: int, hard: bool) -> None:
    backoff = Backoff()
    backoff.failures = failures
    wait = backoff.failed(100.0, hard=hard)
    assert 0.0 <= wait <= CAP_S
    assert not hard or wait >= CAP_S / 2
    assert backoff.deadline == 100.0 + wait


def test_only_a_connection_that_lasted_starts_over() -> None:
    backoff = Backoff(uniform=highest)
    for _ in range(4):
        backoff.failed(0.0)
    backoff.succeeded(10.0)
    assert backoff.deadline is None
    assert backoff.failed(11.0) == 16.0
    backoff.succeeded(30.0)
    assert backoff.failed(40.0) == 1.0


def test_the_hint_makes_it_now_and_never_later() -> None:
    backoff = Backoff(uniform=highest)
    backoff.network_back(5.0)
    assert backoff.deadline is None
    backoff.failed(10.0)
    backoff.network_back(10.5)
    assert backoff.deadline == 10.5
    backoff.network_back(12.0)
    assert backoff.deadline == 10.5
    assert backoff.failed(13.0) == 1.0


@pytest.mark.parametrize(
    ("asked_s", "draw", "wait_s"), [(None, 1.0, 4.0), (10.0, 0.0, 10.0), (10.0, 1.0, 15.0), (1.0, 1.0, 4.0)]
)
def test_what_the_server_asks_for_is_the_least(asked_s: float | None, draw: float, wait_s: float) -> None:
    backoff = Backoff(base_s=4.0, uniform=lambda low, high: low + draw * (high - low))
    assert backoff.failed(0.0, asked_s=asked_s) == wait_s
    assert backoff.deadline == wait_s
