"""Token buckets: the promised rate, no more, in a table of bounded size."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from voicemeet_edge.hub.limits import (
    MAX_TURN_S,
    SITE_SHARES,
    AddressLimiter,
    Bucket,
    Held,
    Limiter,
    Rate,
    Turns,
    address_key,
    site_key,
)


def test_a_single_bucket() -> None:
    rate = Rate(per_s=2.0, burst=3.0)
    bucket = Bucket(rate, now=0.0)
    assert [bucket.take(rate, 0.0) for _ in range(4)] == [0, 0, 0, 0.5]
    assert [bucket.take(rate, 0.5) for _ in range(2)] == [0, 0.5]
    assert [bucket.take(rate, 100.0) for _ in range(4)] == [0, 0, 0, 0.5]


def test_a_burst_then_the_rate() -> None:
    limiter = Limiter(Rate(per_s=2.0, burst=3.0))
    assert [limiter.take("k", 0.0) for _ in range(3)] == [0, 0, 0]
    assert limiter.take("k", 0.0) == 0.5
    assert limiter.take("k", 0.5) == 0
    assert limiter.take("other", 0.5) == 0


@given(st.lists(st.tuples(st.sampled_from("abc"), st.floats(0, 5)), max_size=80))
def test_never_more_than_burst_and_rate(steps: list[tuple[str, float]]) -> None:
    limiter = Limiter(Rate(per_s=1.5, burst=4.0))
    now = 0.0
    passed = {"a": 0, "b": 0, "c": 0}
    for key, wait in steps:
        now += wait
        passed[key] += limiter.take(key, now) == 0
        assert all(count <= 4.0 + 1.5 * now + 1e-6 for count in passed.values())


def test_waiting_as_told_is_enough() -> None:
    limiter = Limiter(Rate(per_s=0.1, burst=1.0))
    limiter.take("k", 0.0)
    assert limiter.take("k", limiter.take("k", 0.0) + 1e-9) == 0


def test_each_of_many_refused_at_once_is_served_when_it_comes_as_told() -> None:
    limiter = Limiter(Rate(per_s=2.0, burst=10.0), is_shared=True)
    told = [limiter.take("house", 0.0) for _ in range(60)]
    assert told[:10] == [0] * 10
    assert told[10:] == [0.5 + 0.5 * number for number in range(50)], "one token, one who comes for it"
    assert all(limiter.take("house", turn + 1e-9) == 0 for turn in told[10:])
    assert limiter.take("other", 0.0) == 0


def test_a_single_asker_who_comes_too_early_does_not_queue_behind_itself() -> None:
    limiter = Limiter(Rate(per_s=1.0, burst=1.0))
    limiter.take("device", 0.0)
    assert [limiter.take("device", 0.0) for _ in range(5)] == [1.0] * 5


def test_a_flood_keeps_nobody_away_for_longer_than_the_bound() -> None:
    turns = Turns()
    told = [turns.book("house", 1.0, 1.0, 0.0) for _ in range(10_000)]
    assert told[:3] == [1.0, 2.0, 3.0]
    assert max(told) == MAX_TURN_S == told[-1]
    assert turns.book("house", 1.0, 1.0, 30.0) <= 31.0 + 1.0, "time brings the line forward"
    assert turns.book("house", 1.0, 1.0, 1000.0) == 1.0
    assert turns.book("slow", 600.0, 1.0, 0.0) == 600.0, "coming before would be for nothing"


def test_the_lines_are_bounded_too() -> None:
    turns = Turns(max_keys=3)
    for key in "abcde":
        turns.book(key, 1.0, 1.0, 0.0)
    assert len(turns) == 3


def test_the_table_is_bounded_and_forgets_the_least_recent() -> None:
    limiter = Limiter(Rate(per_s=0.001, burst=1.0), max_keys=3)
    for key in ("a", "b", "c", "a", "d"):
        limiter.take(key, 0.0)
    assert len(limiter) == 3
    assert limiter.take("a", 0.0) > 0
    assert limiter.take("b", 0.0) == 0


def test_an_ipv6_subscriber_is_one_asker() -> None:
    assert address_key("2001:db8::1") == address_key("2001:db8::ffff:1")
    assert address_key("2001:db8:0:1::1") != address_key("2001:db8::1")
    assert address_key("::ffff:192.0.2.1") == address_key("192.0.2.1") == "192.0.2.1"
    assert address_key("fe80::1%eth0") == address_key("fe80::1") != address_key("fe80::2"), "neighbours"
    assert address_key(":garbage:")


def subnets(site: str, count: int) -> list[str]:
    return [address_key(f"{site}:{number:x}::1") for number in range(count)]


def test_the_networks_of_one_site_share_what_a_few_of_them_may_have() -> None:
    limiter = AddressLimiter(Rate(per_s=1.0, burst=5.0))
    house, neighbours = subnets("2001:db8:1", 200), subnets("2001:db8:2", 200)
    for keys in (house, neighbours):
        passed = sum(limiter.take(key, 0.0) == 0 for key in keys for _ in range(10))
        assert passed == 5 * SITE_SHARES
    assert limiter.take("192.0.2.1", 0.0) == 0
    # One of them alone gets what one address gets.
    fresh = AddressLimiter(Rate(per_s=1.0, burst=5.0))
    assert sum(fresh.take(house[0], 0.0) == 0 for _ in range(100)) == 5


def test_places_are_held_by_an_address_and_by_the_site_around_it() -> None:
    held, keys = Held(), subnets("2001:db8:1", SITE_SHARES + 1)
    for key in keys[:-1]:
        for _ in range(4):
            assert not held.is_full(key, 4)
            held.count(key, 1)
        assert held.is_full(key, 4)
    assert held.is_full(keys[-1], 4)
    assert not held.is_full("192.0.2.1", 4)
    assert not held.is_full("", 0)
    held.count(keys[0], -1)
    assert not held.is_full(keys[-1], 4)


def test_only_networks_beyond_our_links_have_a_site() -> None:
    assert site_key(address_key("2001:db8:1:2::3")) == site_key(address_key("2001:db8:1:ffff::9")) != ""
    assert site_key(address_key("192.0.2.1")) == ""
    assert site_key(address_key("fe80::1%eth0")) == ""
    assert site_key("") == ""
