"""The pace of a card: found by a few waits, kept while its clock drifts, and never late for long."""

from __future__ import annotations

import numpy as np
import pytest

from voicemeet_edge.audio.playback_clock import PROBE_PERIODS, SLACK_S, PlaybackClock
from voicemeet_edge.voice.format import PERIOD_S


class Card:
    """A full buffer that takes a period each 10 ms of its own clock."""

    def __init__(self, rate: float = 1.0) -> None:
        self.now = 100.0
        self.clock = PlaybackClock()
        self.early: list[float] = []
        """How long before there was room each period was decided."""
        self._room_at = 100.003
        self._period_s = PERIOD_S / rate

    def period(self, held_up_s: float = 0.0) -> None:
        """Rest, decide, write; the machine stands still for a while in the write."""
        self.now += self.clock.rest(self.now)
        self.early.append(self._room_at - self.now)
        before = self.now
        self.now = max(self.now, self._room_at) + 0.00005 + held_up_s
        self._room_at += self._period_s
        if self.clock.watched:
            self.clock.wrote(before, self.now)

    def pair(self) -> None:
        """Rest, decide, write two; of the first only a card of which nothing is known tells anything."""
        self.now += self.clock.rest(self.now, lean=True)
        for fills in (not self.clock.is_known, True):
            self.early.append(self._room_at - self.now)
            before = self.now
            self.now = max(self.now, self._room_at) + 0.00005
            self._room_at += self._period_s
            if self.clock.watched and fills:
                self.clock.wrote(before, self.now)
            if len(self.early) % 2:
                self.clock.another()


@pytest.mark.parametrize("rate", [1.0, 1.0005, 0.9995])
def test_sound_is_decided_when_there_is_room(rate: float) -> None:
    card = Card(rate)
    for _ in range(6_000):
        card.period()
    early = np.array(card.early[PROBE_PERIODS:])
    assert early.max() < 0.002
    assert early.min() > -0.001


def test_hardly_any_write_waits() -> None:
    card = Card()
    for _ in range(1_000):
        card.period()
    assert sum(early > 0 for early in card.early) < 1_000 / PROBE_PERIODS + 5


def test_a_machine_that_stood_still_in_a_write_does_not_make_it_late() -> None:
    card = Card()
    for _ in range(200):
        card.period()
    while card.clock._until_probe:  # the next write is looked at
        card.period()
    card.period(held_up_s=0.007)
    held_up = len(card.early)
    for _ in range(2 * PROBE_PERIODS):
        card.period()
    late = -np.array(card.early[held_up + 1 :])
    assert late.max() < 0.0015 + SLACK_S
    assert late[-PROBE_PERIODS // 2 :].max() < 0.001


def test_held_up_in_the_first_write_it_finds_the_card_all_the_same() -> None:
    card = Card()
    card.period(held_up_s=0.006)
    for _ in range(30):
        card.period()
    assert -0.001 < card.early[-1] < 0.002


def test_of_a_lost_stream_nothing_is_known() -> None:
    card = Card()
    for _ in range(10):
        card.period()
    card.clock.lost()
    assert card.clock.rest(card.now) == 0.0
    card.clock.wrote(card.now, card.now)
    assert card.clock.rest(card.now) == 0.0


def test_a_stream_that_never_waits_is_never_rested_for() -> None:
    clock = PlaybackClock()
    for n in range(100):
        assert clock.rest(n * 0.01) == 0.0
        clock.wrote(n * 0.01, n * 0.01 + 0.0001)


def test_lean_it_waits_for_room_for_two_and_the_second_is_written_as_there_is_room() -> None:
    card = Card()
    for _ in range(3 * PROBE_PERIODS):
        card.pair()
    seconds = np.array(card.early[2 * PROBE_PERIODS + 1 :: 2])
    assert seconds.max() < 0.002
    assert seconds.min() > -0.001
    firsts = np.array(card.early[2 * PROBE_PERIODS :: 2])
    assert firsts.max() < -0.008  # there has been room for it for nearly a period
    assert firsts.min() > -0.011


@pytest.mark.parametrize("rate", [1.0005, 0.9995])
def test_lean_it_follows_a_card_that_drifts(rate: float) -> None:
    card = Card(rate)
    for _ in range(6_000):
        card.pair()
    seconds = np.array(card.early[2 * PROBE_PERIODS + 1 :: 2])
    assert seconds.max() < 0.0025
    assert seconds.min() > -0.002
