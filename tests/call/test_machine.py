"""The call machine: its table event by event, its signs, and what no sequence of events can do."""

from __future__ import annotations

from copy import deepcopy

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from voicemeet_edge.backend.verbs import Role
from voicemeet_edge.call.actions import (
    Accept,
    Action,
    FileReport,
    Hangup,
    Play,
    Say,
    Seek,
    Show,
    SpeakWords,
    StandBy,
    StartAudio,
    StartListening,
    StopAudio,
)
from voicemeet_edge.call.machine import (
    IN_CALL,
    SETTLE_LIMIT_S,
    TABLE,
    CallMachine,
    Event,
    ReportState,
    State,
    end_tone,
)
from voicemeet_edge.call.signs import Lamp, Prompt, Tone
from voicemeet_edge.errors import IllegalEventError
from voicemeet_edge.reasons import EndReason, ReasonKind
from voicemeet_edge.settings import CallSettings

RULES = CallSettings(max_call_s=600.0, warn_before_end_s=60.0)


class Device:
    """A machine with a hand on its clock and a microphone that obeys its actions."""

    def __init__(self, role: Role = Role.EITHER) -> None:
        self.machine = CallMachine(CallSettings(**{**RULES.__dict__, "role": role}))
        self.now = 1000.0
        self.microphone = False
        self.done: list[Action] = []
        self.take(self.machine.start(self.now))

    def state(self) -> State:
        return self.machine.state

    def lamp(self) -> Lamp:
        return self.machine.lamp

    def take(self, actions: list[Action]) -> list[Action]:
        taken = list(actions)
        for action in actions:
            if isinstance(action, StartAudio | StopAudio):
                self.microphone = isinstance(action, StartAudio)
                taken += self.machine.capture_changed(self.microphone)
        self.done += taken
        return taken

    def happens(self, event: Event, reason: EndReason = EndReason.FAILED, after: float = 1.0) -> list[Action]:
        self.now += after
        return self.take(self.machine.handle(event, self.now, reason))

    def wait_for_deadline(self) -> list[Action]:
        deadline = self.machine.deadline
        assert deadline is not None
        self.now = max(self.now, deadline)
        return self.take(self.machine.handle_timer(self.now))

    def talk(self) -> None:
        self.happens(Event.CALL_PRESSED)
        self.happens(Event.MATCHED_TALK)
        self.happens(Event.CONNECTED)
        assert self.machine.state is State.TALKING


def lamps(actions: list[Action]) -> list[Lamp]:
    return [action.lamp for action in actions if isinstance(action, Show)]


def tones(actions: list[Action]) -> list[Tone]:
    return [action.tone for action in actions if isinstance(action, Play)]


def test_two_strangers_talk_and_one_hangs_up() -> None:
    device = Device()
    device.machine.backend_changed(True)
    seeking = device.happens(Event.CALL_PRESSED)
    assert Seek() in seeking
    assert Play(Tone.SEEKING, repeat=True) in seeking
    device.happens(Event.MATCHED_TALK)
    assert device.state() is State.CONNECTING
    assert not device.microphone
    connected = device.happens(Event.CONNECTED)
    assert tones(connected) == [Tone.CONNECTED]
    assert lamps(connected)[-1] is Lamp.MICROPHONE_OPEN
    ended = device.happens(Event.CALL_PRESSED)
    assert [type(action) for action in ended if isinstance(action, StopAudio | Hangup)] == [StopAudio, Hangup]
    assert Hangup(EndReason.HUNG_UP) in ended
    assert not device.microphone
    settled = device.happens(Event.SETTLED)
    assert device.state() is State.IDLE
    assert lamps(settled) == [] or lamps(settled)[-1] is Lamp.READY


def test_an_intercom_rings_only_when_the_other_side_rings() -> None:
    caller = Device(Role.CALLER)
    caller.happens(Event.CALL_PRESSED)
    matched = caller.happens(Event.MATCHED_CALLING)
    assert Tone.RINGBACK not in tones(matched)
    assert caller.lamp() is Lamp.SEEKING
    ringing = caller.happens(Event.PEER_RINGS)
    assert tones(ringing) == [Tone.RINGBACK]
    assert caller.lamp() is Lamp.RINGING
    assert caller.happens(Event.PEER_RINGS) == [], "a second ring changes nothing"
    caller.happens(Event.PEER_ACCEPTED)
    assert caller.state() is State.CONNECTING


def test_an_answerer_stands_by_is_called_and_accepts() -> None:
    desk = Device(Role.ANSWERER)
    assert StandBy() in desk.done
    assert tones(desk.happens(Event.CALL_PRESSED)) == [Tone.BUSY], "it cannot call anybody"
    assert desk.state() is State.IDLE
    ringing = desk.happens(Event.MATCHED_CALLED)
    assert Play(Tone.INCOMING, repeat=True) in ringing
    assert not desk.microphone
    accepted = desk.happens(Event.CALL_PRESSED)
    assert Accept() in accepted
    desk.happens(Event.CONNECTED)
    desk.happens(Event.PEER_BYE, EndReason.HUNG_UP)
    assert desk.machine.end_reason == "peer_hung_up"
    assert StandBy() in desk.happens(Event.SETTLED)


@pytest.mark.parametrize("reason", [one for one in EndReason if one.kind is ReasonKind.DISTRUST])
def test_distrust_has_a_lamp_and_a_tone_of_its_own(reason: EndReason) -> None:
    device = Device()
    device.happens(Event.CALL_PRESSED)
    device.happens(Event.MATCHED_TALK)
    ended = device.happens(Event.FAILED, reason)
    assert tones(ended) == [Tone.DISTRUST]
    assert device.lamp() is Lamp.DISTRUST
    device.happens(Event.SETTLED)
    assert device.lamp() is Lamp.DISTRUST, "the sign stays when the call is cleared away"
    device.wait_for_deadline()
    assert device.lamp() is Lamp.WAITING


def test_a_lost_path_closes_the_microphone_and_its_return_opens_it() -> None:
    device = Device()
    device.talk()
    lost = device.happens(Event.PATH_LOST)
    assert tones(lost) == [Tone.PATH_LOST]
    assert not device.microphone
    assert device.lamp() is Lamp.RECONNECTING
    back = device.happens(Event.CONNECTED)
    assert tones(back) == [Tone.PATH_BACK]
    assert device.microphone


def test_a_path_that_stays_away_ends_the_call_by_itself() -> None:
    device = Device()
    device.talk()
    device.happens(Event.PATH_LOST)
    device.wait_for_deadline()
    assert device.state() is State.ENDED
    assert device.machine.end_reason == "path_lost"


def test_the_longest_call_warns_and_then_ends() -> None:
    device = Device()
    device.talk()
    assert tones(device.wait_for_deadline()) == [Tone.TIME_WARNING]
    assert device.state() is State.TALKING
    device.wait_for_deadline()
    assert device.machine.end_reason == "time_limit"
    assert not device.microphone


def test_the_servers_shorter_limit_counts_for_this_call_only() -> None:
    device = Device()
    device.machine.set_call_limit(120.0)
    device.talk()
    start = device.now
    device.wait_for_deadline()
    device.wait_for_deadline()
    assert device.now - start == pytest.approx(120.0)
    device.happens(Event.SETTLED)
    device.talk()
    start = device.now
    device.wait_for_deadline()
    device.wait_for_deadline()
    assert device.now - start == pytest.approx(600.0)


def test_report_in_a_call_files_and_ends_it() -> None:
    device = Device()
    device.talk()
    actions = device.happens(Event.REPORT_PRESSED)
    assert FileReport() in actions
    assert Hangup(EndReason.REPORTED) in actions
    assert device.state() is State.ENDED


def test_report_after_a_call_is_taken_once_and_only_in_its_window() -> None:
    device = Device()
    device.talk()
    device.happens(Event.CALL_PRESSED)
    device.happens(Event.SETTLED)
    assert FileReport() in device.happens(Event.REPORT_PRESSED, after=20.0)
    assert tones(device.happens(Event.REPORT_PRESSED)) == [Tone.REPORT_FAILED], "already filed"
    device.talk()
    device.happens(Event.CALL_PRESSED)
    device.happens(Event.SETTLED)
    late = device.happens(Event.REPORT_PRESSED, after=31.0)
    assert FileReport() not in late
    assert tones(late) == [Tone.REPORT_FAILED]


def test_a_report_waits_is_sent_and_the_sign_goes_away() -> None:
    device = Device()
    assert lamps(device.machine.report_changed(ReportState.WAITING, device.now)) == [Lamp.REPORT_WAITING]
    assert device.machine.report_changed(ReportState.WAITING, device.now) == [], "said once"
    sent = device.machine.report_changed(ReportState.SENT, device.now)
    assert tones(sent) == [Tone.REPORT_SENT]
    assert lamps(sent) == [Lamp.REPORT_SENT]
    device.wait_for_deadline()
    assert device.lamp() is Lamp.WAITING


def test_pressing_again_while_the_last_call_is_cleared_away_calls_again() -> None:
    device = Device()
    device.talk()
    device.happens(Event.CALL_PRESSED)
    device.happens(Event.CALL_PRESSED)
    assert device.state() is State.ENDED
    assert Seek() in device.happens(Event.SETTLED)
    assert device.state() is State.SEEKING


def test_a_bouncing_button_is_one_press() -> None:
    device = Device()
    device.happens(Event.CALL_PRESSED)
    assert device.happens(Event.CALL_PRESSED, after=0.05) == []
    assert device.state() is State.SEEKING


def test_held_in_talking_speaks_the_words_and_nowhere_else() -> None:
    device = Device()
    assert device.happens(Event.CALL_HELD) == []
    device.talk()
    assert SpeakWords() in device.happens(Event.CALL_HELD)


def test_cancelling_a_search_is_silent_and_nobody_there_is_not() -> None:
    device = Device()
    device.happens(Event.CALL_PRESSED)
    assert tones(device.happens(Event.CALL_PRESSED)) == []
    assert device.machine.end_reason == "cancelled"
    device.happens(Event.SETTLED)
    device.happens(Event.CALL_PRESSED)
    assert tones(device.wait_for_deadline()) == [Tone.BUSY]
    assert device.machine.end_reason == "nobody"


def test_a_call_that_did_not_work_shows_on_the_lamp_for_a_while() -> None:
    device = Device()
    device.machine.backend_changed(True)
    device.happens(Event.CALL_PRESSED)
    assert tones(device.happens(Event.FAILED, EndReason.TURN_UNAUTHORIZED)) == [Tone.FAILED]
    device.happens(Event.SETTLED)
    assert device.lamp() is Lamp.ERROR
    device.wait_for_deadline()
    assert device.lamp() is Lamp.READY


def test_pressing_again_takes_the_sign_of_the_failure_away() -> None:
    device = Device()
    device.happens(Event.CALL_PRESSED)
    device.happens(Event.FAILED, EndReason.TURN_UNAUTHORIZED)
    device.happens(Event.SETTLED)
    device.happens(Event.CALL_PRESSED)
    assert device.lamp() is Lamp.SEEKING
    device.happens(Event.CALL_PRESSED)
    device.happens(Event.SETTLED)
    assert device.lamp() is Lamp.WAITING


def test_a_fault_shows_until_it_is_mended() -> None:
    device = Device()
    device.machine.backend_changed(True)
    assert lamps(device.machine.fault_changed("sound_device_lost")) == [Lamp.ERROR]
    assert lamps(device.machine.fault_changed(None)) == [Lamp.READY]


# How a device gets into each state, by its role.
WAYS = {
    State.IDLE: [],
    State.SEEKING: [Event.CALL_PRESSED],
    State.RINGING: [Event.MATCHED_CALLED],
    State.CONNECTING: [Event.CALL_PRESSED, Event.MATCHED_TALK],
    State.TALKING: [Event.CALL_PRESSED, Event.MATCHED_TALK, Event.CONNECTED],
    State.RECONNECTING: [Event.CALL_PRESSED, Event.MATCHED_TALK, Event.CONNECTED, Event.PATH_LOST],
    State.ENDED: [Event.CALL_PRESSED, Event.FAILED],
}
DESK_WAYS = {
    State.IDLE: [],
    State.RINGING: [Event.MATCHED_CALLED],
    State.CONNECTING: [Event.MATCHED_CALLED, Event.CALL_PRESSED],
    State.TALKING: [Event.MATCHED_CALLED, Event.CALL_PRESSED, Event.CONNECTED],
    State.RECONNECTING: [Event.MATCHED_CALLED, Event.CALL_PRESSED, Event.CONNECTED, Event.PATH_LOST],
    State.ENDED: [Event.MATCHED_CALLED, Event.FAILED],
}
# What the machine's docstring says that the table cannot show.
MEANINGS = {(Role.ANSWERER, State.IDLE, Event.CALL_PRESSED): Event.CALL_IMPOSSIBLE}


def in_state(state: State, role: Role) -> Device:
    device = Device(role)
    for event in (DESK_WAYS if role is Role.ANSWERER else WAYS)[state]:
        device.happens(event)
    assert device.state() is state
    return device


@pytest.mark.parametrize(
    ("role", "state", "event"),
    [
        (role, state, event)
        for role in Role
        for state in (DESK_WAYS if role is Role.ANSWERER else WAYS)
        for event in TABLE[state]
    ],
    ids=lambda value: value.value,
)
def test_after_every_event_it_is_where_the_table_says(role: Role, state: State, event: Event) -> None:
    device = in_state(state, role)
    device.happens(event)
    assert device.state() is TABLE[state][MEANINGS.get((role, state, event), event)]


@pytest.mark.parametrize(
    ("role", "target"),
    [(Role.EITHER, Event.REDIAL), (Role.CALLER, Event.REDIAL), (Role.ANSWERER, Event.SETTLED)],
)
def test_a_press_while_the_last_call_is_cleared_away_makes_settled_a_redial(
    role: Role, target: Event
) -> None:
    device = in_state(State.ENDED, role)
    device.happens(Event.CALL_PRESSED)
    device.happens(Event.SETTLED)
    assert device.state() is TABLE[State.ENDED][target]
    again = in_state(State.ENDED, role)
    again.happens(Event.CALL_PRESSED)
    again.now += SETTLE_LIMIT_S  # it is not cleared away in time, and settles all the same
    again.take(again.machine.handle_timer(again.now))
    assert again.state() is TABLE[State.ENDED][target]


def test_a_desk_stands_by_again_after_a_call_nobody_knew_of() -> None:
    assert StandBy() in in_state(State.IDLE, Role.ANSWERER).happens(Event.SETTLED)
    assert in_state(State.IDLE, Role.CALLER).happens(Event.SETTLED) == []


def test_the_sign_of_one_report_does_not_take_the_next_ones_away() -> None:
    device = Device()
    device.machine.report_changed(ReportState.SENT, device.now)
    device.machine.report_changed(ReportState.WAITING, device.now + 1.0)
    device.now += 60.0
    device.take(device.machine.handle_timer(device.now))
    assert device.lamp() is Lamp.REPORT_WAITING, "it still waits"


@pytest.mark.parametrize("state", list(State))
def test_an_illegal_event_raises_and_changes_nothing(state: State) -> None:
    for event in Event:
        if event in TABLE[state]:
            continue
        device = Device()
        device.machine.state = state
        before = dict(vars(device.machine))
        with pytest.raises(IllegalEventError):
            device.machine.handle(event, device.now)
        assert vars(device.machine) == before


@pytest.mark.parametrize("reason", list(EndReason))
def test_every_reason_has_a_tone_but_the_persons_own_cancelling(reason: EndReason) -> None:
    tone = end_tone(reason)
    assert (tone is None) == (reason is EndReason.CANCELLED)
    assert (tone is Tone.DISTRUST) == (reason.kind is ReasonKind.DISTRUST)


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        (EndReason.HUNG_UP, EndReason.PEER_HUNG_UP),
        (EndReason.REPORTED, EndReason.PEER_HUNG_UP),
        (EndReason.DECLINED, EndReason.DECLINED),
        (EndReason.WRONG_KEY, EndReason.WRONG_KEY),
    ],
)
def test_what_the_other_side_says_is_told_as_its_doing(said: EndReason, meant: EndReason) -> None:
    device = Device()
    device.talk()
    device.happens(Event.PEER_BYE, said)
    assert device.machine.end_reason is meant


STEPS = st.lists(
    st.tuples(
        st.sampled_from([*Event, None]),
        st.sampled_from(EndReason),
        st.floats(0.0, 700.0),
    ),
    max_size=60,
)


@settings(max_examples=400, deadline=None)
@given(STEPS, st.sampled_from(list(Role)))
def test_no_sequence_of_events_traps_it_or_leaves_a_microphone_open(
    steps: list[tuple[Event | None, EndReason, float]], role: Role
) -> None:
    device = Device(role)
    for event, reason, wait in steps:
        device.now += wait
        while device.machine.deadline is not None and device.machine.deadline <= device.now:
            before = (device.machine.deadline, device.machine.state)
            device.take(device.machine.handle_timer(device.now))
            assert (device.machine.deadline, device.machine.state) != before, "a timer that never ends"
        if event is not None and event in TABLE[device.machine.state]:
            device.take(device.machine.handle(event, device.now, reason))
        check_invariants(device)
    for _ in range(12):  # left alone, it comes home
        if device.state() is State.IDLE:
            break
        device.wait_for_deadline()
        check_invariants(device)
    assert device.state() is State.IDLE


def check_invariants(device: Device) -> None:
    machine = device.machine
    assert device.microphone == (machine.state is State.TALKING)
    assert (machine.lamp is Lamp.MICROPHONE_OPEN) == device.microphone
    if machine.state is not State.IDLE:
        assert machine.deadline is not None, "every state but idle ends by itself"
    if machine.state in IN_CALL or machine.state is State.SEEKING:
        trial = deepcopy(machine)
        trial.handle(Event.CALL_PRESSED, device.now + 1.0)
        assert trial.state is State.ENDED, "a press does not end it"


def test_an_announcement_plays_opens_no_microphone_and_ends_by_a_press_or_in_time() -> None:
    for end in (Event.CALL_PRESSED, Event.TIME_LIMIT):
        device = Device(Role.CALLER)
        begun = device.happens(Event.MATCHED_ANNOUNCED)
        assert tones(begun) == [Tone.ANNOUNCEMENT]
        assert Accept() in begun
        assert device.lamp() is Lamp.ANNOUNCEMENT
        assert StartListening() in device.happens(Event.CONNECTED)
        assert not device.microphone
        if end is Event.CALL_PRESSED:
            device.happens(end)
        else:
            device.wait_for_deadline()
        assert device.state() is State.ENDED
        assert not any(isinstance(action, StartAudio) for action in device.done)


def test_an_open_door_is_shown_beside_the_open_microphone_and_not_without_it() -> None:
    device = Device(Role.CALLER)
    device.talk()
    opened = device.machine.door_opened(3.0, device.now)
    assert tones(opened) == [Tone.DOOR_OPEN]
    assert Say(Prompt.DOOR_OPEN) in opened
    assert device.lamp() is Lamp.DOOR_OPEN
    device.machine.capture_changed(False)
    assert device.lamp() is Lamp.CONNECTING, "a lamp that claims an open microphone would lie"
    device.machine.capture_changed(True)
    device.now += 3.0
    device.machine.handle_timer(device.now)
    assert device.lamp() is Lamp.MICROPHONE_OPEN


def test_a_visitor_hears_why_nobody_comes_and_his_place_in_the_line() -> None:
    for reason, prompt in (
        (EndReason.NOBODY, Prompt.NOBODY),
        (EndReason.NO_ANSWER, Prompt.NO_ANSWER),
        (EndReason.AWAY, Prompt.AWAY),
        (EndReason.DECLINED, Prompt.DECLINED),
    ):
        device = Device(Role.CALLER)
        device.happens(Event.CALL_PRESSED)
        ended = device.happens(Event.FAILED, reason)
        assert Say(prompt) in ended
        assert tones(ended) == [Tone.BUSY]
    device = Device(Role.CALLER)
    assert device.machine.queued(2) == []
    device.happens(Event.CALL_PRESSED)
    assert device.machine.queued(2) == [Say(Prompt.QUEUED, 2)]
    assert Say(Prompt.NO_ANSWER) in device.wait_for_deadline(), "somebody was there"


def test_who_answered_and_was_lost_leads_back_to_ringing() -> None:
    device = Device(Role.CALLER)
    device.happens(Event.CALL_PRESSED)
    assert tones(device.happens(Event.PEER_RINGS)) == [Tone.RINGBACK]
    assert tones(device.happens(Event.PEER_LOST)) == [Tone.SEEKING]
    device.happens(Event.PEER_ACCEPTED)
    again = device.happens(Event.PEER_LOST)
    assert device.state() is State.SEEKING
    assert tones(again) == [Tone.SEEKING]
    assert Seek() not in again, "the ring goes on by itself"
