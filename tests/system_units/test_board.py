"""What a person is told the device is doing."""

from __future__ import annotations

import pytest

from voicemeet_edge.call.commands import WordsKnown
from voicemeet_edge.call.machine import State
from voicemeet_edge.call.observed import (
    BackendChanged,
    ConnectionFault,
    FaultChanged,
    FirstAudio,
    LoudspeakerOpened,
    Matched,
    Observed,
    Started,
    StateChanged,
)
from voicemeet_edge.not_connected import REFUSALS, NotConnected
from voicemeet_edge.reasons import EndReason
from voicemeet_edge.system.board import OUTCOMES, STATES, Board


def started() -> Board:
    board = Board()
    board.observe(Started())
    return board


def test_every_state_has_its_sentence() -> None:
    assert set(STATES) == {state.value for state in State}


def test_from_start_to_ready() -> None:
    board = Board()
    assert board.sentence == "Starting"
    board.observe(Started())
    assert board.sentence == "Waiting for the hub: no connection"
    board.observe(BackendChanged(True))
    assert board.sentence == "Ready: press call"


@pytest.mark.parametrize("reason", NotConnected)
def test_why_there_is_no_connection_is_said(reason: NotConnected) -> None:
    board = started()
    board.observe(BackendChanged(False))
    board.observe(ConnectionFault(reason))
    assert board.sentence == f"Waiting for the hub: {reason.said}"
    board.observe(BackendChanged(True))
    board.observe(ConnectionFault(None))
    assert board.sentence == "Ready: press call"


@pytest.mark.parametrize("reason", sorted(REFUSALS))
def test_a_refusal_is_a_fault_with_a_sentence(reason: NotConnected) -> None:
    board = started()
    board.observe(FaultChanged("backend", reason.value))
    assert board.sentence == f"Out of order: {reason.said}"


SHOWN = (Started(), BackendChanged(False), LoudspeakerOpened())


@pytest.mark.parametrize("missing", SHOWN, ids=lambda event: type(event).__name__)
def test_it_has_shown_itself_when_every_part_has(missing: Observed) -> None:
    board = Board()
    for event in SHOWN:
        if event != missing:
            board.observe(event)
    assert not board.has_shown_itself
    board.observe(missing)
    assert board.has_shown_itself


def test_a_connection_that_names_what_is_wrong_has_shown_itself() -> None:
    board = started()
    board.observe(LoudspeakerOpened())
    board.observe(ConnectionFault(NotConnected.NOBODY_LISTENS))
    assert board.has_shown_itself


def test_a_loudspeaker_that_names_its_fault_has_shown_itself() -> None:
    board = started()
    board.observe(BackendChanged(True))
    board.observe(FaultChanged("loudspeaker", "sound_device_lost"))
    assert board.has_shown_itself
    assert board.sentence == ("Out of order: the loudspeaker is missing or in use by another program")
    board.observe(FaultChanged("loudspeaker", None))
    assert board.sentence == "Ready: press call"


def test_a_fault_without_a_sentence_shows_its_code() -> None:
    board = started()
    board.observe(FaultChanged("antenna", "bent"))
    assert board.sentence == "Out of order: antenna does not work (bent)"


def test_calls_are_counted_by_the_reasons_there_are() -> None:
    board = started()
    for reason in (EndReason.HUNG_UP, EndReason.HUNG_UP, EndReason.of("a word of the peer's own"), None):
        board.observe(StateChanged(State.TALKING, 1.0))
        board.observe(StateChanged(State.ENDED, 2.0, reason))
    assert board.calls["hung_up"] == 2
    assert set(board.calls) <= set(OUTCOMES)
    assert board.calls.total() == 4


def test_set_up_times_are_few_and_of_calls_that_sounded() -> None:
    board = started()
    for number in range(3 * Board.MAX_SET_UPS):
        board.observe(Matched(10.0 + number, is_offerer=True))
        board.observe(FirstAudio(10.5 + number))
        board.observe(FirstAudio(99.0 + number))  # after a reconnect: no set-up
    assert len(board.set_up_s) == Board.MAX_SET_UPS
    assert set(board.set_up_s) == {0.5}


def test_reconnects_and_lost_lines_are_counted() -> None:
    board = started()
    for up in (False, True, False, True):
        board.observe(BackendChanged(up))
    assert board.reconnects == 2
    board.observe(StateChanged(State.RECONNECTING, 1.0))
    assert board.path_losses == 1


def test_the_check_words_are_passed_over() -> None:
    board = Board()
    board.observe(WordsKnown(("never", "shown", "here")))
    assert board == Board()
