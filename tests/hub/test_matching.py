"""The matcher: nobody in two calls, nobody left while a partner waits, the same answer each time."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from voicemeet_edge.backend.verbs import SELF_TEST_POOL, Role
from voicemeet_edge.hub.matching import CallPlace, Matcher, MatchOptions, Seeker, Waiting
from voicemeet_edge.hub.refusal import RefusedError


def make(options: MatchOptions | None = None, coin: Callable[[], bool] = lambda: True) -> Matcher:
    numbers = itertools.count()
    return Matcher(options or MatchOptions(), new_call_id=lambda: f"call{next(numbers)}", coin=coin)


class Pool:
    """A matcher with a clock and short words."""

    def __init__(self, options: MatchOptions | None = None) -> None:
        self.matcher = make(options)
        self.now = 0.0

    def ask(
        self,
        device: str,
        role: Role = Role.EITHER,
        *,
        ticket: str = "",
        flagged: bool = False,
        pool: str = "p",
    ) -> Waiting | CallPlace:
        return self.matcher.request(Seeker(device, ticket or device, pool, role, flagged), self.now)

    def meets(self, device: str, role: Role = Role.EITHER, *, ticket: str = "") -> str:
        found = self.ask(device, role, ticket=ticket)
        assert isinstance(found, CallPlace)
        return found.match.device_b if found.slot == "a" else found.match.device_a


def waits(found: Waiting | CallPlace) -> bool:
    return isinstance(found, Waiting)


def test_two_strangers_meet_and_are_told_the_same_call() -> None:
    pool = Pool()
    assert waits(pool.ask("ann"))
    second = pool.ask("bob")
    assert isinstance(second, CallPlace)
    assert pool.matcher.take_wakes() == ["ann"]
    first = pool.ask("ann")
    assert isinstance(first, CallPlace)
    assert first.match is second.match
    assert {first.slot, second.slot} == {"a", "b"}
    assert pool.ask("ann") == first
    assert pool.ask("bob") == second


def test_longest_waiting_first() -> None:
    pool = Pool()
    for device in ("desk1", "desk2", "desk3"):
        pool.ask(device, Role.ANSWERER)
        pool.now += 1
    assert [pool.meets(f"caller{n}", Role.CALLER) for n in range(3)] == ["desk1", "desk2", "desk3"]


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_caller_offers_whoever_came_first(order: tuple[int, int]) -> None:
    pool = Pool()
    parties = [("device", Role.CALLER), ("desk", Role.ANSWERER)]
    pool.ask(*parties[order[0]])
    found = pool.ask(*parties[order[1]])
    assert isinstance(found, CallPlace)
    assert found.match.device_a == "device"
    assert found.match.offerer == "a"
    assert found.match.role_b is Role.ANSWERER


def test_coin_picks_the_offerer_among_equals() -> None:
    offerers = set()
    for side in (True, False):
        matcher = make(coin=lambda side=side: side)  # type: ignore[misc]
        matcher.request(Seeker("ann", "t1", "p", Role.EITHER), 0)
        found = matcher.request(Seeker("bob", "t2", "p", Role.EITHER), 0)
        assert isinstance(found, CallPlace)
        offerers.add(found.match.device_a)
    assert offerers == {"ann", "bob"}


def test_roles_and_pools_that_do_not_meet() -> None:
    pool = Pool()
    assert waits(pool.ask("c1", Role.CALLER))
    assert waits(pool.ask("c2", Role.CALLER))
    assert waits(pool.ask("e1", Role.EITHER))
    assert waits(pool.ask("d1", Role.ANSWERER, pool="other"))
    assert pool.matcher.waiting == 4


def test_flagged_parties_meet_only_each_other() -> None:
    pool = Pool()
    pool.ask("good")
    assert waits(pool.ask("bad1", flagged=True))
    found = pool.ask("bad2", flagged=True)
    assert isinstance(found, CallPlace)
    assert {found.match.device_a, found.match.device_b} == {"bad1", "bad2"}


def test_party_flagged_while_waiting_changes_lanes() -> None:
    pool = Pool()
    pool.ask("ann")
    assert waits(pool.ask("ann", flagged=True))
    assert waits(pool.ask("bob"))


def test_self_tests_in_however_many_pools_leave_the_places_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("voicemeet_edge.hub.matching.MAX_SELF_TESTS", 2)
    pool = Pool()
    for number in range(2):
        assert waits(pool.ask(f"guest{number}", pool=f"{SELF_TEST_POOL}{number:020x}"))
    with pytest.raises(RefusedError) as refused:
        pool.ask("one more", pool=f"{SELF_TEST_POOL}{9:020x}")
    assert refused.value.code == "pool_full"
    assert waits(pool.ask("ann"))
    pool.matcher.leave("guest0", "guest0", pool.now)
    assert waits(pool.ask("one more", pool=f"{SELF_TEST_POOL}{9:020x}"))


def test_silent_waiter_is_forgotten() -> None:
    pool = Pool()
    pool.ask("gone")
    pool.now = 20.5
    assert waits(pool.ask("bob"))
    assert pool.matcher.waiting == 1
    pool.now = 50
    pool.matcher.expire(pool.now)
    assert pool.matcher.waiting == 0


def test_polling_keeps_a_waiter() -> None:
    pool = Pool()
    for second in range(0, 60, 10):
        pool.now = float(second)
        pool.ask("ann")
    assert pool.meets("bob") == "ann"


def test_recent_partners_are_kept_apart_while_others_are_there() -> None:
    pool = Pool()
    pool.ask("ann", ticket="a1")
    assert pool.meets("bob", ticket="b1") == "ann"
    pool.ask("ann", ticket="a1")
    pool.now = 1
    pool.ask("ann", ticket="a2")
    assert waits(pool.ask("bob", ticket="b2"))
    pool.ask("cyd")
    found = pool.ask("ann", ticket="a2")
    assert isinstance(found, CallPlace)
    assert "cyd" in (found.match.device_a, found.match.device_b)


def test_recent_partners_meet_again_when_nobody_else_comes() -> None:
    pool = Pool()
    pool.ask("ann", ticket="a1")
    pool.ask("bob", ticket="b1")
    pool.ask("ann", ticket="a1")
    pool.ask("ann", ticket="a2")
    assert waits(pool.ask("bob", ticket="b2"))
    pool.now = 6
    assert pool.meets("bob", ticket="b2") == "ann"


def test_an_intercom_always_meets_the_same_desk() -> None:
    pool = Pool()
    for call in range(3):
        pool.ask("desk", Role.ANSWERER, ticket=f"d{call}")
        assert pool.meets("door", Role.CALLER, ticket=f"c{call}") == "desk"
        pool.ask("desk", Role.ANSWERER, ticket=f"d{call}")


def test_leaving_after_the_match_gives_the_unknowing_partner_back() -> None:
    pool = Pool()
    pool.ask("ann")
    pool.ask("bob")  # matched with ann, who has not asked again
    pool.ask("cyd")
    pool.matcher.take_wakes()
    pool.matcher.leave("bob", "bob", pool.now)
    assert set(pool.matcher.take_wakes()) == {"ann", "cyd"}
    assert pool.meets("ann") == "cyd"


def test_leaving_after_both_know_changes_nothing_for_the_partner() -> None:
    pool = Pool()
    pool.ask("ann")
    pool.ask("bob")
    before = pool.ask("ann")
    pool.matcher.leave("bob", "bob", pool.now)
    assert pool.ask("ann") == before


def test_leave_is_idempotent_and_only_for_the_owner() -> None:
    pool = Pool()
    pool.ask("ann")
    pool.matcher.leave("eve", "ann", 0)
    assert pool.matcher.waiting == 1
    pool.matcher.leave("ann", "ann", 0)
    pool.matcher.leave("ann", "ann", 0)
    assert pool.matcher.waiting == 0


def test_new_ticket_of_a_device_replaces_its_old_search() -> None:
    pool = Pool()
    pool.ask("ann", ticket="t1")
    pool.ask("ann", ticket="t2")
    assert pool.matcher.waiting == 1


def test_foreign_or_changed_ticket_is_refused() -> None:
    pool = Pool()
    pool.ask("ann", ticket="t1")
    for device, role in (("eve", Role.EITHER), ("ann", Role.CALLER)):
        with pytest.raises(RefusedError) as caught:
            pool.ask(device, role, ticket="t1")
        assert (caught.value.status, caught.value.code) == (409, "ticket_taken")


def test_full_pool_says_so_and_still_matches() -> None:
    pool = Pool(MatchOptions(max_waiting=2))
    pool.ask("c1", Role.CALLER)
    pool.ask("c2", Role.CALLER)
    with pytest.raises(RefusedError) as caught:
        pool.ask("c3", Role.CALLER)
    assert (caught.value.status, caught.value.code) == (503, "pool_full")
    assert caught.value.retry_after_s
    assert pool.meets("desk", Role.ANSWERER) == "c1"
    assert waits(pool.ask("c3", Role.CALLER))


def test_the_more_are_refused_the_later_they_are_asked_to_come() -> None:
    pool = Pool(MatchOptions(max_waiting=1))
    pool.ask("c", Role.CALLER)
    told = []
    for number in range(1_000):
        with pytest.raises(RefusedError) as caught:
            pool.ask(f"d{number}", Role.CALLER)
        told.append(caught.value.retry_after_s or 0)
    assert (told[0], told[500], told[-1]) == (10.0, 20.0, 30.0)
    assert len(set(told)) > 100, "they do not come back all at once"


def test_the_more_wait_the_later_they_ask_again_and_none_is_forgotten_for_it() -> None:
    pool = Pool(MatchOptions(max_waiting=5_000))
    waiting = [pool.ask(f"c{number}", Role.CALLER) for number in range(3_000)]
    first, last = waiting[0], waiting[-1]
    assert isinstance(first, Waiting)
    assert isinstance(last, Waiting)
    assert first.poll_after_s == 3.0
    assert last.poll_after_s == 12.0
    pool.now = 36.0  # two polls were lost; whoever was told 3 s is gone by now
    pool.matcher.expire(pool.now)
    assert not waits(pool.ask("desk", Role.ANSWERER))
    assert 900 < pool.matcher.waiting < 1_000


def test_old_match_is_forgotten() -> None:
    pool = Pool()
    pool.ask("ann")
    pool.ask("bob")
    pool.now = 61
    pool.matcher.expire(pool.now)
    assert not pool.matcher._tickets
    assert not pool.matcher._devices
    assert not pool.matcher._kept


DEVICES = [f"dev{n}" for n in range(6)]
STEP = st.tuples(
    st.sampled_from(["ask", "ask", "ask", "new", "leave", "time", "expire"]),
    st.sampled_from(DEVICES),
    st.sampled_from(list(Role)),
    st.booleans(),
    st.floats(0, 30),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(STEP, max_size=60), st.booleans())
def test_any_interleaving(steps: list[tuple[str, str, Role, bool, float]], avoid: bool) -> None:
    options = MatchOptions(avoid_repeat_s=600 if avoid else 0)
    matcher = make(options)
    now = 0.0
    tickets: dict[str, tuple[str, Role]] = {}
    numbers = itertools.count()
    calls: dict[str, dict[str, str]] = {}
    answers: dict[str, tuple[float, CallPlace]] = {}
    for action, device, role, flagged, seconds in steps:
        if action == "time":
            now += seconds
        elif action == "expire":
            matcher.expire(now)
        elif action == "leave" and device in tickets:
            matcher.leave(device, tickets.pop(device)[0], now)
        elif action in ("ask", "new"):
            if action == "new" or device not in tickets:
                tickets[device] = (f"{device}-{next(numbers)}", role)
            ticket, asked = tickets[device]
            found = matcher.request(Seeker(device, ticket, "p", asked, flagged), now)
            if isinstance(found, CallPlace):
                slots = calls.setdefault(found.match.call_id, {})
                assert slots.setdefault(found.slot, ticket) == ticket
                assert len(set(slots.values())) == len(slots)
                assert found.match.device_a != found.match.device_b
                assert device == (found.match.device_a if found.slot == "a" else found.match.device_b)
                known = answers.get(ticket)
                if known is not None and now < known[0] + options.kept_match_s:
                    assert known[1] == found
                else:
                    answers[ticket] = (now, found)
        check_nobody_is_left(matcher, now, avoid)
    for call in calls.values():
        assert len(call) <= 2


def check_nobody_is_left(matcher: Matcher, now: float, avoid: bool) -> None:
    """No two live waiters that may meet stand side by side, and the sums agree with the queues."""
    waiting = [entry for queue in matcher._queues.values() for entry in queue.values()]
    assert len(waiting) == matcher.waiting == sum(matcher._pools.values())
    for queue_key, queue in matcher._queues.items():
        assert all(entry.queue == queue_key and entry.matched is None for entry in queue.values())
    live = [entry for entry in waiting if not matcher._is_stale(entry, now)]
    for first, second in itertools.combinations(live, 2):
        if first.flagged is not second.flagged:
            continue
        assert {first.role, second.role} != {Role.CALLER, Role.ANSWERER}
        if not avoid:
            assert not first.role is second.role is Role.EITHER


def test_a_desk_looks_on_while_its_caller_is_only_arriving() -> None:
    # Fails when a new ticket withdraws a match that was heard of: then two of them chase each other.
    pool = Pool()
    assert waits(pool.ask("ghost", Role.CALLER))
    first = pool.ask("desk", Role.ANSWERER, ticket="d1")
    assert isinstance(first, CallPlace)
    assert waits(pool.ask("desk", Role.ANSWERER, ticket="d2")), "the ghost is not met again"
    found = pool.ask("lobby", Role.CALLER)
    assert isinstance(found, CallPlace)
    second = pool.ask("desk", Role.ANSWERER, ticket="d2")
    assert isinstance(second, CallPlace)
    assert second.match is found.match
    assert pool.ask("desk", Role.ANSWERER, ticket="d1") == first
    ghost = pool.ask("ghost", Role.CALLER)
    assert isinstance(ghost, CallPlace)
    assert ghost.match is first.match


def test_who_was_matched_and_never_spoke_is_met_last() -> None:
    pool = Pool()
    pool.matcher.put_last("ghost", "", pool.now)
    pool.matcher.put_last("other", "192.0.2.9", pool.now)
    for silent in ("ghost", "other"):
        seeker = Seeker(silent, silent, "p", Role.CALLER, address="192.0.2.9" if silent == "other" else "")
        assert isinstance(pool.matcher.request(seeker, pool.now), Waiting)
    assert waits(pool.ask("honest", Role.CALLER))
    met = [pool.meets("desk", Role.ANSWERER, ticket=f"d{number}") for number in range(3)]
    assert met == ["honest", "ghost", "other"], "they came first, and are met all the same"
    pool.now += 700
    assert waits(pool.ask("ghost", Role.CALLER, ticket="later"))
    assert waits(pool.ask("honest", Role.CALLER, ticket="late"))
    assert pool.meets("desk", Role.ANSWERER, ticket="d9") == "ghost"
