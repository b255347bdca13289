"""What one call sends: by reports of arrivals, by plain loss reports, by round trips, and within limits."""

from __future__ import annotations

import pytest

from voicemeet_edge.voice.control import STALE_S, LineMemory, SendControl
from voicemeet_edge.voice.delays import PacketFate
from voicemeet_edge.voice.ladder import HEADER_BYTES, LADDER, LOSS_BYTES, START, Limits, allowed, rates
from voicemeet_edge.voice.loss_policy import BURST_DISTANCES

CLEAN = LADDER[-1].clean
NONE = Limits()


def joined(
    memory: LineMemory | None = None, *, limits: Limits = NONE, red: bool = True, mutual: bool = True
) -> SendControl:
    control = SendControl(0.0, memory)
    control.connected(0.0, route="host", limits=limits, header_bytes=HEADER_BYTES, red=red, mutual=mutual)
    return control


def fates(start: float, count: int, *, delay: float = 0.02, grows: float = 0.0) -> list[PacketFate]:
    return [
        PacketFate(start + n / 50, 136, start + n / 50 + 900 + delay + grows * (start + n / 50))
        for n in range(count)
    ]


def talk(control: SendControl, seconds: float, start: float = 0.0, **how: float) -> float:
    now = start
    while now < start + seconds:
        control.arrivals(fates(now, 12, **how), now + 0.3, 0.05)
        now += 0.25
    return now


def test_before_there_is_a_connection_all_is_as_on_a_good_line() -> None:
    assert SendControl(0.0).plan == CLEAN


def test_a_call_begins_in_the_middle_and_a_good_line_gets_it_all() -> None:
    control = joined()
    assert control.plan == LADDER[START].clean
    talk(control, 8)
    assert control.plan == CLEAN


def test_the_next_call_on_the_route_begins_where_this_one_ended() -> None:
    memory = LineMemory()
    control = joined(memory)
    talk(control, 8)
    control.close()
    assert joined(memory).plan == CLEAN


def test_the_memory_of_lines_is_short() -> None:
    memory = LineMemory()
    for number in range(100):
        memory.keep(str(number), 3, 40.0)
    assert memory.recall("0") == (START, None)
    assert memory.recall("99") == (3, 40.0)
    assert len(memory._routes) == LineMemory.MAX_ROUTES


def test_a_growing_queue_sends_less() -> None:
    control = joined()
    talk(control, 2.0, grows=0.5)
    assert control.plan.kbit_s() < LADDER[START].clean.kbit_s()


def test_plain_loss_reports_count_where_nobody_reports_arrivals_and_only_there() -> None:
    plain, told = joined(mutual=False), joined()
    for control in (plain, told):
        now = talk(control, 1.0)
        control.loss(0.1, now if control is told else now + STALE_S + 1)
    assert told.plan.fec_percent == 0
    assert not told.plan.distances
    assert plain.plan.fec_percent or plain.plan.distances


def test_round_trips_that_grow_send_less_and_when_that_does_not_help_it_is_the_queue_of_others() -> None:
    ours = joined(mutual=False)
    for step in range(13):
        ours.round_trip(0.05 + max(step - 5, 0) * 0.1, 10.0 + step / 2)
    assert ours.plan.kbit_s() < LADDER[START].clean.kbit_s() / 2
    for step in range(13, 20):
        ours.round_trip(0.05 + (step - 5) * 0.1, 10.0 + step / 2)
    assert ours.plan == LADDER[START].clean


@pytest.mark.parametrize(
    ("limits", "most"),
    [
        (Limits(max_average_bitrate=20_000), 20_000),
        (Limits(max_packet_ms=20), None),
        (Limits(bandwidth_kbit_s=40.0), None),
    ],
)
def test_a_peers_limits_are_kept_on_every_rung(limits: Limits, most: int | None) -> None:
    control = joined(limits=limits)
    talk(control, 8)
    plan = control.plan
    assert limits.allow(plan)
    if most is not None:
        assert plan.frame_bytes(red=bool(plan.distances)) * 8000 / plan.frame_ms <= most
    if limits.max_packet_ms is not None:
        assert plan.frame_ms == 20
        talk(control, 8, 20.0, grows=0.3)
        assert control.plan.frame_ms == 20
    if limits.bandwidth_kbit_s is not None:
        assert plan.kbit_s() <= limits.bandwidth_kbit_s


def test_limits_that_nothing_meets_leave_the_least() -> None:
    assert allowed(Limits(max_average_bitrate=6_000)) == [0]


def test_the_ladder_rises_and_copies_never_take_more() -> None:
    speeds = rates()
    assert list(speeds) == sorted(speeds)
    for rung in LADDER:
        assert rung.lossy.kbit_s() <= rung.clean.kbit_s()
        whole = rung.lossy.frame_bytes(red=True) * (len(rung.lossy.distances) + 1)
        assert whole + 1 + 4 * len(rung.lossy.distances) == rung.lossy.packet_bytes
    assert speeds[-1] == (LOSS_BYTES + HEADER_BYTES) * 0.4


def heard(control: SendControl, pattern: str, seconds: float) -> None:
    """Let packets be lost where the pattern has an x."""
    now, sent = 0.0, 0
    while now < seconds:
        told = []
        for number in range(sent, sent + 12):
            came = None if pattern[number % len(pattern)] == "x" else number / 50 + 900.02
            told.append(PacketFate(number / 50, 136, came))
        sent += 12
        now += 0.24
        control.arrivals(told, now, 0.05)


def test_two_bursts_are_enough_to_spread_copies_and_single_losses_never_do() -> None:
    bursts, single = joined(), joined()
    heard(bursts, "xxxx" + "." * 76, 5.0)
    heard(single, "x" + "." * 9 + "xx" + "." * 18, 30.0)
    assert bursts.plan.distances == BURST_DISTANCES
    assert single.plan.distances != BURST_DISTANCES


def test_a_line_that_loses_half_of_the_least_for_ten_seconds_is_hopeless_and_one_that_heals_is_not() -> None:
    control = joined(limits=Limits(max_average_bitrate=6_000))
    heard(control, "xxx.", 9.0)
    assert not control.is_hopeless(9.0)
    heard(control, "xxx.", 14.0)
    assert control.is_hopeless(14.0)
    heard(control, ".", 14.5)
    assert not control.is_hopeless(14.5)


def test_where_voice_comes_and_no_reports_less_is_sent_until_one_shows_an_empty_line() -> None:
    control = joined()
    now = talk(control, 8)
    before = control.plan
    for step in range(250):
        control.is_there(now + step / 50)
    assert control.plan.kbit_s() < 0.75 * before.kbit_s()
    assert control.is_unheard(now + 5)
    control.arrivals(fates(now + 5, 12), now + 5.3, 0.05)
    assert control.plan == before
