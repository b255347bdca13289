"""Token buckets: the promised rate, no more, in a table of bounded size."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from voicemeet_edge.hub.limits import Limiter, Rate, address_key


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
    assert address_key("fe80::1%eth0") == address_key("fe80::2")
    assert address_key(":garbage:")
