"""When a path is dead, when a new one is asked for, which one is used: told time, no clock."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from voicemeet_edge.call.commands import DropConnection, SendSilence, Tell, UseConnection
from voicemeet_edge.call.liveness import (
    BYE_GRACE_S,
    FIRST_PACKET_S,
    GONE_S,
    QUIET_S,
    RESTART_EVERY_S,
    SILENT_S,
    STALL_S,
    Liveness,
    LivenessCommand,
    RestartPath,
)
from voicemeet_edge.call.machine import Event
from voicemeet_edge.reasons import EndReason

PEER, OTHER = b"p" * 32, b"o" * 32
UP, LOST = Tell(Event.CONNECTED), Tell(Event.PATH_LOST)


def failed(reason: EndReason) -> Tell:
    return Tell(Event.FAILED, reason)


class Path:
    """A liveness with a hand on its clock."""

    def __init__(self) -> None:
        self.core = Liveness()
        self.now = 1000.0

    def connect(self, attempt: int = 0, fingerprint: bytes = PEER) -> list[LivenessCommand]:
        self.core.building(attempt, self.now)
        return self.core.connected(attempt, fingerprint, self.now)

    def wait(self, seconds: float, *, heard: bool = False, sent: bool = True) -> list[LivenessCommand]:
        """Let time pass in small steps, with packets coming and going or not; silence is not returned."""
        end, commands = self.now + seconds, []
        while self.now < end:
            self.now = min(end, self.now + 0.02)
            if heard:
                commands += self.core.heard(self.now)
            if sent:
                self.core.sent(self.now)
            commands += self.core.handle_timer(self.now)
        return [command for command in commands if command != SendSilence()]

    def up(self) -> None:
        self.connect()
        self.wait(1.0, heard=True)


def test_nothing_is_due_before_the_first_connection() -> None:
    core = Liveness()
    assert core.deadline is None
    assert core.handle_timer(1e9) == []


def test_the_first_connection_is_used_and_told() -> None:
    path = Path()
    assert path.connect() == [UseConnection(0), UP]
    assert path.core.is_up


def test_the_peer_has_time_to_open_its_microphone_and_then_less() -> None:
    path = Path()
    path.connect()
    assert path.wait(FIRST_PACKET_S - 0.1) == []
    assert path.wait(0.2) == [LOST, RestartPath()]
    path = Path()
    path.up()
    assert path.wait(SILENT_S - 0.1) == []
    assert path.wait(0.2) == [LOST, RestartPath()]


def test_a_machine_that_stood_still_looks_into_its_sockets_before_it_calls_a_path_dead() -> None:
    path = Path()
    path.up()
    path.now += 30.0  # nobody was called in time, so nothing was taken in either
    assert LOST not in path.core.handle_timer(path.now)
    assert path.core.deadline is not None
    assert path.core.deadline <= path.now + STALL_S
    path.core.heard(path.now + 0.01)
    assert path.wait(1.0, heard=True) == []
    path.now += 30.0
    path.core.handle_timer(path.now)
    assert path.wait(STALL_S + 0.1) == [LOST, RestartPath()], "it was the path after all"


def test_a_failed_connection_is_lost_however_late_one_looks() -> None:
    path = Path()
    path.up()
    path.core.failed(0, EndReason.PATH_LOST, path.now)
    path.now += 30.0
    assert LOST in path.core.handle_timer(path.now)


def test_while_packets_come_nothing_is_told() -> None:
    path = Path()
    path.up()
    assert path.wait(30.0, heard=True) == []


def test_a_lost_path_asks_for_a_new_connection_again_and_again() -> None:
    path = Path()
    path.up()
    lost = path.wait(SILENT_S + 0.1 + 2 * RESTART_EVERY_S)
    assert lost == [LOST, RestartPath(), RestartPath(), RestartPath()]


def test_each_new_connection_gets_its_time_before_the_next() -> None:
    path = Path()
    path.up()
    path.wait(SILENT_S + 0.1)
    assert path.wait(RESTART_EVERY_S - 0.5) == []
    path.core.building(1, path.now)  # the other side was slow to ask for it
    assert path.wait(RESTART_EVERY_S - 0.1) == []
    assert path.wait(0.2) == [RestartPath()]


def test_the_old_connection_coming_back_heals_the_path() -> None:
    path = Path()
    path.up()
    path.wait(SILENT_S + 0.1)
    path.core.building(1, path.now)
    assert path.core.heard(path.now) == [UP]
    assert not path.core.is_lost
    assert path.wait(RESTART_EVERY_S + 1, heard=True) == [], "nothing is asked for any more"


def test_what_was_heard_before_the_loss_does_not_heal_it() -> None:
    path = Path()
    path.up()
    last = path.now
    path.wait(SILENT_S + 0.1)
    assert path.core.heard(last) == []
    assert path.core.is_lost


def test_the_new_connection_heals_the_path_and_takes_the_olds_place() -> None:
    path = Path()
    path.up()
    path.wait(SILENT_S + 0.1)
    assert path.connect(1) == [UseConnection(1), UP]
    assert path.core.failed(0, EndReason.PATH_LOST, path.now) == [], "the old one is gone and says nothing"


def test_a_new_connection_while_the_old_one_lives_is_used_without_news() -> None:
    path = Path()
    path.up()
    assert path.connect(1) == [UseConnection(1)]


def test_a_connection_that_is_not_ready_gives_way_to_the_next() -> None:
    path = Path()
    path.up()
    assert path.core.building(1, path.now) == []
    assert path.core.building(2, path.now) == [DropConnection(1)]
    assert path.core.connected(1, PEER, path.now) == [], "it was dropped"
    assert path.core.connected(2, PEER, path.now) == [UseConnection(2)]


def test_another_certificate_in_the_same_call_ends_it_and_is_never_used() -> None:
    path = Path()
    path.up()
    assert path.connect(1, OTHER) == [DropConnection(1), failed(EndReason.FINGERPRINT_CHANGED)]


@pytest.mark.parametrize(
    "reason", [EndReason.ICE_FAILED, EndReason.TURN_UNAUTHORIZED, EndReason.NO_SRTP_PROFILE]
)
def test_the_first_connection_failing_fails_the_call(reason: EndReason) -> None:
    path = Path()
    path.core.building(0, path.now)
    assert path.core.failed(0, reason, path.now) == [DropConnection(0), failed(reason)]
    assert path.core.failed(0, reason, path.now) == [], "said once"


def test_a_call_outlives_a_failed_attempt_and_tries_again() -> None:
    path = Path()
    path.up()
    path.wait(SILENT_S + 0.1)
    path.core.building(1, path.now)
    assert path.core.failed(1, EndReason.ICE_FAILED, path.now) == [DropConnection(1)]
    assert path.wait(RESTART_EVERY_S + 0.1) == [RestartPath()]


@pytest.mark.parametrize("reason", [EndReason.FINGERPRINT_MISMATCH, EndReason.CERTIFICATE_REFUSED])
def test_a_false_certificate_in_a_later_attempt_ends_the_call_on_either_side(reason: EndReason) -> None:
    path = Path()
    path.up()
    path.core.building(1, path.now)
    assert path.core.failed(1, reason, path.now) == [DropConnection(1), failed(reason)]


def test_the_connection_in_use_failing_is_a_loss_at_once() -> None:
    path = Path()
    path.up()
    assert path.core.failed(0, EndReason.PATH_LOST, path.now) == []
    assert path.core.deadline == path.now
    assert path.wait(0.02) == [LOST, RestartPath()]
    assert path.core.heard(path.now) == [], "a failed connection does not come back"


def test_a_new_connection_does_not_bear_what_was_held_against_the_old_one() -> None:
    path = Path()
    path.up()
    path.core.failed(0, EndReason.PATH_LOST, path.now)
    path.wait(0.1)
    assert path.connect(1) == [UseConnection(1), UP]
    assert path.wait(5.0, heard=True) == []


def test_a_closed_connection_waits_a_moment_for_the_goodbye() -> None:
    path = Path()
    path.up()
    assert path.core.closed_by_peer(0, path.now) == []
    assert path.wait(BYE_GRACE_S - 0.1) == []
    assert path.wait(0.2) == [LOST, RestartPath()]


def test_a_peer_that_closed_and_does_not_come_back_is_gone() -> None:
    # Fails when a visitor waits twenty seconds for a desk whose page has crashed.
    path = Path()
    path.up()
    path.core.closed_by_peer(0, path.now)
    path.wait(BYE_GRACE_S + 0.1)
    path.core.building(1, path.now)  # we offer; whether anybody is there is not known by that
    assert path.wait(GONE_S - BYE_GRACE_S) == [failed(EndReason.PEER_CLOSED)]


def test_a_peer_that_closed_and_speaks_makes_a_new_connection() -> None:
    # A page closes the old connection before it offers the new one, and on a bad line that takes its time.
    path = Path()
    path.up()
    path.core.closed_by_peer(0, path.now)
    path.wait(BYE_GRACE_S + 0.1)
    path.core.spoken_to()
    path.core.building(1, path.now)
    assert failed(EndReason.PEER_CLOSED) not in path.wait(2.0 * GONE_S)
    assert path.connect(2) == [UseConnection(2), UP]


def test_a_peer_that_closed_because_it_has_a_new_connection_is_not_gone() -> None:
    path = Path()
    path.up()
    path.core.building(1, path.now)
    path.core.closed_by_peer(0, path.now)
    path.now += 0.1
    path.core.connected(1, PEER, path.now)
    assert path.wait(5.0, heard=True) == []


def test_the_peer_closing_before_the_call_began_fails_it() -> None:
    path = Path()
    path.core.building(0, path.now)
    assert path.core.closed_by_peer(0, path.now) == [DropConnection(0), failed(EndReason.PEER_CLOSED)]


def test_silence_is_sent_only_while_nothing_else_is() -> None:
    path = Path()
    path.up()
    path.core.sent(path.now)
    path.now += QUIET_S - 0.01
    assert path.core.handle_timer(path.now) == []
    path.now += 0.02
    assert path.core.handle_timer(path.now) == [SendSilence()]
    assert path.core.handle_timer(path.now) == [], "once"
    path.now += QUIET_S
    assert SendSilence() in path.core.handle_timer(path.now)


def test_silence_goes_out_at_once_when_a_connection_is_up() -> None:
    path = Path()
    path.connect()
    assert path.core.deadline == path.now
    assert path.core.handle_timer(path.now) == [SendSilence()]


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["build", "connect", "impostor", "fail", "close", "heard", "sent", "timer"]),
        st.integers(0, 3),
        st.floats(0.0, 4.0),
    ),
    max_size=60,
)


@settings(max_examples=300, deadline=None)
@given(STEPS)
def test_whatever_happens_it_goes_on_and_uses_only_what_is_there(steps: list[tuple[str, int, float]]) -> None:
    core, now, built = Liveness(), 1000.0, -1
    living: set[int] = set()
    is_over = False
    for what, attempt, wait in steps:
        now += wait
        commands: list[LivenessCommand] = []
        match what:
            case "build":
                built += 1
                living.add(built)
                commands = core.building(built, now)
            case "connect" | "impostor":
                commands = core.connected(attempt, PEER if what == "connect" else OTHER, now)
            case "fail":
                commands = core.failed(attempt, EndReason.ICE_FAILED, now)
            case "close":
                commands = core.closed_by_peer(attempt, now)
            case "heard":
                commands = core.heard(now)
            case "sent":
                core.sent(now)
            case "timer":
                commands = core.handle_timer(now)
                assert core.deadline is None or core.deadline > now, "a timer that never ends"
        for command in commands:
            match command:
                case UseConnection(used):
                    assert used in living
                case DropConnection(dropped):
                    assert dropped in living
                    living.discard(dropped)
                case Tell(Event.FAILED):
                    is_over = True
                case _:
                    pass
        assert core.is_up == (core.deadline is not None), "up, and nobody looks"
        if core.is_lost and not is_over:
            assert core.deadline is not None
            assert core.deadline <= now + RESTART_EVERY_S
