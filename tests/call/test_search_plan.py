"""When a search asks again and when it gives up, by what the backend answered."""

from __future__ import annotations

import pytest

from voicemeet_edge.backend.verbs import Role
from voicemeet_edge.call.search_plan import JITTER, MAX_REFUSED_TOKENS, AfterRefusal, SearchPlan
from voicemeet_edge.errors import BackendError
from voicemeet_edge.signaling.reconnect import CAP_S

NOW = 1000.0
EXPIRED = BackendError("expired", code="bad_token", status=401)
FULL = BackendError("full", code="pool_full", status=503, retry_after_s=10.0)
DOWN = BackendError("down", code="unreachable")


def test_it_asks_at_once_and_then_when_the_backend_says_with_jitter() -> None:
    plan = SearchPlan(Role.EITHER)
    assert plan.deadline < NOW
    for _ in range(20):
        plan.waits(5.0, NOW)
        assert NOW + 5.0 * JITTER[0] <= plan.deadline <= NOW + 5.0 * JITTER[1]


def test_a_token_that_is_not_taken_is_made_anew_at_once_but_not_for_ever() -> None:
    plan = SearchPlan(Role.EITHER)
    for _ in range(MAX_REFUSED_TOKENS):
        assert plan.refused(EXPIRED, NOW, has_token=True) == AfterRefusal(drops_token=True)
        assert plan.deadline == NOW
    assert plan.refused(EXPIRED, NOW, has_token=True).gives_up


def test_an_answer_in_between_lets_tokens_be_refused_anew() -> None:
    plan = SearchPlan(Role.EITHER)
    for _ in range(3):
        for _ in range(MAX_REFUSED_TOKENS):
            assert not plan.refused(EXPIRED, NOW, has_token=True).gives_up
        plan.waits(5.0, NOW)


def test_without_a_token_there_is_none_to_make_anew() -> None:
    assert SearchPlan(Role.EITHER).refused(EXPIRED, NOW, has_token=False) == AfterRefusal(gives_up=True)


@pytest.mark.parametrize(
    ("role", "gives_up"), [(Role.EITHER, True), (Role.CALLER, True), (Role.ANSWERER, False)]
)
def test_a_person_is_told_of_a_full_pool_and_a_desk_waits_its_turn(role: Role, gives_up: bool) -> None:
    plan = SearchPlan(role)
    assert plan.refused(FULL, NOW, has_token=True) == AfterRefusal(gives_up=gives_up)
    assert gives_up or plan.deadline >= NOW + 10.0


@pytest.mark.parametrize("code", ["pass_needed", "pass_refused"])
def test_who_is_not_admitted_asks_with_a_new_token_next_time(code: str) -> None:
    refused = BackendError("no", code=code, status=403)
    assert SearchPlan(Role.ANSWERER).refused(refused, NOW, has_token=True) == AfterRefusal(True, True)
    assert SearchPlan(Role.ANSWERER).refused(refused, NOW, has_token=False) == AfterRefusal(True, False)


def test_a_backend_that_is_away_is_asked_again_for_ever_and_ever_more_seldom() -> None:
    plan = SearchPlan(Role.EITHER, uniform=lambda _low, high: high)
    waits = []
    for _ in range(12):
        assert plan.refused(DOWN, NOW, has_token=True) == AfterRefusal()
        waits.append(plan.deadline - NOW)
    assert waits == sorted(waits)
    assert waits[-1] == CAP_S
    assert plan.failures == 12


@pytest.mark.parametrize("status", [400, 403, 404, 409])
def test_what_waiting_cannot_mend_ends_the_search(status: int) -> None:
    refused = BackendError("no", code="unknown_pool", status=status)
    assert SearchPlan(Role.ANSWERER).refused(refused, NOW, has_token=True) == AfterRefusal(gives_up=True)
