"""When a call's token is renewed: at half its life, when something needs it, and later after a failure."""

from __future__ import annotations

import pytest

from tests.call.ends import TOKEN_TTL_S, fresh
from voicemeet_edge.call.commands import Renew, UseGrant
from voicemeet_edge.call.renewal import RENEW_GAP_S, RENEW_SHARE, Renewal
from voicemeet_edge.secret import Secret
from voicemeet_edge.signaling.reconnect import CAP_S, HARD_FLOOR

NOW = 1000.0
HALF_LIFE_S = TOKEN_TTL_S * RENEW_SHARE
FIRST = Secret("token 0")


def started() -> Renewal:
    renewal = Renewal(FIRST, TOKEN_TTL_S)
    renewal.start(NOW)
    return renewal


def asked(at: float = NOW) -> Renewal:
    """A renewal that is under way."""
    renewal = started()
    renewal.hurry(at)
    assert renewal.handle_timer(at) == [Renew(FIRST)]
    return renewal


def test_at_half_of_a_tokens_life_it_is_renewed() -> None:
    renewal = started()
    assert renewal.handle_timer(NOW + HALF_LIFE_S - 0.1) == []
    assert renewal.handle_timer(NOW + HALF_LIFE_S) == [Renew(FIRST)]


def test_the_new_token_lives_as_long_again() -> None:
    renewal = asked()
    assert renewal.renewed(fresh(1), NOW + 5.0) == UseGrant(Secret("token 1"), ())
    assert renewal.token == Secret("token 1")
    assert renewal.deadline == NOW + 5.0 + HALF_LIFE_S


def test_a_renewal_under_way_is_not_asked_for_twice() -> None:
    renewal = asked()
    renewal.hurry(NOW + 0.1)
    assert renewal.deadline is None
    assert renewal.handle_timer(NOW + 1e6) == []


@pytest.mark.parametrize("outcome", ["renewed", "failed"])
def test_whoever_asks_without_end_is_served_once_a_second(outcome: str) -> None:
    renewal = asked()
    if outcome == "renewed":
        renewal.renewed(fresh(1), NOW)
    else:
        renewal.failed(NOW, is_retryable=False)
    for _ in range(5):
        renewal.hurry(NOW + 0.1)
    assert renewal.handle_timer(NOW + RENEW_GAP_S - 0.1) == []
    assert renewal.handle_timer(NOW + RENEW_GAP_S) != []


def test_after_a_failure_it_is_tried_again_soon_after_a_refusal_later_and_when_the_backend_says() -> None:
    for failure, low, high in (
        ({"is_retryable": True}, 0.0, 1.0),
        ({"is_retryable": False}, CAP_S * HARD_FLOOR, CAP_S),
    ):
        renewal = asked()
        renewal.failed(NOW, **failure)
        assert renewal.deadline is not None
        assert NOW + low <= renewal.deadline <= NOW + high
    renewal = asked()
    renewal.failed(NOW, is_retryable=True, asked_s=100.0)
    assert renewal.deadline is not None
    assert renewal.deadline >= NOW + 100.0
    assert renewal.handle_timer(renewal.deadline) == [Renew(FIRST)]
