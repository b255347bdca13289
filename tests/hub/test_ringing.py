"""Ringing all desks at the matcher: each free desk once, busy ones counted, doors found only by name."""

from __future__ import annotations

import random

import pytest

from tests.hub.test_matching import make
from voicemeet_edge.backend.verbs import MAX_LEGS, DeskState, Role
from voicemeet_edge.hub.matching import STAND_BY_POLL_S, CallPlace, Seeker, Waiting
from voicemeet_edge.hub.refusal import RefusedError
from voicemeet_edge.hub.ringing import Ringing

FREE, BUSY, AWAY = DeskState.FREE, DeskState.BUSY, DeskState.AWAY


class House:
    """A matcher with a clock, desks, callers that ring, and doors."""

    def __init__(self) -> None:
        self.matcher = make()
        self.now = 0.0

    def desk(
        self, name: str, state: DeskState = FREE, *, ticket: str = "", door: str = ""
    ) -> Waiting | CallPlace:
        seeker = Seeker(name, ticket or f"{name}'s", "p", Role.ANSWERER, state=state, door=door)
        return self.matcher.request(seeker, self.now)

    def ring(
        self, name: str, *, ticket: str = "", again: tuple[str, ...] = (), is_full: bool = False
    ) -> Ringing:
        ticket = ticket or f"{name}'s"
        seeker = Seeker(name, ticket, "p", Role.CALLER, ring=True, again=again, is_full=is_full)
        return self.matcher.ring(seeker, self.now)

    def door(self, name: str, label: str = "a door", *, ticket: str = "") -> Waiting | CallPlace:
        seeker = Seeker(name, ticket or f"{name} stands", "p", Role.CALLER, label=label)
        return self.matcher.request(seeker, self.now)

    def rung(self, name: str) -> set[str]:
        return {leg.match.device_b for leg in self.ring(name).calls}


def call_of(found: Waiting | CallPlace) -> str:
    assert isinstance(found, CallPlace)
    return found.match.call_id


def test_all_free_desks_ring_at_once_each_in_a_call_of_its_own() -> None:
    house = House()
    for name in ("one", "two", "three"):
        assert isinstance(house.desk(name), Waiting)
    ringing = house.ring("door")
    assert {leg.match.device_b for leg in ringing.calls} == {"one", "two", "three"}
    assert len({leg.match.call_id for leg in ringing.calls}) == 3
    assert all(leg.slot == "a" and leg.match.offerer == "a" for leg in ringing.calls)
    assert set(house.matcher.take_wakes()) == {"one's", "two's", "three's"}
    calls = {leg.match.call_id for leg in house.ring("door").calls}
    assert {call_of(house.desk(name)) for name in ("one", "two", "three")} == calls


def test_a_desk_that_comes_while_somebody_rings_is_found_at_once() -> None:
    house = House()
    assert house.ring("door").calls == ()
    found = house.desk("late")
    assert isinstance(found, CallPlace)
    assert "door's" in house.matcher.take_wakes()
    assert house.rung("door") == {"late"}


def test_no_desk_is_found_twice_unless_the_caller_says_that_it_was_busy() -> None:
    house = House()
    house.ring("door")
    first = call_of(house.desk("one"))
    assert isinstance(house.desk("one", ticket="after declining"), Waiting)
    assert [leg.match.call_id for leg in house.ring("door").calls] == [first]
    again = house.ring("door", again=(first,))
    assert [leg.match.device_b for leg in again.calls] == ["one"]
    assert call_of(house.desk("one", ticket="after declining")) != first


def test_busy_and_away_desks_are_found_by_nobody_and_counted() -> None:
    house = House()
    house.desk("talks", BUSY)
    house.desk("sleeps", AWAY)
    ringing = house.ring("door")
    assert (ringing.calls, ringing.busy, ringing.away) == ((), 1, 1)
    assert house.matcher.take_wakes() == ["talks's", "sleeps's"]
    waiting = house.desk("talks", BUSY)
    assert isinstance(waiting, Waiting)
    assert waiting.callers == 1
    # With the same ticket: now it takes calls again.
    assert isinstance(house.desk("talks", FREE), CallPlace)
    ringing = house.ring("door")
    assert (len(ringing.calls), ringing.busy, ringing.away) == (1, 0, 1)
    assert isinstance(house.desk("talks", BUSY, ticket="rings"), Waiting)
    waiting = house.desk("talks", BUSY, ticket="rings")
    assert isinstance(waiting, Waiting)
    assert waiting.callers == 0, "its own caller waits for no other"


def test_first_come_first_served_and_each_hears_its_place() -> None:
    house = House()
    house.desk("one", BUSY)
    assert [house.ring(name).place for name in ("ann", "bob", "cid")] == [1, 2, 3]
    house.matcher.leave("ann", "ann's", house.now)
    assert [house.ring(name).place for name in ("bob", "cid")] == [1, 2]
    call = house.desk("one", FREE)
    assert isinstance(call, CallPlace)
    assert call.match.device_a == "bob"


def test_who_gives_up_frees_the_desks_that_have_not_heard() -> None:
    house = House()
    house.desk("one")
    house.desk("two")
    house.ring("ann")
    call_of(house.desk("one"))  # has heard
    house.matcher.leave("ann", "ann's", house.now)
    assert house.rung("bob") == {"two"}


def test_a_desk_that_goes_before_the_caller_heard_of_it_never_was() -> None:
    house = House()
    house.ring("ann")
    house.desk("one")
    house.matcher.leave("one", "one's", house.now)
    assert house.rung("ann") == set()


def test_a_ticket_rings_no_more_than_so_many_desks() -> None:
    house = House()
    for number in range(MAX_LEGS + 3):
        house.desk(f"desk{number}")
    assert len(house.ring("ann").calls) == MAX_LEGS
    assert len(house.rung("bob")) == 3


def test_whose_address_has_all_its_calls_finds_no_more_desks_until_one_is_over() -> None:
    house = House()
    house.desk("one")
    (leg,) = house.ring("guest").calls
    house.desk("one", ticket="next")
    assert house.ring("guest", again=(leg.match.call_id,), is_full=True).calls == ()
    assert isinstance(house.desk("two"), Waiting), "nor is it found"
    assert len(house.ring("guest").calls) == 2


def test_calls_are_told_of_for_a_while_only() -> None:
    house = House()
    house.desk("one")
    assert len(house.ring("ann").calls) == 1
    for _ in range(7):
        house.now += 10.0
        ringing = house.ring("ann")
    assert ringing.calls == ()


def test_a_silent_ringing_caller_is_forgotten() -> None:
    house = House()
    house.ring("ann")
    house.now += 21.0
    assert isinstance(house.desk("one"), Waiting)


@pytest.mark.parametrize("other", ["search", "stand"])
def test_a_ticket_is_for_one_purpose(other: str) -> None:
    house = House()
    house.ring("ann", ticket="t")
    label = "x" if other == "stand" else ""
    with pytest.raises(RefusedError) as refused:
        house.matcher.request(Seeker("ann", "t", "p", Role.CALLER, label=label), house.now)
    assert refused.value.code == "ticket_taken"


def test_a_door_stands_by_beside_its_searches_and_is_found_by_name_alone() -> None:
    house = House()
    standing = house.door("side", "Side entrance")
    assert standing == Waiting(STAND_BY_POLL_S)
    assert isinstance(house.desk("one"), Waiting), "who stands by is nobody's caller"
    assert house.rung("side") == {"one"}
    count, [(handle, label)] = house.matcher.doors("p")
    assert (count, label) == (1, "Side entrance")
    assert house.matcher.doors("other") == (0, [])
    waiting = house.desk("two")
    assert isinstance(waiting, CallPlace), "it rings for the caller"
    found = house.desk("two", ticket="to the door", door=handle)
    assert isinstance(found, CallPlace)
    assert (found.match.device_a, found.slot, found.match.offerer) == ("side", "b", "a")
    assert "side stands" in house.matcher.take_wakes()
    assert call_of(house.door("side")) == found.match.call_id
    with pytest.raises(RefusedError) as refused:
        house.desk("three", ticket="too late", door=handle)
    assert refused.value.code == "door_away"
    house.door("side", ticket="the next")
    assert house.matcher.doors("p")[1][0][0] == handle, "the same as before"
    assert isinstance(house.desk("three", ticket="again", door=handle), CallPlace)


def test_doors_take_no_place_of_who_waits_and_are_counted_for_desks() -> None:
    house = House()
    for number in range(3):
        house.door(f"door{number}")
    assert house.matcher.waiting == 0
    waiting = house.desk("one")
    assert isinstance(waiting, Waiting)
    assert waiting.doors == 3
    house.now += 180.0
    house.door("door0")
    house.now += 30.0
    house.matcher.expire(house.now)
    assert house.matcher.doors("p")[0] == 1


def test_anything_in_any_order_keeps_each_desk_in_one_call() -> None:
    """10,000 seeded steps: a desk's ticket has one call, a ringing ticket no desk twice, nobody is lost."""
    dice, house = random.Random(12), House()
    desks: dict[str, tuple[str, float]] = {}
    calls: list[str] = []
    tickets: dict[str, int] = {}

    def ticket(name: str, *, new: bool) -> str:
        tickets[name] = tickets.get(name, 0) + new
        return f"{name} {tickets[name]}"

    for _ in range(10_000):
        house.now += dice.choice((0.0, 0.1, 3.0))
        name, new = f"desk{dice.randrange(5)}", dice.random() < 0.2
        match dice.randrange(4):
            case 0:
                mine = ticket(name, new=new)
                found = house.desk(name, dice.choice((FREE, FREE, BUSY, AWAY)), ticket=mine)
                if isinstance(found, CallPlace):
                    assert found.match.device_b == name
                    call_id, since = desks.get(mine, ("", -100.0))
                    if call_id != found.match.call_id:
                        assert house.now - since >= 60.0, "it was told of another call just now"
                        desks[mine] = found.match.call_id, house.now
                        calls.append(found.match.call_id)
            case 1:
                house.matcher.leave(name, ticket(name, new=False), house.now)
                ticket(name, new=True)  # given up, a ticket is as good as new
            case 2:
                caller = f"door{dice.randrange(3)}"
                ringing = house.ring(caller, ticket=ticket(caller, new=new))
                rung = [leg.match.device_b for leg in ringing.calls]
                assert len(rung) == len(set(rung))
                assert all(leg.match.device_a == caller for leg in ringing.calls)
            case _:
                caller = f"door{dice.randrange(3)}"
                house.matcher.leave(caller, ticket(caller, new=False), house.now)
        house.matcher.take_wakes()
    assert len(calls) > 200
    assert len(calls) == len(set(calls)), "a call of two desks"
    house.now += 1000.0
    house.matcher.expire(house.now)
    assert house.matcher.waiting == 0
