"""The live calls of an address, and of the site around it."""

from __future__ import annotations

from voicemeet_edge.backend.verbs import Role, Slot
from voicemeet_edge.hub.calls import ARRIVE_S, GOODBYE_S, SPEAK_S, TALK_S, Call, Calls, CallSight
from voicemeet_edge.hub.limits import SITE_SHARES, address_key
from voicemeet_edge.hub.matching import Match

MOST = 2


def hold(calls: Calls, address: str, number: int) -> Call:
    """Let somebody at this address hear of a match."""
    call = calls.open(Match(f"{number:032x}", f"a{number}", f"b{number}", Role.EITHER, Role.EITHER), 0.0)
    calls.collect(call, "a", address)
    return call


def test_an_address_and_the_site_around_it_hold_so_many_calls_and_get_them_back() -> None:
    calls = Calls(max_call_s=3600.0, grace_s=60.0)
    networks = [address_key(f"2001:db8:1:{number:x}::1") for number in range(SITE_SHARES + 1)]
    number = 0
    for network in networks[:-1]:
        for _ in range(MOST):
            assert not calls.is_full(network, MOST, 0.0)
            number += 1
            hold(calls, network, number)
        assert calls.is_full(network, MOST, 0.0)
    assert calls.is_full(networks[-1], MOST, 0.0)
    assert not calls.is_full(address_key("2001:db8:2::1"), MOST, 0.0)
    assert not calls.is_full("192.0.2.1", MOST, 0.0)
    # Nobody came into any of them: they give their places back, when somebody asks.
    assert not calls.is_full(networks[-1], MOST, ARRIVE_S + 1.0)
    assert not calls.is_full(networks[0], MOST, ARRIVE_S + 1.0)


def made(calls: Calls, number: int = 1, now: float = 0.0, *, rings: bool = False) -> Call:
    match = Match(
        f"{number:032x}", f"a{number}", f"b{number}", Role.CALLER, Role.ANSWERER, pool="p", rings=rings
    )
    return calls.open(match, now)


def test_who_heard_of_a_match_and_never_spoke_is_named_once() -> None:
    calls = Calls(max_call_s=3600.0, grace_s=60.0)
    call = made(calls)
    calls.collect(call, "a", "")
    calls.collect(call, "b", "")
    assert calls.silent(SPEAK_S - 0.1) == []
    call.heard("b", "hello", 1.0)
    assert calls.silent(SPEAK_S) == [call.side("a")]
    assert calls.silent(SPEAK_S + 100.0) == []


def test_who_rings_many_need_not_speak_to_all_of_them_but_to_one() -> None:
    calls = Calls(max_call_s=3600.0, grace_s=60.0)
    both = [
        calls.open(Match(f"{number:032x}", "door", f"b{number}", Role.CALLER, Role.ANSWERER, rings=True), 0.0)
        for number in (1, 2)
    ]
    for call in both:
        calls.collect(call, "a", "")
    both[0].heard("a", "hello", 1.0)
    assert calls.silent(SPEAK_S) == []
    mute = made(calls, 3, rings=True)
    calls.collect(mute, "a", "")
    assert calls.silent(SPEAK_S) == [mute.side("a")]


def test_a_call_is_over_when_nobody_is_there_or_one_side_said_so() -> None:
    calls = Calls(max_call_s=3600.0, grace_s=60.0)
    call = made(calls)
    call.joined("a", 1.0)
    assert calls.over(ARRIVE_S + 10.0) == []
    call.left("a", 50.0)
    assert calls.over(50.0 + ARRIVE_S - 0.1) == []
    assert calls.over(50.0 + ARRIVE_S) == [(call, "a"), (call, "b")]
    assert calls.over(1000.0) == []
    other = made(calls, 2, 1000.0)
    other.joined("a", 1000.0)
    other.side("b").ended, other.side("b").ended_at = True, 1001.0
    assert calls.over(1001.0 + GOODBYE_S) == []
    assert calls.over(1001.0 + GOODBYE_S + 0.1) == [(other, "a"), (other, "b")]


def test_talk_counts_while_both_are_there_after_offer_and_answer() -> None:
    calls = Calls(max_call_s=3600.0, grace_s=60.0)
    now = [0.0]
    sight, call = CallSight(calls, lambda: now[0]), made(calls)
    call_id = call.match.call_id
    calls.count_later(call, "a")
    said: list[tuple[Slot, str]] = [("a", "offer"), ("b", "answer")]
    for slot, event in said:
        sight.joined(call_id, slot)
        sight.heard(call_id, slot, event)
    now[0] = TALK_S - 1.0
    sight.left(call_id, "b")
    now[0] = 100.0
    assert calls.now_counting(now[0]) == []
    sight.joined(call_id, "b")
    assert calls.now_counting(101.0) == [(call, "a")]
    assert calls.now_counting(101.0) == []
    sight.joined("no such call", "a")
    sight.left("no such call", "a")
    sight.heard("no such call", "a", "offer")


def test_strangers_together_hold_so_many_and_what_is_forgotten_holds_none() -> None:
    calls = Calls(max_call_s=3600.0, grace_s=60.0)
    for number in range(4):
        hold(calls, f"192.0.2.{number}", number)
    assert calls.are_strangers_many(4, 0.0)
    assert not calls.are_strangers_many(4, ARRIVE_S + 2.0)
    kept = calls.get(f"{1:032x}")
    assert kept is not None
    assert calls.open(kept.match, 5.0) is kept
    calls.expire(3600.0 + 59.0)
    assert len(calls) == 4
    calls.expire(3600.0 + 61.0)
    assert len(calls) == 0
    assert calls.get(f"{1:032x}") is None
