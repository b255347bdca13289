"""Reports on their way: sent at once, tried again, given up, and never forgotten in between."""

from __future__ import annotations

import pytest

from voicemeet_edge.call.machine import ReportState
from voicemeet_edge.call.outbox import HOLD_S, MAX_HELD, Outbox
from voicemeet_edge.secret import Secret
from voicemeet_edge.signaling.reconnect import CAP_S

NOW = 1000.0


def holding(*tokens: str) -> Outbox:
    outbox = Outbox()
    for token in tokens:
        assert outbox.file(Secret(token), "button", NOW) is None
    return outbox


def test_nothing_held_nothing_due() -> None:
    outbox = Outbox()
    assert outbox.deadline is None
    assert outbox.next_report(NOW) is None
    outbox.network_back(NOW)
    assert outbox.deadline is None


def test_reports_go_at_once_and_oldest_first() -> None:
    outbox = holding("one", "two")
    for token in ("one", "two"):
        report = outbox.next_report(NOW)
        assert report is not None
        assert report.token == Secret(token)
        assert outbox.sent() is ReportState.SENT
    assert len(outbox) == 0


def test_what_was_not_taken_waits_and_is_sent_again() -> None:
    outbox = holding("one")
    for _ in range(20):
        now = outbox.deadline
        assert now is not None
        assert outbox.next_report(now) is not None
        assert outbox.refused(now, is_retryable=True) is ReportState.WAITING
        assert outbox.deadline is not None
        assert now <= outbox.deadline <= now + CAP_S
        assert len(outbox) == 1


def test_the_backend_may_ask_for_time() -> None:
    outbox = holding("one")
    assert outbox.next_report(NOW) is not None
    outbox.refused(NOW, is_retryable=True, asked_s=600.0)
    assert outbox.next_report(NOW + 599.0) is None
    assert outbox.next_report(NOW + 1200.0) is not None


@pytest.mark.parametrize("hint", ["network", "another"])
def test_the_network_coming_back_and_another_report_end_the_wait(hint: str) -> None:
    outbox = holding("one")
    assert outbox.next_report(NOW) is not None
    outbox.refused(NOW, is_retryable=True, asked_s=600.0)
    assert outbox.next_report(NOW + 1.0) is None
    if hint == "network":
        outbox.network_back(NOW + 1.0)
    else:
        outbox.file(Secret("two"), "button", NOW + 1.0)
    assert outbox.next_report(NOW + 1.0) is not None


def test_a_hint_while_one_is_being_sent_is_not_forgotten() -> None:
    outbox = holding("one")
    assert outbox.next_report(NOW) is not None
    outbox.network_back(NOW + 1.0)
    outbox.refused(NOW + 2.0, is_retryable=True, asked_s=600.0)
    assert outbox.next_report(NOW + 2.0) is not None


def test_a_refusal_for_good_is_told_and_the_next_one_sent() -> None:
    outbox = holding("one", "two")
    assert outbox.next_report(NOW) is not None
    assert outbox.refused(NOW, is_retryable=False) is ReportState.FAILED
    report = outbox.next_report(NOW)
    assert report is not None
    assert report.token == Secret("two")


def test_a_report_that_no_backend_would_take_any_more_is_given_up() -> None:
    outbox = holding("one")
    assert outbox.refused(NOW + HOLD_S - 1.0, is_retryable=True) is ReportState.WAITING
    assert outbox.refused(NOW + HOLD_S, is_retryable=True) is ReportState.FAILED
    assert len(outbox) == 0


def test_more_than_can_be_held_is_refused_and_said() -> None:
    outbox = holding(*(str(number) for number in range(MAX_HELD)))
    assert outbox.file(Secret("one too many"), "button", NOW) is ReportState.FAILED
    assert len(outbox) == MAX_HELD
