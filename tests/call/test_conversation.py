"""One call's talk, decision by decision, with time in the hand; and then anything in any order."""

from __future__ import annotations

import pytest

from tests.call.ends import KEY, OTHER_KEY, TOKEN_TTL_S, Call, End, fresh
from voicemeet_edge.call.commands import (
    CheckNetwork,
    Command,
    Leave,
    MakeOffer,
    Publish,
    Renew,
    SendSilence,
    Tell,
    UseConnection,
    UseGrant,
    WordsKnown,
    WordsMissing,
)
from voicemeet_edge.call.conversation import (
    ARRIVE_TIMEOUT_S,
    CALLER_TIMEOUT_S,
    HELLO_TIMEOUT_S,
    JOIN_TIMEOUT_S,
    WORDS_TIMEOUT_S,
)
from voicemeet_edge.call.liveness import FIRST_PACKET_S, GONE_S, RESTART_EVERY_S
from voicemeet_edge.call.machine import Event
from voicemeet_edge.call.negotiation import Kind
from voicemeet_edge.call.renewal import RENEW_GAP_S, RENEW_SHARE
from voicemeet_edge.reasons import EndReason
from voicemeet_edge.secret import Secret
from voicemeet_edge.signaling.channel import ChannelState
from voicemeet_edge.signaling.messages import Slot

HALF_LIFE_S = TOKEN_TTL_S * RENEW_SHARE


def bye_of(end: End) -> str | None:
    """The reason in the goodbye of an end without keys; None when it left without one."""
    assert end.left is not None
    return None if end.left.bye is None else str(end.left.bye.payload["reason"])


def failed(reason: EndReason) -> Tell:
    return Tell(Event.FAILED, reason)


def stranger(event: str = "hello") -> Publish:
    """A message of whoever, that no inbox takes."""
    return Publish(event, {"v": 1, "slot": "b", "seq": "none"})


# -- beginning -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "event"), [(Kind.MEET, Event.MATCHED_TALK), (Kind.CALLING, Event.MATCHED_CALLING)]
)
def test_who_pressed_call_is_told_of_the_match_at_once(kind: Kind, event: Event) -> None:
    end = End(kind=kind)
    end.start()
    assert end.events() == [event]


def test_a_desk_rings_when_its_caller_is_there_and_not_before() -> None:
    call = Call(End("a", Kind.CALLING), End("b", Kind.CALLED))
    assert call.b.events() == []
    call.deliver()
    assert call.b.events() == [Event.MATCHED_CALLED]
    assert call.a.events() == [Event.MATCHED_CALLING, Event.PEER_RINGS]


def test_nothing_of_an_earlier_call_is_obeyed_when_the_hub_gives_its_id_again() -> None:
    # Fails when the conversation takes a knock for the peer, or the keys hang on the call id alone.
    keys = (KEY,)
    first = Call(End("a", Kind.CALLING, keys=keys), End("b", Kind.CALLED, keys=keys))
    first.deliver()
    first.b.take(first.b.core.accept(first.b.now))
    first.deliver()
    said = {end.slot: [one for one in end.seen if isinstance(one, Publish)] for end in (first.a, first.b)}
    assert {"hello", "ring", "accept"} <= {message.event for message in said["b"]}
    desk, caller = End("b", Kind.CALLED, keys=keys), End("a", Kind.CALLING, keys=keys)
    for end, old in ((desk, said["a"]), (caller, said["b"])):
        end.start()
        for message in [*old, *old]:
            end.hear(message)
    assert desk.events() == [], "it rings for somebody who is not there"
    assert {Event.PEER_RINGS, Event.PEER_ACCEPTED}.isdisjoint(caller.events()), "it believes yesterday's desk"
    said_again = {one.event for end in (desk, caller) for one in end.seen if isinstance(one, Publish)}
    assert said_again <= {"hello", "bye"}


def test_missing_words_are_told_without_a_key_and_end_the_call_with_one() -> None:
    for keys in ((), (KEY,)):
        call = Call(End("a", keys=keys), End("b", keys=keys))
        call.deliver()
        for end in (call.a, call.b):
            end.core._exchange.words = lambda *_prints: None  # type: ignore[method-assign]
        call.connect()
        call.a.until(call.a.now + WORDS_TIMEOUT_S)
        if keys:
            assert failed(EndReason.WORDS_MISSING) in call.a.told
        else:
            assert WordsMissing() in call.a.seen
            assert Event.FAILED not in call.a.events()


@pytest.mark.parametrize("slot", ["a", "b"])
@pytest.mark.parametrize("keys", [(), (KEY,)], ids=["open", "sealed"])
def test_two_ends_talk_and_know_the_same_words(slot: Slot, keys: tuple[bytes, ...]) -> None:
    call = Call(End("a", offerer=slot, keys=keys), End("b", offerer=slot, keys=keys))
    call.talk()
    assert call.a.core.words is not None
    assert call.a.core.words == call.b.core.words
    assert [type(command) for command in call.a.seen].count(WordsKnown) == 1


def test_a_matched_party_that_never_shows_itself_ends_the_call() -> None:
    end = End()
    end.start()
    assert failed(EndReason.PEER_ABSENT) not in end.until(end.now + HELLO_TIMEOUT_S - 0.1)
    assert failed(EndReason.PEER_ABSENT) in end.until(end.now + 0.2)


def test_the_peer_has_its_time_from_our_join_on_and_a_rejoin_gives_it_no_more() -> None:
    end = End()
    end.start(join=False)
    end.until(end.now + JOIN_TIMEOUT_S - 0.1)  # a slow line
    end.join()
    joined_at = end.now
    end.until(joined_at + HELLO_TIMEOUT_S / 2)
    end.join(ChannelState.WAITING)
    end.join()
    assert failed(EndReason.PEER_ABSENT) not in end.until(joined_at + HELLO_TIMEOUT_S - 0.1)
    assert failed(EndReason.PEER_ABSENT) in end.until(joined_at + HELLO_TIMEOUT_S + 0.1)


def test_who_never_gets_into_the_channel_does_not_wait_for_ever() -> None:
    end = End()
    end.start(join=False)
    assert failed(EndReason.PEER_ABSENT) in end.until(end.now + JOIN_TIMEOUT_S)


@pytest.mark.parametrize("keys", [(), (KEY,)], ids=["open", "sealed"])
def test_a_caller_that_says_nothing_holds_a_desk_up_for_seconds_only(keys: tuple[bytes, ...]) -> None:
    # Fails when the answering end waits as long as a caller does.
    desk = End("b", Kind.CALLED, keys=keys)
    desk.start()
    desk.until(desk.now + CALLER_TIMEOUT_S - 0.1)
    assert desk.left is None
    desk.until(desk.now + 0.2)
    assert desk.left is not None, "free for the next one"
    assert desk.events() == [], "and nobody here had to know"


def test_a_caller_that_comes_just_in_time_rings_and_is_not_cut_off_for_it() -> None:
    call = Call(End("a", Kind.CALLING), End("b", Kind.CALLED))
    call.b.until(call.b.now + CALLER_TIMEOUT_S - 0.1)
    call.deliver()
    assert call.b.events() == [Event.MATCHED_CALLED]
    call.b.until(call.b.now + CALLER_TIMEOUT_S)
    assert call.b.left is None
    assert call.b.events() == [Event.MATCHED_CALLED]


def test_a_party_that_shows_itself_is_waited_for_no_longer() -> None:
    call = Call()
    call.deliver()
    call.a.until(call.a.now + HELLO_TIMEOUT_S + 1.0)
    assert Event.FAILED not in call.a.events()


# -- who the peer is -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ours", "theirs", "reason"),
    [
        ((KEY,), (), EndReason.PEER_NOT_SEALED),
        ((), (KEY,), EndReason.PEER_SEALED),
        ((KEY,), (OTHER_KEY,), EndReason.WRONG_KEY),
    ],
)
@pytest.mark.parametrize("event", ["hello", "bye", "ring"])
def test_keys_that_do_not_fit_end_the_call_by_the_peers_first_words_alone(
    ours: tuple[bytes, ...], theirs: tuple[bytes, ...], reason: EndReason, event: str
) -> None:
    end, peer = End("a", keys=ours), End("b", keys=theirs)
    peer.start()
    hello = peer.said[0]
    end.start()
    if event == "hello":
        assert end.hear(hello) == [failed(reason)]
    elif event == "bye":
        peer.core.receive("hello", {}, peer.now)  # somebody is there
        peer.take(peer.core.end(EndReason.HUNG_UP, peer.now))
        assert peer.left is not None
        assert peer.left.bye is not None
        assert end.hear(peer.left.bye) == [failed(reason)]
    else:
        assert end.hear(Publish("ring", hello.payload)) == [], "that is no way to introduce oneself"


def test_once_the_peer_has_proved_itself_noise_ends_nothing() -> None:
    call = Call(End("a", keys=(KEY,)), End("b", keys=(KEY,)))
    call.deliver()
    for noise in (Publish("hello", {"v": 1, "slot": "b", "seq": 900}), Publish("bye", {})):
        assert call.a.hear(noise) == []
    assert call.a.core.refused()["unsealed"] == 2


def test_what_is_no_message_is_dropped_and_counted() -> None:
    end = End()
    end.start()
    assert end.hear(stranger()) == []
    assert end.hear(Publish("dance", {"v": 1, "slot": "b", "seq": 1})) == []
    assert end.hear(Publish("hello", end.said[0].payload)) == [], "our own words come back"
    assert end.core.refused() == {"malformed": 2, "reflected": 1}


def test_another_end_than_the_one_that_said_hello_fails_the_call_and_is_never_talked_to() -> None:
    call = Call()
    call.deliver()
    call.a.connect(0, b"m" * 32)
    assert call.a.told[-1] == failed(EndReason.BAD_COMMITMENT)
    assert Event.CONNECTED not in call.a.events()


def test_words_are_checked_also_when_they_come_after_the_connection() -> None:
    call = Call()
    hello, *rest = call.b.said
    call.b.said = rest
    call.a.connect(0, b"m" * 32)
    assert call.a.events()[-1] is Event.CONNECTED, "nothing is known yet"
    call.a.hear(hello)
    call.b.hear(call.a.said.pop(0))
    call.deliver()
    assert call.a.told[-1] == failed(EndReason.BAD_COMMITMENT)


def test_a_call_fails_once() -> None:
    call = Call()
    call.deliver()
    call.a.connect(0, b"m" * 32)
    call.a.take(call.a.core.connection_failed(0, EndReason.FINGERPRINT_MISMATCH, call.a.now))
    assert call.a.events().count(Event.FAILED) == 1


# -- connections ---------------------------------------------------------------------------------


def test_a_description_that_is_no_good_ends_a_call_that_never_was_one() -> None:
    end = End()
    end.start()
    refused = end.core.refused_description(0, EndReason.NO_OPUS, end.now, by_peer=True)
    assert refused == [failed(EndReason.NO_OPUS)]


def test_a_call_that_talked_bears_a_bad_description_and_counts_it() -> None:
    call = Call()
    call.talk()
    call.a.until(call.a.now + FIRST_PACKET_S + 0.1)
    assert call.a.core.refused_description(1, EndReason.NO_OPUS, call.a.now, by_peer=True) == []
    assert call.a.core.refused_description(1, EndReason.NO_NETWORK, call.a.now, by_peer=False) == []
    assert call.a.core.refused()["malformed"] == 1


def test_what_went_wrong_with_a_connection_that_was_given_up_is_nobodys_business() -> None:
    end = End("b")
    end.start()
    end.hear(Publish("offer", {"v": 1, "slot": "a", "seq": 1, "sdp": "one", "attempt": 0}))
    end.hear(Publish("offer", {"v": 1, "slot": "a", "seq": 2, "sdp": "two", "attempt": 1}))
    assert end.core.refused_description(0, EndReason.FAILED, end.now, by_peer=False) == []
    end.take(end.core.refused_description(1, EndReason.BAD_SDP, end.now, by_peer=True))
    assert end.told[-1] == failed(EndReason.BAD_SDP)


def test_a_lost_path_is_told_and_a_new_one_made_with_fresh_credentials() -> None:
    call = Call()
    call.talk()
    lost = call.a.until(call.a.now + FIRST_PACKET_S + 0.1)
    assert Tell(Event.PATH_LOST) in lost
    assert CheckNetwork() in lost
    assert Renew(Secret("token 0")) in lost
    assert MakeOffer(1) in lost
    call.deliver()
    call.connect(1)
    assert call.a.events()[-1] is Event.CONNECTED
    assert call.a.used() == call.b.used() == 1


def test_the_answering_end_asks_for_the_new_path() -> None:
    call = Call()
    call.talk()
    call.b.until(call.b.now + FIRST_PACKET_S + 0.1)
    assert [message.event for message in call.b.said] == ["restart"]
    call.deliver()
    call.connect(1)
    assert call.b.used() == 1


@pytest.mark.parametrize("speaks", [False, True])
def test_a_peer_that_closed_is_gone_unless_it_speaks(speaks: bool) -> None:
    # A page closes its connection before it makes a new one; one that crashed says nothing any more.
    call = Call()
    call.talk()
    call.b.until(call.b.now + FIRST_PACKET_S + 0.1)  # it asks for a new path
    call.a.take(call.a.core.connection_closed(0, call.a.now))
    if speaks:
        call.deliver()
    told = call.a.until(call.a.now + GONE_S + 0.1)
    assert (failed(EndReason.PEER_CLOSED) in told) is not speaks


def test_a_path_that_heals_by_itself_is_told_at_once() -> None:
    call = Call()
    call.talk()
    call.a.until(call.a.now + FIRST_PACKET_S + 0.1)
    assert call.a.core.is_lost
    assert Tell(Event.CONNECTED) in call.a.core.traffic(call.a.now, 0.0, call.a.now)
    assert not call.a.core.is_lost


def test_silence_is_sent_while_nothing_else_is() -> None:
    call = Call()
    call.talk()
    assert call.a.until_deadline() == [SendSilence()]
    call.a.core.traffic(0.0, call.a.now + 5.0, call.a.now + 5.0)
    assert SendSilence() not in call.a.core.handle_timer(call.a.now + 5.1)


# -- tokens --------------------------------------------------------------------------------------


def renewals(commands: list[Command]) -> int:
    return sum(isinstance(command, Renew) for command in commands)


def test_the_token_is_renewed_at_half_its_life_again_and_again() -> None:
    call = Call()
    call.deliver()
    end, began = call.a, call.a.now
    for number in (1, 2, 3):
        assert renewals(end.until(began + number * HALF_LIFE_S - 0.1)) == 0
        assert renewals(end.until(began + number * HALF_LIFE_S)) == 1
        granted = end.take(end.core.renewed(fresh(number), end.now))
        assert granted == [UseGrant(Secret(f"token {number}"), ())]
        assert end.core.token == Secret(f"token {number}")


def test_a_channel_that_wants_a_token_gets_one_but_cannot_ask_without_end() -> None:
    call = Call()
    call.deliver()
    end = call.a
    end.join(ChannelState.TOKEN_WANTED)
    assert renewals(end.until(end.now)) == 1
    end.take(end.core.renewed(fresh(1), end.now))
    end.join(ChannelState.TOKEN_WANTED)
    assert renewals(end.until(end.now + RENEW_GAP_S - 0.1)) == 0
    assert renewals(end.until(end.now + RENEW_GAP_S)) == 1


def test_a_refused_channel_ends_a_call_only_before_it_talked() -> None:
    call = Call()
    call.a.join(ChannelState.REFUSED)
    assert call.a.told[-1] == failed(EndReason.SIGNALING_REFUSED)
    call = Call()
    call.talk()
    assert call.a.join(ChannelState.REFUSED) == [], "voice needs no signaling"


# -- the end -------------------------------------------------------------------------------------


def test_who_is_there_is_told_goodbye_at_once_and_once() -> None:
    call = Call()
    call.talk()
    call.a.now += 42.3
    call.a.take(call.a.core.end(EndReason.HUNG_UP, call.a.now))
    assert bye_of(call.a) == "hung_up"
    assert call.a.left is not None
    assert call.a.left.talked_s == 42
    assert call.a.core.deadline is None
    assert call.a.core.end(EndReason.FAILED, call.a.now) == []
    assert call.a.core.abandon(call.a.now) == []
    assert call.a.left.bye is not None
    call.b.hear(call.a.left.bye)
    assert call.b.told[-1] == Tell(Event.PEER_BYE, EndReason.HUNG_UP)


def test_to_one_that_left_nothing_is_said() -> None:
    call = Call()
    call.deliver()
    call.b.take(call.b.core.end(EndReason.HUNG_UP, call.b.now))
    assert call.b.left is not None
    assert call.b.left.bye is not None
    call.a.hear(call.b.left.bye)
    call.a.take(call.a.core.end(EndReason.PEER_HUNG_UP, call.a.now))
    assert bye_of(call.a) is None


def test_who_is_reported_does_not_learn_it() -> None:
    call = Call()
    call.deliver()
    call.a.take(call.a.core.end(EndReason.REPORTED, call.a.now))
    assert bye_of(call.a) == "hung_up"


def test_a_goodbye_waits_for_somebody_to_hear_it() -> None:
    end = End()
    end.start()
    assert end.take(end.core.end(EndReason.TURN_UNAUTHORIZED, end.now)) == []
    end.now += ARRIVE_TIMEOUT_S / 2
    assert isinstance(end.hear(stranger())[0], Leave)
    assert bye_of(end) == "turn_unauthorized"


def test_a_goodbye_does_not_wait_for_ever() -> None:
    end = End()
    end.start()
    end.take(end.core.end(EndReason.TURN_UNAUTHORIZED, end.now))
    assert end.core.deadline == pytest.approx(end.now + ARRIVE_TIMEOUT_S)
    end.until_deadline()
    assert bye_of(end) == "turn_unauthorized"


def test_a_goodbye_that_meets_the_others_goodbye_is_not_said() -> None:
    end = End()
    end.start()
    end.take(end.core.end(EndReason.TURN_UNAUTHORIZED, end.now))
    end.hear(Publish("bye", {"v": 1, "slot": "b", "seq": 1, "reason": "hung_up"}))
    assert bye_of(end) is None


def test_nobody_is_waited_for_who_did_not_come_in_ten_seconds() -> None:
    end = End()
    end.start()
    end.take(end.core.end(EndReason.PEER_ABSENT, end.now))
    assert bye_of(end) == "peer_absent"


def test_without_a_channel_nothing_is_said() -> None:
    end = End()
    end.start(join=False)
    end.take(end.core.end(EndReason.HUNG_UP, end.now))
    end.until_deadline()
    assert bye_of(end) is None


def test_a_device_that_stops_says_so_without_waiting() -> None:
    end = End()
    end.start()
    end.take(end.core.abandon(end.now))
    assert bye_of(end) == "shutdown"
    waiting = End()
    waiting.start()
    waiting.take(waiting.core.end(EndReason.HUNG_UP, waiting.now))
    waiting.take(waiting.core.abandon(waiting.now))
    assert bye_of(waiting) == "hung_up", "it was over before"


def test_a_call_that_never_rang_ends_without_anybody_here_knowing() -> None:
    caller, desk = End("a", Kind.CALLING), End("b", Kind.CALLED)
    desk.start()
    caller.start()
    desk.until(desk.now + HELLO_TIMEOUT_S)
    assert desk.told == []
    assert bye_of(desk) == "peer_absent"
    desk = End("b", Kind.CALLED)
    desk.start()
    desk.hear(Publish("bye", {"v": 1, "slot": "a", "seq": 1, "reason": "cancelled"}))
    assert desk.told == []
    assert bye_of(desk) is None


def test_after_the_end_nothing_is_done_and_nothing_is_told() -> None:
    call = Call()
    call.deliver()
    end = call.a
    end.take(end.core.end(EndReason.HUNG_UP, end.now))
    core, now = end.core, end.now
    assert core.receive("hello", {}, now) == []
    assert core.channel_changed(ChannelState.JOINED, now) == []
    assert core.described(0, "late", now) == []
    assert core.accept(now) == []
    assert core.renewed(fresh(1), now) == []
    core.renewal_failed(now, is_retryable=True)
    assert core.connection_failed(0, EndReason.ICE_FAILED, now) == []
    assert core.traffic(now, now, now) == []
    assert core.handle_timer(now + 1e6) == []
    assert core.deadline is None


def test_a_call_that_was_over_before_it_began_ends_all_the_same() -> None:
    end = End()
    end.take(end.core.end(EndReason.CANCELLED, end.now))
    end.start(join=False)
    end.until_deadline()
    assert end.left is not None
    assert end.told == []


def test_the_connection_in_use_is_named_before_the_machine_hears_of_it() -> None:
    call = Call()
    call.deliver()
    commands = call.a.connect(0, call.b.certificate)
    kinds = [command for command in commands if isinstance(command, UseConnection | Tell)]
    assert kinds == [UseConnection(0), Tell(Event.CONNECTED)]


def test_a_restart_is_asked_for_no_more_often_than_a_connection_gets_time() -> None:
    call = Call()
    call.talk()
    call.a.until(call.a.now + FIRST_PACKET_S + 0.1)
    offers = [one for one in call.a.until(call.a.now + 3 * RESTART_EVERY_S) if isinstance(one, MakeOffer)]
    assert len(offers) == 3


def test_what_the_peers_line_carries_is_told_when_it_is_news_and_not_at_once_again() -> None:
    call = Call(End("a"), End("b"))
    call.talk()
    core = call.a.core

    def told(bitrate: int, packet_ms: int, now: float) -> list[object]:
        return [
            (command.event, command.payload.get("bitrate"), command.payload.get("packet_ms"))
            for command in core.line_seen(bitrate, packet_ms, now)
            if isinstance(command, Publish)
        ]

    assert told(32_000, 20, 100.0) == []  # what every browser sends by itself
    assert told(20_000, 60, 100.1) == [("line", 20_000, 60)]
    assert told(20_000, 60, 105.0) == []
    assert told(32_000, 20, 106.0) == [("line", 32_000, 20)]
    assert told(12_000, 60, 106.5) == []
    assert told(12_000, 60, 107.1) == [("line", 12_000, 60)]


def test_a_line_that_carries_no_voice_ends_the_call_once_as_a_lost_path() -> None:
    call = Call()
    call.talk()
    now = call.a.now
    assert call.a.core.line_hopeless(now) == [Tell(Event.FAILED, EndReason.PATH_LOST)]
    assert call.a.core.line_hopeless(now + 0.1) == []
