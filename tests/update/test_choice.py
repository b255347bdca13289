from __future__ import annotations

from dataclasses import replace

from voicemeet_edge.update.choice import (
    AGAIN_AFTER_S,
    MAX_POSTPONE_DAYS,
    MAX_TRIES,
    Here,
    choose,
    fits,
    postponed_until,
)
from voicemeet_edge.update.history import History
from voicemeet_edge.update.offer import UpdateOffer
from voicemeet_edge.update.version import SystemVersion

BOARD = "voicemeet-edge-device-arm64"
NOW = 1_800_000_000.0
OLD, NEW = SystemVersion(0, 1, 0), SystemVersion(0, 2, 0)
HERE = Here(BOARD, OLD)
OFFER = UpdateOffer(BOARD, NEW, "x.raucb", 1000, "ab" * 32)
HISTORY = History("id")


def test_a_newer_version_is_taken() -> None:
    assert choose(OFFER, HERE, HISTORY, NOW).take


def test_another_board_is_refused_even_when_forced() -> None:
    assert not choose(replace(OFFER, board="other"), HERE, HISTORY, NOW).take
    assert not fits("other", NEW, HERE, force=True).take


def test_an_older_version_is_refused_unless_forced() -> None:
    here = Here(BOARD, NEW)
    answer = fits(BOARD, OLD, here)
    assert not answer.take
    assert "--force" in answer.why
    assert fits(BOARD, OLD, here, force=True).take
    assert not choose(replace(OFFER, version=OLD), here, HISTORY, NOW).take


def test_what_runs_already_is_left() -> None:
    assert not fits(BOARD, OLD, HERE).take
    assert fits(BOARD, OLD, HERE, force=True).take


def test_a_postponed_update_waits_and_not_for_ever() -> None:
    until = postponed_until(3, NOW)
    history = replace(HISTORY, postponed_until=until)
    answer = choose(OFFER, HERE, history, NOW)
    assert not answer.take
    assert "3.0 more days" in answer.why
    assert choose(OFFER, HERE, history, until).take
    assert postponed_until(10_000, NOW) == NOW + 86_400 * MAX_POSTPONE_DAYS
    assert postponed_until(-1, NOW) == NOW


def test_what_failed_here_is_tried_again_later_and_not_for_ever() -> None:
    history = HISTORY
    now = NOW
    for tried in range(1, MAX_TRIES + 1):
        history = history.begins(NEW, "b", "a").fell_back("no sound", now)
        answer = choose(OFFER, HERE, history, now + 60)
        assert not answer.take
        assert "no sound" in answer.why
        now += AGAIN_AFTER_S * tried
        assert choose(OFFER, HERE, history, now).take is (tried < MAX_TRIES)


def test_a_clock_that_was_set_back_does_not_keep_updates_away() -> None:
    history = HISTORY.begins(NEW, "b", "a").fell_back("no sound", NOW + 1e9)
    assert choose(OFFER, HERE, history, NOW).take


def test_a_share_of_nothing_is_nobody() -> None:
    answer = choose(replace(OFFER, percent=0), HERE, HISTORY, NOW)
    assert not answer.take
    assert "0 % of the devices" in answer.why
