"""Scores rise with reports, halve with time and follow a rotated token."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voicemeet_edge.hub import risk
from voicemeet_edge.hub.risk import RiskBook, RiskOptions, Score, Standing

DAY = 86_400.0
OPTIONS = RiskOptions(report_weight=1.0, half_life_s=DAY, separate_at=2.0, refuse_at=4.0)


def test_reports_lead_from_clean_to_flagged_to_refused() -> None:
    book = RiskBook(OPTIONS)
    standings = []
    for _ in range(4):
        book.report("dev", 0.0)
        standings.append(book.standing("dev", 0.0))
    assert standings == [Standing.CLEAN, Standing.FLAGGED, Standing.FLAGGED, Standing.REFUSED]
    assert book.standing("other", 0.0) is Standing.CLEAN


def test_a_score_halves_with_each_half_life() -> None:
    book = RiskBook(OPTIONS)
    for _ in range(4):
        book.report("dev", 0.0)
    assert book.value("dev", DAY) == pytest.approx(2.0)
    assert book.standing("dev", DAY) is Standing.FLAGGED
    assert book.standing("dev", 2 * DAY) is Standing.CLEAN


def test_a_rotated_token_inherits_what_is_left() -> None:
    book = RiskBook(OPTIONS)
    for _ in range(4):
        book.report("old", 0.0)
    changed = book.rotate("old", "new", DAY)
    assert changed == [("new", Score(2.0, DAY))]
    assert book.value("new", 2 * DAY) == pytest.approx(1.0)


def test_a_report_about_an_old_token_reaches_the_new_one() -> None:
    book = RiskBook(OPTIONS)
    assert book.rotate("first", "second", 0.0) == []
    book.rotate("second", "third", 0.0)
    assert [device for device, _ in book.report("first", 0.0)] == ["first", "second", "third"]
    assert book.value("third", 0.0) == 1.0


def test_a_ring_of_rotations_ends() -> None:
    book = RiskBook(OPTIONS)
    book.rotate("a", "b", 0.0)
    book.rotate("b", "a", 0.0)
    assert len(book.report("a", 0.0)) == risk.MAX_CHAIN


def test_old_scores_are_forgotten_and_the_table_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(risk, "MAX_SCORES", 3)
    book = RiskBook(OPTIONS, [(f"d{n}", Score(1.0, 0.0)) for n in range(5)])
    assert [book.value(f"d{n}", 0.0) for n in range(5)] == [0, 0, 1, 1, 1]
    assert sorted(book.forget_negligible(10 * DAY)) == ["d2", "d3", "d4"]
    assert book.value("d4", 0.0) == 0


@given(st.floats(0, 1e6), st.floats(0, 1e10), st.floats(0, 1e10))
def test_decay_never_raises_a_score(value: float, at: float, now: float) -> None:
    assert 0 <= Score(value, at).decayed(now, DAY) <= value
