"""The line of the tests does to packets what its fields say: queue, policer, wandering, rivals."""

from __future__ import annotations

import random

from voicemeet_edge.testing.line import Impairment, Way


def run(
    impairment: Impairment, seconds: float, every_s: float = 0.02, octets: int = 172
) -> list[float | None]:
    """Send packets at a fixed rhythm; the delay of each, None for a lost one."""
    way, dice = Way(impairment), random.Random(1)
    delays = []
    for number in range(int(seconds / every_s)):
        now = number * every_s
        due = way.due(now, octets, dice)
        delays.append(None if due is None else due - now)
    return delays


def test_a_queue_fills_to_its_length_and_then_drops_what_exceeds_the_rate() -> None:
    delays = run(Impairment(kbit_s=48, queue_s=0.3), 40)
    came = [delay for delay in delays[500:] if delay is not None]
    assert abs(len(came) * 172 * 8 / 30 / 1000 - 48) < 0.5
    assert 0.29 < max(came) < 0.36
    assert min(came) > 0.25


def test_a_policer_drops_without_delay() -> None:
    delays = run(Impairment(police_kbit_s=48, delay_s=0.01), 40)
    came = [delay for delay in delays if delay is not None]
    assert abs(len(came) * 172 * 8 / 40 / 1000 - 48) < 1.0
    assert max(came) < 0.011


def test_a_line_that_wanders_keeps_the_order() -> None:
    delays = run(Impairment(kbit_s=100, queue_s=1.0, delay_s=0.02, wander=0.5), 40)
    arrivals = [number * 0.02 + delay for number, delay in enumerate(delays) if delay is not None]
    assert arrivals == sorted(arrivals)
    assert max(delay for delay in delays if delay is not None) > 0.1


def test_rivals_fill_the_queue_and_leave_a_share() -> None:
    delays = run(Impairment(kbit_s=300, queue_s=1.0, rivals=1), 60)
    came = [delay for delay in delays[1500:] if delay is not None]
    assert len(came) / len(delays[1500:]) > 0.9
    assert 0.3 < sorted(came)[len(came) // 2] < 1.1


def test_one_seed_gives_one_line() -> None:
    impairment = Impairment(loss=0.1, kbit_s=100, wander=0.5, delay_s=0.02, jitter_s=0.01)
    assert run(impairment, 10) == run(impairment, 10)
