"""What a browser is told of its line: nothing on a good one, and soon what a narrow one carries."""

from __future__ import annotations

import random

from voicemeet_edge.testing.line import Impairment, Way
from voicemeet_edge.voice.incoming import ADVICE, DEFAULT, IncomingWatch, suits


def watch(
    impairment: Impairment, seconds: float, *, obeys: bool, begins_at: float = 0.0
) -> list[tuple[float, int]]:
    """Let a browser send over a line; returns when each advice was first given."""
    way, dice, incoming = Way(impairment), random.Random(1), IncomingWatch()
    if begins_at:
        way._free_at = begins_at + impairment.queue_s  # the set-up filled it
    told: list[tuple[float, int]] = [(0.0, ADVICE[-1].bitrate)]
    sequence, timestamp, now, packet_ms = 65_000, 2**32 - 10_000, begins_at, 20
    while now < begins_at + seconds:
        advice = incoming.advice if obeys else ADVICE[-1]
        packet_ms = advice.packet_ms
        octets = advice.bitrate * packet_ms // 8000 + 56
        due = way.due(now, octets, dice)
        if due is not None:
            incoming.note(sequence & 0xFFFF, timestamp & 0xFFFFFFFF, octets, due)
        if incoming.advice.bitrate != told[-1][1]:
            told.append((now - begins_at, incoming.advice.bitrate))
        sequence += 1
        timestamp += packet_ms * 48
        now += packet_ms / 1000
    return told


def test_a_good_line_is_nothing_to_tell_of() -> None:
    for impairment in (
        Impairment(delay_s=0.02),
        Impairment(delay_s=0.02, loss=0.03),
        Impairment(delay_s=0.04, jitter_s=0.015),
    ):
        assert len(watch(impairment, 60, obeys=True)) == 1


def test_a_narrow_line_is_told_within_two_seconds_and_fits() -> None:
    told = watch(Impairment(kbit_s=48, queue_s=0.5, delay_s=0.02), 30, obeys=True)
    assert told[1][0] < 2.0
    assert min(bitrate for _, bitrate in told) >= 12_000
    assert told[-1][1] < 32_000


def test_who_does_not_listen_is_told_no_more() -> None:
    told = watch(Impairment(kbit_s=40, queue_s=0.5, delay_s=0.02), 30, obeys=False)
    assert told[-1][1] < ADVICE[-1].bitrate


def test_what_a_line_carries_is_asked_for() -> None:
    assert suits(1000.0) is DEFAULT
    assert suits(48.0) == (24_000, 40)
    assert suits(5.0) is ADVICE[0]


def test_a_device_that_runs_for_days_sees_a_queue_that_was_full_before_the_call() -> None:
    """Its clock is far beyond the 25 hours after which a browser's begins anew."""
    for kbit_s in (24, 32, 40):
        line = Impairment(kbit_s=kbit_s, queue_s=0.2, delay_s=0.02, keep_order=True)
        told = watch(line, 30, obeys=True, begins_at=3_000_000.0)
        assert len(told) > 1
        assert told[1][0] < 3.0
