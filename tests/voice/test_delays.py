"""Queues read from one-way delays, packet by packet."""

from __future__ import annotations

import pytest

from voicemeet_edge.voice.delays import (
    BASE_BIN_S,
    BASE_BINS,
    SPARSE,
    BaseDelay,
    PacketFate,
    QueueWatch,
    slope,
)

SKEW_S = 1234.5  # s between the two clocks
WAY_S = 0.03
OCTETS = 100


def report(watch: QueueWatch, now: float, queues: list[float], *, every_s: float = 0.02) -> None:
    """Tell of packets that left one after the other and met these queues."""
    first = now - every_s * len(queues)
    fates = [
        PacketFate(at, OCTETS, at + WAY_S + SKEW_S + queue)
        for at, queue in ((first + every_s * number, queue) for number, queue in enumerate(queues))
    ]
    watch.begin(fates, 0.0, now)
    for fate in fates:
        watch.add(fate, 0.0)
    watch.end(now)


def test_the_difference_of_the_clocks_is_no_queue() -> None:
    watch = QueueWatch()
    report(watch, 1.0, [0.0] * 10)
    assert watch.queue_s == pytest.approx(0.0, abs=1e-6)


def test_a_queue_is_the_least_of_its_packets_and_the_longest_is_remembered() -> None:
    watch = QueueWatch()
    report(watch, 1.0, [0.0] * 10)
    report(watch, 2.0, [0.2, 0.1, 0.3, 0.15, 0.2, 0.25])
    assert watch.queue_s == pytest.approx(0.1, abs=1e-6)
    assert watch.beside() == pytest.approx(0.0, abs=1e-6), "of eight packets, two are older"
    report(watch, 4.0, [0.0] * 10)
    assert watch.queue_s == pytest.approx(0.0, abs=1e-6)
    assert watch.longest(4.0) == pytest.approx(0.1, abs=1e-6)
    assert watch.longest(40.0) == 0.0


def test_a_growing_queue_has_a_slope_and_jitter_has_none() -> None:
    watch = QueueWatch()
    report(watch, 1.0, [0.0] * 25)
    report(watch, 2.0, [0.1 * number * 0.02 for number in range(50)])
    assert watch.growth(slow=True) == pytest.approx(0.1, abs=0.02)
    still = QueueWatch(SPARSE)
    assert still.growth(slow=True) == 0.0, "nothing came yet"
    report(still, 1.0, [0.0, 0.02] * 25)
    assert abs(still.growth(slow=True)) < 0.02


def test_a_slope_needs_points_that_differ() -> None:
    assert slope([(0.0, 1.0), (1.0, 2.0), (2.0, 3.0)]) == 0.0
    assert slope([(1.0, 1.0), (1.0, 2.0), (1.0, 3.0), (1.0, 4.0)]) == 0.0
    assert slope([(0.0, 1.0), (1.0, 3.0), (2.0, 5.0), (3.0, 7.0)]) == pytest.approx(2.0)


def test_a_standing_queue_tells_the_lines_rate() -> None:
    watch = QueueWatch()
    assert watch.arriving() is None
    report(watch, 1.0, [0.0] * 10)
    assert watch.arriving() is None, "what did not wait tells of the sender"
    report(watch, 2.0, [0.05 + 0.02 * number for number in range(20)])
    assert watch.arriving() == pytest.approx(OCTETS * 0.008 / 0.04, rel=0.05)  # one each 40 ms
    assert watch.arriving(sent_before=1.0) is None


def test_a_longer_way_is_believed_after_all_bins_and_a_shorter_one_at_once() -> None:
    base = BaseDelay()
    base.add(0.03, 0.0, 0.0)
    now = 0.0
    while now < BASE_BINS * BASE_BIN_S:
        now += BASE_BIN_S
        base.add(0.08, 0.0, now)
        if now < BASE_BINS * BASE_BIN_S:
            assert base.queue(0.08, 0.0) == pytest.approx(0.05)
    assert base.queue(0.08, 0.0) == pytest.approx(0.0)
    base.add(0.05, 0.0, now + 1.0)
    assert base.fell_at == now + 1.0
    assert base.queue(0.08, 0.0) == pytest.approx(0.03)


def test_a_long_packets_own_time_is_no_queue() -> None:
    base = BaseDelay()
    base.add(0.03, 0.002, 0.0)
    assert base.queue(0.05, 0.022) == pytest.approx(0.0)
    assert base.queue(0.05, 0.002) == pytest.approx(0.02)


def test_a_queue_that_was_there_from_the_beginning_shows_by_what_the_base_falls() -> None:
    watch = QueueWatch()
    report(watch, 1.0, [0.3] * 10)
    assert watch.base_fell(1.0, 0.5) == 0.0, "nothing is known of before"
    report(watch, 1.6, [0.3] * 10)
    assert watch.base_fell(1.6, 0.5) == pytest.approx(0.0, abs=1e-6)
    for step in range(4):
        report(watch, 2.1 + step / 2, [0.3 - 0.05 * step - 0.005 * place for place in range(10)])
        assert watch.queue_s < 0.01
    assert watch.base_fell(3.6, 0.5) == pytest.approx(0.05, abs=1e-6)
    assert watch.base_fell(9.0, 20.0) == 0.0
