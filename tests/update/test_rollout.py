"""The roll-out, alone and over a thousand simulated devices that decide by themselves."""

from __future__ import annotations

import random
from dataclasses import dataclass

import pytest

from voicemeet_edge.update.choice import Here, choose
from voicemeet_edge.update.history import History
from voicemeet_edge.update.offer import UpdateOffer
from voicemeet_edge.update.rollout import MIN_GOOD, STAGE_S, STAGES, Rollout, next_of
from voicemeet_edge.update.version import SystemVersion

NOW = 1_800_000_000.0
NEW = SystemVersion(0, 2, 0)
BOARD = "voicemeet-edge-device-arm64"
DAY = 86_400.0


def test_a_stage_lasts_its_time_and_until_enough_went_well() -> None:
    rollout = Rollout("0.2.0", NOW)
    assert rollout.percent == STAGES[0]
    good = rollout.told(good=True)
    assert good.at(NOW + STAGE_S - 1) == good
    assert good.at(NOW + STAGE_S).percent == STAGES[1]
    assert good.at(NOW + STAGE_S).at(NOW + 10 * STAGE_S).good < MIN_GOOD[1]
    assert good.at(NOW + STAGE_S).at(NOW + 10 * STAGE_S).percent == STAGES[1]


def test_a_stage_with_nobody_in_it_does_not_last_for_ever() -> None:
    rollout = Rollout("0.2.0", NOW)
    assert rollout.at(NOW + STAGE_S).percent == STAGES[0]
    assert rollout.at(NOW + 2 * STAGE_S).percent == STAGES[1]


def test_one_device_with_trouble_of_its_own_stops_nobody_and_two_do() -> None:
    one = Rollout("0.2.0", NOW).told(good=False)
    assert not one.stopped
    two = one.told(good=False)
    assert two.stopped
    assert two.percent == 0
    assert two.at(NOW + 100 * STAGE_S) == two
    assert "stopped by itself" in two.sentence()
    assert two.told(good=True).stopped
    again = two.resumed(NOW + 5)
    assert (again.percent, again.bad) == (STAGES[0], 0)


def test_below_two_per_cent_it_goes_on() -> None:
    rollout = Rollout("0.2.0", NOW)
    for _ in range(200):
        rollout = rollout.told(good=True)
    for _ in range(4):
        rollout = rollout.told(good=False)
    assert not rollout.stopped
    assert rollout.told(good=False).stopped


def test_the_last_stage_is_the_last_and_a_clock_set_back_stops_nothing() -> None:
    rollout = Rollout("0.2.0", NOW, stage=len(STAGES) - 1)
    assert rollout.at(NOW + 100 * STAGE_S) == rollout
    assert rollout.percent == 100
    back = Rollout("0.2.0", NOW, good=10)
    assert back.at(NOW - 5).percent == STAGES[1]


def test_a_version_goes_on_where_it_was() -> None:
    known = Rollout("0.2.0", NOW, stage=2)
    assert next_of([known], "0.2.0", NOW + 5) is known
    assert next_of([known], "0.3.0", NOW + 5) == Rollout("0.3.0", NOW + 5)


@dataclass
class Fleet:
    """A thousand devices, each with its own history; whether a version is bad for it is chance."""

    bad_share: float
    seed: int

    def __post_init__(self) -> None:
        chance = random.Random(self.seed)
        self.histories = [History(f"{chance.getrandbits(128):032x}") for _ in range(1_000)]
        self.is_bad = [chance.random() < self.bad_share for _ in self.histories]
        self.updated: set[int] = set()
        self.fell_back: set[int] = set()
        self.rollout = Rollout(str(NEW), NOW)

    def one_day(self, now: float) -> None:
        """Let each device that does not have it ask once."""
        old = Here(BOARD, SystemVersion(0, 1, 0))
        for number, history in enumerate(self.histories):
            self.rollout = self.rollout.at(now)
            offer = UpdateOffer(BOARD, NEW, "x.raucb", 1, "ab" * 32, self.rollout.percent)
            if number in self.updated or not choose(offer, old, history, now).take:
                continue
            tried = history.begins(NEW, "b", "a")
            bad = self.is_bad[number]
            self.histories[number] = tried.fell_back("no sound", now) if bad else tried.proved()
            (self.fell_back if bad else self.updated).add(number)
            self.rollout = self.rollout.told(good=not bad)

    def days(self, count: int) -> None:
        """Let days pass; once it is stopped one more is looked at, as all are alike then."""
        for day in range(count):
            was_stopped = self.rollout.stopped
            self.one_day(NOW + day * DAY)
            if was_stopped:
                return


def test_a_good_version_reaches_all_thousand() -> None:
    fleet = Fleet(0.0, seed=1)
    fleet.days(len(STAGES) + 1)
    assert len(fleet.updated) == 1_000
    assert not fleet.rollout.stopped


@pytest.mark.parametrize("seed", range(20))
def test_a_version_that_one_in_ten_cannot_use_stops_early(seed: int) -> None:
    fleet = Fleet(0.10, seed)
    fleet.days(30)
    assert fleet.rollout.stopped
    assert len(fleet.updated | fleet.fell_back) < 300


@pytest.mark.parametrize("seed", range(20))
def test_a_version_that_three_in_a_hundred_cannot_use_never_reaches_all(seed: int) -> None:
    fleet = Fleet(0.03, seed)
    fleet.days(30)
    assert fleet.rollout.stopped
    assert len(fleet.updated) < 970


def test_a_version_nobody_can_use_costs_two_devices_a_start() -> None:
    fleet = Fleet(1.0, seed=1)
    fleet.days(30)
    assert fleet.rollout.stopped
    assert not fleet.updated
    assert len(fleet.fell_back) == 2
