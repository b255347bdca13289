"""What is broken on this box, and what follows from it for the call and for a desk that stands by."""

from __future__ import annotations

import pytest

from voicemeet_edge.call.commands import Tell
from voicemeet_edge.call.faults import MICROPHONE_GRACE_S, STANDBY_GAP_S, STANDBY_PAUSE_S, Faults
from voicemeet_edge.call.machine import IN_CALL, Event, State
from voicemeet_edge.reasons import EndReason

NOW = 1000.0


def lose(faults: Faults, *, microphone: bool = True, at: float = NOW) -> list[Tell]:
    return faults.sound_failed("sound_device_lost", at, is_microphone=microphone, is_retryable=True)


def talking() -> Faults:
    faults = Faults()
    faults.state_changed(State.TALKING)
    return faults


def test_a_fault_shows_until_it_is_mended_and_the_oldest_comes_first() -> None:
    faults = Faults()
    assert faults.current is None
    lose(faults, microphone=False)
    faults.sound_failed("sound_unusable", NOW, is_microphone=True, is_retryable=False)
    assert faults.current == "sound_device_lost"
    faults.sound_recovered(is_microphone=False)
    assert faults.current == "sound_unusable"
    faults.sound_recovered(is_microphone=True)
    assert faults.current is None


def test_what_broke_and_what_was_mended_is_said_once() -> None:
    faults = Faults()
    lose(faults)
    assert faults.changes() == [("microphone", "sound_device_lost")]
    assert faults.changes() == []
    faults.sound_recovered(is_microphone=True)
    faults.sound_recovered(is_microphone=False)
    assert faults.changes() == [("microphone", None)]


def test_a_call_bears_a_lost_microphone_for_a_while() -> None:
    faults = talking()
    assert lose(faults) == []
    assert faults.deadline == NOW + MICROPHONE_GRACE_S
    assert faults.handle_timer(NOW + MICROPHONE_GRACE_S - 0.1) == []
    assert faults.handle_timer(NOW + MICROPHONE_GRACE_S) == [Tell(Event.FAILED, EndReason.MICROPHONE_LOST)]
    assert faults.deadline is None


def test_a_microphone_that_is_back_in_time_ends_nothing() -> None:
    faults = talking()
    lose(faults)
    faults.sound_recovered(is_microphone=True)
    assert faults.deadline is None


def test_failing_again_and_again_does_not_lengthen_the_grace() -> None:
    faults = talking()
    lose(faults)
    lose(faults, at=NOW + 3.0)
    assert faults.deadline == NOW + MICROPHONE_GRACE_S


@pytest.mark.parametrize("state", [State.RECONNECTING, State.ENDED])
def test_the_grace_is_not_the_next_calls(state: State) -> None:
    faults = talking()
    lose(faults)
    faults.state_changed(state)
    assert faults.deadline is None


def test_a_lost_loudspeaker_ends_no_call() -> None:
    faults = talking()
    assert lose(faults, microphone=False) == []
    assert faults.deadline is None


@pytest.mark.parametrize("state", list(State))
def test_a_card_that_will_never_do_ends_a_call_and_nothing_else(state: State) -> None:
    faults = Faults()
    faults.state_changed(state)
    told = faults.sound_failed("sound_unusable", NOW, is_microphone=False, is_retryable=False)
    assert told == ([Tell(Event.FAILED, EndReason.SOUND_UNUSABLE)] if state in IN_CALL else [])


def test_who_pressed_call_is_told_of_a_refusal() -> None:
    faults = Faults()
    faults.state_changed(State.SEEKING)
    assert faults.search_refused("refused_risk", NOW) == [Tell(Event.FAILED, EndReason.REFUSED_RISK)]
    assert faults.current is None
    assert faults.call_over(NOW) == [Tell(Event.SETTLED)]


def test_a_desk_that_was_refused_shows_it_and_asks_again_later() -> None:
    faults = Faults()
    assert faults.search_refused("unknown_pool", NOW) == []
    assert faults.current == "unknown_pool"
    assert faults.call_over(NOW) == [], "not at once"
    assert faults.deadline == NOW + STANDBY_PAUSE_S
    assert faults.handle_timer(NOW + STANDBY_PAUSE_S) == [Tell(Event.SETTLED)]
    assert faults.current is None
    assert faults.call_over(NOW + STANDBY_PAUSE_S + 5.0) == [Tell(Event.SETTLED)]


def test_a_desk_whose_call_never_rang_stands_by_again_at_once() -> None:
    assert Faults().call_over(NOW) == [Tell(Event.SETTLED)]


def test_calls_that_never_ring_one_after_the_other_wait_a_little() -> None:
    faults = Faults()
    faults.call_over(NOW)
    assert faults.call_over(NOW + 0.1) == []
    assert faults.current is None, "nothing is broken"
    assert faults.deadline == NOW + STANDBY_GAP_S
    assert faults.handle_timer(NOW + STANDBY_GAP_S) == [Tell(Event.SETTLED)]
    assert faults.call_over(NOW + STANDBY_GAP_S + 0.1) == [], "nor twice in the next second"
    faults.handle_timer(NOW + 2 * STANDBY_GAP_S)
    assert faults.call_over(NOW + 5.0) == [Tell(Event.SETTLED)], "this one took its time"


def test_a_call_that_was_heard_is_cleared_away_at_once() -> None:
    faults = Faults()
    faults.state_changed(State.ENDED)
    for _ in range(3):
        assert faults.call_over(NOW) == [Tell(Event.SETTLED)]


def test_a_stuck_button_is_a_fault_until_it_is_free() -> None:
    faults = Faults()
    faults.panel_changed("button_stuck")
    assert faults.current == "button_stuck"
    faults.panel_changed(None)
    assert faults.current is None
    assert faults.changes() == [("panel", "button_stuck"), ("panel", None)]
