"""Ringing all desks: exactly one call comes of it, or a visitor who was told that nobody comes, and why.

`python -m tests.call.test_ring 10000` plays so many seeds; the suite plays the first of them.
"""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import replace

import pytest

from tests.call.ends import MATCHED
from tests.call.house import House
from voicemeet_edge.backend.verbs import MAX_LEGS, Desks, MatchedReply, RingingReply
from voicemeet_edge.call.commands import Tell
from voicemeet_edge.call.machine import Event
from voicemeet_edge.call.ring import AskNow, Begin, Choose, End, GroupRing, Queued, RingAnew
from voicemeet_edge.reasons import EndReason
from voicemeet_edge.secret import Secret

INTERLEAVINGS = 1_000


def play(seed: int) -> House:
    """Let one or two presses run until each is a call or over, and the last word was heard."""
    house = House(seed, desks=1 + seed % 4, visitors=1 + seed // 4 % 2)
    for visitor in house.visitors:
        for _ in range(house.dice.randrange(8)):
            house.step()  # some desks are there before, some come later
        visitor.press()
    for _ in range(4_000):
        if house.step():
            continue
        if all(visitor.talks_in is not None or visitor.is_home for visitor in house.visitors):
            return house
        house.pass_time()
    raise AssertionError(f"seed {seed} comes to no end")


def judge(seed: int) -> list[str]:
    """Play it, say what is wrong with it, and return how each press ended."""
    house = play(seed)
    living = [desk for desk in house.desks if not desk.is_dead]
    talking = sorted(desk.talking for desk in living if desk.talking is not None)
    calls = sorted(visitor.talks_in for visitor in house.visitors if visitor.talks_in is not None)
    assert talking == calls, f"seed {seed}: not one desk for each call"
    still = [desk for desk in living if desk.ringing is not None and desk.talking is None]
    assert not still, f"seed {seed}: somebody rings on after it was answered"
    idle = [desk for desk in living if desk.will == desk.answer and desk.talking is None]
    for visitor in house.visitors:
        # Who ended without a call was told why, and nobody who would have answered was left out.
        assert visitor.talks_in is not None or visitor.reason is not None, f"seed {seed}: not told"
        assert visitor.talks_in is not None or not idle, f"seed {seed}: somebody would have answered"
    return ["talking" if visitor.talks_in else str(visitor.reason) for visitor in house.visitors]


@pytest.mark.parametrize("part", range(4))
def test_any_interleaving_makes_one_call_or_tells_why_not(part: int) -> None:
    share = INTERLEAVINGS // 4
    ends = [end for seed in range(part * share, (part + 1) * share) for end in judge(seed)]
    assert ends.count("talking") > share // 2
    assert {"declined", "no_answer", "nobody"} <= set(ends)


MATCHES = [replace(MATCHED, call_id=f"call-{number}") for number in range(3)]
ONE, TWO, THREE = (matched.call_id for matched in MATCHES)
ACCEPTED, RINGS = Tell(Event.PEER_ACCEPTED), Tell(Event.PEER_RINGS)


def bye(reason: EndReason) -> Tell:
    return Tell(Event.PEER_BYE, reason)


def reply(*calls: MatchedReply, busy: int = 0, away: int = 0, place: int = 1) -> RingingReply:
    return RingingReply(3.0, Secret("w"), calls, place, Desks(busy, away))


def ringing(*calls: MatchedReply, busy: int = 0) -> GroupRing:
    """A ring that has found these at 0."""
    ring = GroupRing(30.0, 45.0, 0.0)
    ring.found(reply(*calls, busy=busy), 0.0)
    return ring


def test_the_first_accept_wins_and_the_others_are_told() -> None:
    ring = GroupRing(30.0, 45.0, 0.0)
    begun = ring.found(reply(*MATCHES), 0.0)
    assert begun == [Begin(MATCHES[0], True), Begin(MATCHES[1], False), Begin(MATCHES[2], False)]
    assert ring.told(TWO, RINGS, 0.1) == [RINGS]
    assert ring.told(ONE, RINGS, 0.1) == [], "it rings already"
    elsewhere = EndReason.ANSWERED_ELSEWHERE
    assert ring.told(TWO, ACCEPTED, 1.0) == [
        Choose(TWO),
        End(ONE, elsewhere),
        End(THREE, elsewhere),
        ACCEPTED,
    ]
    assert ring.told(ONE, ACCEPTED, 1.0) == [], "ten milliseconds late"
    assert ring.told(ONE, bye(EndReason.DECLINED), 1.0) == [], "declined as the other answered"
    assert ring.found(reply(*MATCHES, replace(MATCHED, call_id="late")), 1.0) == []
    assert ring.deadline is None


def test_a_backend_that_names_ever_more_desks_is_believed_so_far() -> None:
    ring = ringing()
    begun: list[str] = []
    for answer in range(3):
        found = [replace(MATCHED, call_id=f"call-{answer}-{number}") for number in range(MAX_LEGS - 1)]
        commands = ring.found(reply(*found), 1.0)
        begun += [command.matched.call_id for command in commands if isinstance(command, Begin)]
    assert len(begun) == MAX_LEGS
    ring.told(begun[0], bye(EndReason.BUSY), 2.0)
    assert isinstance(ring.found(reply(replace(MATCHED, call_id="one more")), 3.0)[0], Begin)


def test_a_decline_passes_on_and_the_last_one_ends_it() -> None:
    ring = ringing(*MATCHES[:2])
    ring.told(ONE, RINGS, 0.0)
    assert ring.told(ONE, bye(EndReason.DECLINED), 1.0) == [End(ONE, EndReason.DECLINED)]
    last = ring.told(TWO, bye(EndReason.DECLINED), 2.0)
    assert last == [End(TWO, EndReason.DECLINED), AskNow(), Tell(Event.PEER_LOST)]
    assert ring.found(reply(), 2.0) == [AskNow()], "that answer may be to a question of before"
    assert ring.found(reply(), 2.1) == [Tell(Event.FAILED, EndReason.DECLINED)]


def test_who_was_declined_waits_for_those_that_are_busy() -> None:
    ring = ringing(MATCHES[0])
    ring.told(ONE, bye(EndReason.DECLINED), 1.0)
    ring.found(reply(busy=1, place=2), 1.0)
    assert ring.found(reply(busy=1, place=2), 1.1) == []
    assert ring.handle_timer(2.0) == []
    assert ring.handle_timer(3.1) == [Queued(2)]
    assert ring.handle_timer(40.0) == [], "said once"
    assert ring.found(reply(busy=1, place=1), 41.0) == [Queued(1)]
    assert ring.found(reply(MATCHES[1]), 50.0) == [Begin(MATCHES[1], False)]


def test_a_busy_desk_may_ring_again_and_no_other() -> None:
    ring = ringing(*MATCHES[:2])
    ring.told(ONE, bye(EndReason.BUSY), 1.0)
    ring.told(TWO, bye(EndReason.DECLINED), 1.0)
    assert list(ring.again) == [ONE]
    ring.found(reply(MATCHES[1], busy=1), 1.0)
    assert not ring.again, "the backend has heard it"


@pytest.mark.parametrize(
    ("answer", "at_s", "reason"),
    [
        (reply(), 30.0, EndReason.NOBODY),
        (reply(away=1), 5.0, EndReason.AWAY),
        (reply(MATCHES[0]), 30.0, EndReason.NO_ANSWER),
    ],
)
def test_a_visitor_of_a_closed_pool_is_told_in_time(
    answer: RingingReply, at_s: float, reason: EndReason
) -> None:
    ring = GroupRing(30.0, 45.0, 0.0)
    ring.found(answer, 0.0)
    assert ring.deadline == at_s
    assert ring.handle_timer(at_s - 0.1) == []
    assert ring.handle_timer(at_s)[-1] == Tell(Event.FAILED, reason)
    assert ring.is_over


def test_while_somebody_is_busy_it_rings_on() -> None:
    assert ringing(MATCHES[0], busy=1).deadline is None


def test_in_an_open_pool_one_waits_as_ever() -> None:
    ring = GroupRing(30.0, 45.0, 0.0)
    assert ring.deadline is None
    ring.found(RingingReply(3.0, Secret("w"), (MATCHES[0],)), 7.0)
    assert ring.deadline == 52.0
    declined = ring.told(ONE, bye(EndReason.DECLINED), 8.0)
    assert declined[-1] == Tell(Event.FAILED, EndReason.DECLINED)


def test_who_answered_and_died_is_replaced_as_often_as_that_makes_sense() -> None:
    for _ in range(2):
        ring = ringing(MATCHES[0])
        lost = Tell(Event.FAILED, EndReason.PEER_ABSENT)
        for _ in range(4):
            ring.told(ONE, ACCEPTED, 1.0)
            assert ring.told(ONE, lost, 7.0) == [
                End(ONE, EndReason.PEER_ABSENT),
                RingAnew(),
                Tell(Event.PEER_LOST),
            ]
            ring.found(reply(MATCHES[0]), 7.1)
        ring.told(ONE, ACCEPTED, 8.0)
        assert ring.told(ONE, lost, 14.0) == [lost]


def test_a_person_who_hangs_up_before_the_voice_is_no_death() -> None:
    ring = ringing(MATCHES[0])
    ring.told(ONE, ACCEPTED, 1.0)
    assert ring.told(ONE, bye(EndReason.HUNG_UP), 2.0) == [bye(EndReason.HUNG_UP)]


def test_once_connected_everything_is_the_machines() -> None:
    ring = ringing(*MATCHES[:2])
    ring.told(ONE, ACCEPTED, 1.0)
    connected, lost = Tell(Event.CONNECTED), Tell(Event.FAILED, EndReason.PATH_LOST)
    assert ring.told(ONE, connected, 2.0) == [connected]
    assert ring.told(ONE, lost, 9.0) == [lost]


def test_one_desk_with_another_key_does_not_silence_the_others() -> None:
    ring = ringing(*MATCHES[:2])
    wrong = Tell(Event.FAILED, EndReason.WRONG_KEY)
    assert ring.told(ONE, wrong, 1.0) == [End(ONE, EndReason.WRONG_KEY)]
    assert ring.told(TWO, wrong, 1.0) == [End(TWO, EndReason.WRONG_KEY), wrong], (
        "and now the person must see it"
    )


def test_a_fault_of_our_own_ends_it_and_one_of_a_desk_does_not() -> None:
    refused = Tell(Event.FAILED, EndReason.TURN_UNAUTHORIZED)
    ring = ringing(*MATCHES[:2])
    assert ring.told(ONE, refused, 1.0) == [End(ONE, EndReason.TURN_UNAUTHORIZED)], (
        "the other may still answer"
    )
    assert ring.told(TWO, refused, 1.0) == [End(TWO, EndReason.TURN_UNAUTHORIZED), refused]
    assert ring.is_over
    ring = ringing(*MATCHES[:1])
    ring.told(ONE, Tell(Event.PEER_BYE, EndReason.TURN_UNAUTHORIZED), 1.0)
    assert not ring.is_over, "that desk's relay is refused, not ours"


def test_the_person_gives_up() -> None:
    ring = ringing(*MATCHES[:2])
    cancelled = EndReason.CANCELLED
    assert ring.end(cancelled) == [End(ONE, cancelled), End(TWO, cancelled)]
    assert ring.told(ONE, ACCEPTED, 1.0) == ring.found(reply(*MATCHES), 1.0) == []
    assert ring.over(ONE, EndReason.FAILED, 1.0) == []


if __name__ == "__main__":  # the whole of it: python -m tests.call.test_ring 10000
    print(Counter(end for seed in range(int(sys.argv[1])) for end in judge(seed)))
