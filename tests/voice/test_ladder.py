"""The rungs themselves: what each takes on the wire, and which of them a peer's limits leave."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voicemeet_edge.voice.ladder import (
    COPY_HEADER_BYTES,
    FIRST_REPORT_S,
    FIRST_S,
    HEADER_BYTES,
    IPV6_BYTES,
    LADDER,
    LAST_HEADER_BYTES,
    REPORT_S,
    SLOW_BELOW,
    SLOW_REPORT_S,
    START,
    STREAM_BYTES,
    TOP,
    TURN_BYTES,
    Limits,
    SendPlan,
    allowed,
    rates,
    report_interval,
)

HEADERS = [
    HEADER_BYTES + more for more in (0, IPV6_BYTES, TURN_BYTES, STREAM_BYTES, IPV6_BYTES + STREAM_BYTES)
]
PLANS = [plan for rung in LADDER for plan in (rung.clean, rung.lossy)]


@pytest.mark.parametrize("headers", HEADERS)
def test_each_rung_takes_more_than_the_one_below(headers: int) -> None:
    taken = rates(headers)
    assert len(taken) == TOP + 1
    assert list(taken) == sorted(set(taken))


def test_copies_take_nothing_more_on_the_wire() -> None:
    for rung in LADDER:
        assert rung.lossy.kbit_s() <= rung.clean.kbit_s()


@pytest.mark.parametrize("plan", PLANS, ids=str)
def test_what_is_wrapped_fills_its_packet_and_never_more(plan: SendPlan) -> None:
    copies = len(plan.distances)
    frame = plan.frame_bytes(red=True)
    wrapped = (copies + 1) * frame + copies * COPY_HEADER_BYTES + LAST_HEADER_BYTES
    assert plan.packet_bytes - copies - 1 < wrapped <= plan.packet_bytes
    assert plan.frame_bytes(red=False) == plan.packet_bytes


def test_reports_come_often_first_and_seldom_on_a_narrow_line() -> None:
    assert report_interval(0.0, START) == FIRST_REPORT_S
    assert report_interval(0.0, START - 1) == SLOW_REPORT_S, "no room for it"
    assert report_interval(FIRST_S, SLOW_BELOW) == REPORT_S
    assert report_interval(FIRST_S, SLOW_BELOW - 1) == SLOW_REPORT_S


def test_without_limits_every_rung_is_left() -> None:
    assert list(allowed(Limits())) == list(range(TOP + 1))


def test_a_peer_that_takes_short_packets_only_gets_those() -> None:
    left = allowed(Limits(max_packet_ms=20))
    assert left
    assert all(number == TOP or LADDER[number].clean.frame_ms == 20 for number in left)
    assert left == allowed(Limits(max_packet_ms=10)), "20 ms is what we have at least"


def test_a_narrow_limit_leaves_the_lowest_rung() -> None:
    assert list(allowed(Limits(bandwidth_kbit_s=1.0))) == [0]
    assert list(allowed(Limits(max_average_bitrate=1))) == [0]


LIMITS = st.builds(
    Limits,
    max_average_bitrate=st.none() | st.integers(6_000, 60_000),
    max_packet_ms=st.none() | st.integers(10, 120),
    bandwidth_kbit_s=st.none() | st.floats(10.0, 120.0),
)


@given(LIMITS, st.sampled_from(HEADERS))
def test_no_limit_is_ever_passed_but_by_the_lowest(limits: Limits, headers: int) -> None:
    for number in allowed(limits, headers):
        plan = LADDER[number].clean if number < TOP else None
        if plan is None or number == 0:
            continue
        assert limits.max_packet_ms is None or plan.frame_ms <= max(limits.max_packet_ms, 20)
        assert limits.bandwidth_kbit_s is None or plan.kbit_s(headers) <= limits.bandwidth_kbit_s
        bits_s = plan.frame_bytes(red=False) * 8000 / plan.frame_ms
        assert limits.max_average_bitrate is None or bits_s <= limits.max_average_bitrate
