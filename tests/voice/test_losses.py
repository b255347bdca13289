"""Chance, congestion and policers, told apart by which packets are lost."""

from __future__ import annotations

import random

import pytest

from voicemeet_edge.voice.delays import PacketFate
from voicemeet_edge.voice.losses import (
    CHANCE_S,
    LOSS_WINDOW,
    POLICE_TEST_PACKETS,
    ChanceLosses,
    FullQueue,
    PoliceTest,
)


def test_a_share_is_of_the_last_packets_and_congestion_is_no_chance() -> None:
    losses = ChanceLosses()
    assert losses.share() == losses.take() == 0.0
    for number in range(LOSS_WINDOW):
        losses.add(number % 5 == 0, chance=number % 10 == 0)
    assert losses.share() == pytest.approx(0.2)
    assert losses.congested() == pytest.approx(0.1)
    assert losses.take() == pytest.approx(0.1), "by chance"
    assert losses.take() == 0.0, "counted once"
    for _ in range(LOSS_WINDOW):
        losses.add(lost=False)
    assert losses.share() == losses.congested() == 0.0


def test_what_is_doubtful_is_lost_and_neither_chance_nor_congestion() -> None:
    losses = ChanceLosses()
    for number in range(LOSS_WINDOW):
        losses.add(number % 2 == 0, doubtful=True)
    assert losses.share() == pytest.approx(0.5)
    assert losses.congested() == losses.take() == 0.0


def test_runs_are_counted_by_what_follows_a_loss() -> None:
    losses = ChanceLosses()
    for lost in (True, True, True, False, False, True, False):
        losses.add(lost, chance=True)
    assert losses.take_runs() == (2, 2)
    assert losses.take_runs() == (0, 0)
    losses.forgive()
    assert losses.share() == losses.take() == 0.0


def sent(test: PoliceTest, lost: list[bool], at: float) -> None:
    for one in lost:
        test.add(one, at)


def policed(rate: float, passes: float, count: int, dice: random.Random) -> list[bool]:
    """What a policer takes: all that is above its rate."""
    return [dice.random() < max(0.0, 1 - passes / rate) for _ in range(count)]


def by_chance(share: float, count: int, dice: random.Random) -> list[bool]:
    return [dice.random() < share for _ in range(count)]


@pytest.mark.parametrize("seed", range(10))
def test_a_policer_lets_the_same_rate_through_whatever_is_sent(seed: int) -> None:
    dice, test = random.Random(seed), PoliceTest()
    sent(test, policed(60.0, 30.0, LOSS_WINDOW, dice), 0.0)
    assert test.suspicious(1.0)
    assert test.ready
    test.rate_changes(60.0, 30.0, 1.0)
    sent(test, policed(30.0, 30.0, LOSS_WINDOW, dice), 1.5)
    passes = test.verdict(late=True)
    assert passes is not None
    assert 20.0 < passes < 45.0
    assert test.helped()


@pytest.mark.parametrize("seed", range(10))
def test_chance_takes_the_same_share_and_is_not_suspected_again(seed: int) -> None:
    dice, test = random.Random(seed), PoliceTest()
    sent(test, by_chance(0.2, LOSS_WINDOW, dice), 0.0)
    test.rate_changes(60.0, 30.0, 1.0)
    sent(test, by_chance(0.2, LOSS_WINDOW, dice), 1.5)
    assert test.verdict(late=True) == 0.0
    test.is_chance(2.0)
    assert test.explained(2.0)
    assert not test.suspicious(2.0)
    assert test.unexplained(2.0 + CHANCE_S), "and some time later it is looked at again"


def test_without_a_second_rate_nothing_is_said() -> None:
    dice, test = random.Random(1), PoliceTest()
    sent(test, policed(60.0, 20.0, POLICE_TEST_PACKETS - 1, dice), 0.0)
    assert not test.ready
    test.rate_changes(60.0, 30.0, 1.0)
    sent(test, [False] * LOSS_WINDOW, 1.5)
    assert test.verdict(late=True) is None


def test_what_left_before_the_change_tells_nothing_of_the_new_rate() -> None:
    test = PoliceTest()
    sent(test, [False] * LOSS_WINDOW, 0.0)
    test.rate_changes(60.0, 30.0, 1.0)
    sent(test, [True] * LOSS_WINDOW, 0.9)
    assert test.share == 0.0
    assert test.verdict(late=False) is None


def test_more_loss_after_a_change_is_told_from_noise() -> None:
    test = PoliceTest()
    sent(test, [number % 10 == 0 for number in range(LOSS_WINDOW)], 0.0)
    test.rate_changes(30.0, 60.0, 1.0)
    sent(test, [number % 8 == 0 for number in range(40)], 1.5)
    assert not test.worse(suspected=False), "an eighth after a tenth"
    assert test.worse(suspected=True), "any is enough where a policer is"
    sent(test, [number % 2 == 0 for number in range(40)], 1.6)
    assert test.worse(suspected=False)


def test_loss_that_stays_at_the_policers_rate_is_none_of_its() -> None:
    test = PoliceTest()
    sent(test, [False] * LOSS_WINDOW, 0.0)
    assert not test.still()
    sent(test, [number % 10 == 0 for number in range(LOSS_WINDOW)], 0.0)
    assert test.still()


@pytest.mark.parametrize(("apart_s", "kbit_s"), [(0.02, None), (0.025, 32.0)])
def test_packets_that_come_slower_than_they_leave_wait_for_each_other(
    apart_s: float, kbit_s: float | None
) -> None:
    """Also where all that was lost was lost beside a report of ours, so that no gap tells."""
    full, came_at = FullQueue(), 0.0
    before = PacketFate(0.0, 100, came_at)
    for number in range(1, 20):
        came_at += apart_s
        after = PacketFate(number * 0.02, 100, came_at, behind=number % 4 == 0)
        full.add(before, [after] if after.behind else [], after)
        before = after
    assert full.speed() == (None if kbit_s is None else pytest.approx(kbit_s))
