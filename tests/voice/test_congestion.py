"""The congestion control over virtual lines: it finds the rate, stays there, and starves nobody.

`bench.line` puts virtual packets over a seeded line: a minute of call takes some ten milliseconds.
"""

from __future__ import annotations

import random

import pytest

from bench.line import LINES, Trip, simulate
from voicemeet_edge.testing.line import Impairment
from voicemeet_edge.voice.congestion import FOREIGN_LEAST, RAREST_BELOW, START_AGAIN, CongestionControl
from voicemeet_edge.voice.delays import PacketFate
from voicemeet_edge.voice.ladder import LADDER, START, TOP, rates

CLEAN_TOP = TOP - 1


def line(**fields: float) -> Impairment:
    return Impairment(keep_order=True, **fields)  # type: ignore[arg-type]


def after(trip: Trip, moment: float) -> list[float | None]:
    return [delay for at, delay in trip.sent if at >= moment]


def lost(delays: list[float | None]) -> float:
    return sum(delay is None for delay in delays) / len(delays)


def middle(delays: list[float | None]) -> float:
    came = sorted(delay for delay in delays if delay is not None)
    return came[len(came) // 2]


def rungs(trip: Trip, start: float, end: float = 1e9) -> list[int]:
    return [rung for at, rung, probing, _ in trip.rungs if start <= at < end and not probing]


@pytest.mark.parametrize(
    ("name", "lowest", "highest", "delay_s"),
    [
        ("narrow60", 7, 8, 0.08),
        ("narrow48", 4, 7, 0.09),
        ("narrow48-loss5", 2, 7, 0.09),
        ("narrow32", 2, 4, 0.12),
        ("narrow24", 0, 1, 0.15),
    ],
)
def test_a_narrow_line_is_used_and_its_queue_stays_empty(
    name: str, lowest: int, highest: int, delay_s: float
) -> None:
    for seed in range(3):
        trip = simulate(LINES[name], 60, seed)
        assert lowest <= min(rungs(trip, 5)) <= max(rungs(trip, 5)) <= highest
        assert middle(after(trip, 3)) < delay_s
        if "loss" not in name:
            assert lost(after(trip, 3)) < 0.01


def test_a_line_that_is_known_is_not_measured_again_and_a_faster_one_is_noticed() -> None:
    """A pair makes the next packet wait; that a line got faster, the delay tells by itself."""
    trip = simulate(((0, line(kbit_s=48, queue_s=0.3)), (40, line(kbit_s=300, queue_s=0.3))), 60)
    late = [delay for at, delay in trip.sent if 10 <= at < 38 and delay is not None]
    assert sum(delay > min(late) + 0.022 for delay in late) < 0.02 * len(late)
    assert set(rungs(trip, 44.0)) == {CLEAN_TOP}


def test_a_queue_that_builds_is_answered_within_a_second() -> None:
    for kbit_s in (60, 48, 32):
        trip = simulate(((0, Impairment()), (10, line(kbit_s=kbit_s, queue_s=1.0))), 20)
        first = next(at for at, rung, _, _ in trip.rungs if at > 10 and rung < CLEAN_TOP)
        assert first < 11.0


@pytest.mark.parametrize("name", ["clean", "jitter", "wifi", "loss5", "loss20", "burst"])
def test_chance_is_no_congestion_and_no_policer(name: str) -> None:
    """Below START packets are 40 ms long, and the delay they bring stays for 20 s."""
    for seed in range(5):
        trip = simulate(LINES[name], 60, seed)
        standing = rungs(trip, 4)
        assert sum(rung >= CLEAN_TOP for rung in standing) > 0.9 * len(standing)
        assert min(rung for _, rung, _, _ in trip.rungs) >= START


def test_a_line_that_comes_back_is_used_again_within_three_seconds() -> None:
    trip = simulate(LINES["step"], 60)
    assert set(rungs(trip, 5, 20)) == {CLEAN_TOP}
    assert max(rungs(trip, 22, 40)) < CLEAN_TOP
    assert set(rungs(trip, 43.5)) == {CLEAN_TOP}


def test_a_policer_is_kept_to_and_loss_by_chance_is_not_taken_for_one() -> None:
    for kbit_s in (60, 40):
        trip = simulate(((0, line(police_kbit_s=kbit_s)),), 60)
        assert lost(after(trip, 4)) < 0.04
    # It lets a little less through than was thought at first: that is no chance.
    assert lost(after(simulate(((0, line(police_kbit_s=44)),), 60, 175), 5)) < 0.03
    assert CLEAN_TOP + 1 in rungs(simulate(LINES["loss20"], 20), 3)


def test_a_queue_of_somebody_else_does_not_starve_us() -> None:
    trip = simulate(LINES["bloat"], 80)
    standing = rungs(trip, 10)
    assert sum(rung >= 5 for rung in standing) >= 0.9 * len(standing)


def test_rungs_that_are_named_are_those_of_the_ladder() -> None:
    assert LADDER[START_AGAIN].clean.kbit_s() == pytest.approx(54.4)
    copies = [number for number, rung in enumerate(LADDER) if rung.lossy.distances]
    assert copies[0] == FOREIGN_LEAST
    long = [number for number, rung in enumerate(LADDER) if rung.clean.frame_ms >= 60]
    assert long[-1] == RAREST_BELOW - 1


@pytest.mark.parametrize("jitter_s", [0.001, 0.002, 0.003])
@pytest.mark.parametrize("burst", [1, 4])
def test_chance_on_a_line_that_trembles_a_little_is_no_full_queue(jitter_s: float, burst: int) -> None:
    """Half of the packets come late, so a middle says nothing; what they take in all does."""
    for loss in (0.01, 0.03, 0.05):
        trip = simulate(((0, line(loss=loss, burst=burst, jitter_s=jitter_s, delay_s=0.03)),), 180, 3)
        assert min(rung for at, rung, _, _ in trip.rungs if at > 5) >= CLEAN_TOP


@pytest.mark.parametrize("kbit_s", [200, 300, 600])
@pytest.mark.parametrize("queue_s", [0.5, 1.5])
def test_downloads_of_others_do_not_hold_us_on_the_lowest_rung(kbit_s: float, queue_s: float) -> None:
    """Its packets of 120 ms are hard to miss, and copies have no room there; sending less drains nothing."""
    for rivals in (1, 3):
        trip = simulate(((0, line(kbit_s=kbit_s, queue_s=queue_s, delay_s=0.02, rivals=rivals)),), 60)
        standing = rungs(trip, 6)
        assert sum(rung == 0 for rung in standing) < 0.35 * len(standing)


# Dice of our own: hypothesis mixes in constants of what else was imported, and then a seed does not say all.


def any_line(dice: random.Random) -> Impairment:
    """Return a line with a rate or without one, with loss or without."""
    return line(
        kbit_s=dice.choice((0.0, dice.uniform(22, 400))),
        queue_s=dice.uniform(0.1, 2.0),
        delay_s=dice.uniform(0.0, 0.15),
        loss=dice.choice((0.0, dice.uniform(0.0, 0.12))),
        jitter_s=dice.uniform(0.0, 0.02),
    )


@pytest.mark.parametrize("seed", range(30))
def test_a_steady_line_is_no_swing(seed: int) -> None:
    """When it has found the rate, the rung moves by two at most, trials apart."""
    trip = simulate(((0, any_line(random.Random(seed))),), 80, seed)
    standing = [rung for rung in rungs(trip, 30) if rung != TOP] or [CLEAN_TOP]
    settled = sorted(standing)[len(standing) // 2]
    beyond = sum(abs(rung - settled) > 2 for rung in standing)
    assert beyond <= 0.1 * len(standing)


@pytest.mark.parametrize("seed", range(20))
def test_a_line_that_recovers_is_not_starved(seed: int) -> None:
    bad = any_line(random.Random(seed))
    good = line(delay_s=bad.delay_s)
    trip = simulate(((0, bad), (20, good)), 100, seed)
    assert max(rungs(trip, 85)) >= CLEAN_TOP


@pytest.mark.parametrize("seed", range(20))
def test_no_policer_takes_more_than_a_second_of_ten(seed: int) -> None:
    kbit_s = random.Random(seed).uniform(25, 90)
    trip = simulate(((0, line(police_kbit_s=kbit_s, delay_s=0.02)),), 65, seed)
    dropped = [delay is None for at, delay in trip.sent if at >= 5]
    assert sum(dropped) / len(dropped) <= 0.06
    for start in range(5, 55, 10):
        window = [delay is None for at, delay in trip.sent if start <= at < start + 10]
        assert sum(window) / len(window) <= 0.15


@pytest.mark.parametrize("seed", range(60))
def test_any_reports_at_all_end_on_a_rung(seed: int) -> None:
    """Whatever the other end says of arrivals, nothing is raised and the rung is one of the ladder's."""
    dice = random.Random(seed)
    control = CongestionControl(rates(), start=6, now=0.0)
    now = 0.0
    for _ in range(40):
        now += dice.uniform(0.0, 1.0)
        fates = [
            PacketFate(
                now - dice.uniform(-1, 2),
                dice.randint(1, 1500),
                None if dice.random() < 0.3 else dice.uniform(-1e6, 1e6),
                dice.random() < 0.1,
            )
            for _ in range(dice.randint(0, 60))
        ]
        decision = control.report(fates, now, dice.uniform(0, 3))
        assert 0 <= decision.rung <= TOP
        assert len(LADDER) == TOP


def test_the_report_of_a_line_is_bounded() -> None:
    """A call of an hour keeps no more than one of a minute."""
    control = CongestionControl(rates(), start=6, now=0.0)
    for second in range(600):
        control.report(
            [PacketFate(second + n / 50, 172, second + n / 50 + 0.02) for n in range(50)], second + 1.0, 0.05
        )
    assert len(control._watch._seen) < 200
    assert len(control._watch._lows) < 20
    assert len(control._watch._longest) < 200
