"""Lamp patterns: what they must not look like, and the task that plays them."""

from __future__ import annotations

import asyncio
import itertools
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import cast

import pytest

from voicemeet_edge.call.signs import Lamp
from voicemeet_edge.panel.lamp import DIM, PATTERNS, LampDriver, Step, brightness
from voicemeet_edge.settings import ReadyLamp

SECONDS = 12.0  # longer than any pattern


def unrolled(pattern: tuple[Step, ...], seconds: float = SECONDS) -> list[Step]:
    """Play a pattern for a while, with equal neighbours merged."""
    steps: list[Step] = []
    for step in itertools.cycle(pattern):
        if sum(one.seconds for one in steps) >= seconds:
            return steps
        if steps and steps[-1].level == step.level:
            steps[-1] = Step(step.level, steps[-1].seconds + step.seconds)
        else:
            steps.append(step)
    raise AssertionError


def test_every_lamp_has_a_pattern() -> None:
    assert set(PATTERNS) == set(Lamp)
    for pattern in PATTERNS.values():
        for step in pattern:
            assert 0.0 <= step.level <= 1.0
            assert 0.0 < step.seconds <= 3.0


def test_no_two_lamps_look_the_same() -> None:
    seen = [tuple(unrolled(pattern)) for pattern in PATTERNS.values()]
    assert len(set(seen)) == len(seen)


def test_only_an_open_microphone_is_steady_and_full() -> None:
    for lamp, pattern in PATTERNS.items():
        longest_full = max((step.seconds for step in unrolled(pattern) if step.level > 0.5), default=0.0)
        assert (longest_full >= SECONDS) == (lamp is Lamp.MICROPHONE_OPEN), lamp
        if lamp is not Lamp.MICROPHONE_OPEN:
            assert longest_full <= 1.0, lamp


def test_nothing_flashes_more_than_three_times_in_a_second() -> None:
    for lamp, pattern in PATTERNS.items():
        rises, now, level = [], 0.0, 0.0
        for step in unrolled(pattern):
            if step.level - level >= 0.5:
                rises.append(now)
            level, now = step.level, now + step.seconds
        for start in rises:
            assert sum(start <= rise < start + 1.0 for rise in rises) <= 3, lamp


def test_what_is_shown_for_days_dims_nothing_and_wakes_nobody_often() -> None:
    for lamp in (Lamp.OFF, Lamp.READY, Lamp.WAITING, Lamp.ERROR):
        pattern = PATTERNS[lamp]
        assert {step.level for step in pattern} <= {0.0, 1.0}, lamp
        seconds = sum(step.seconds for step in pattern)
        assert len(pattern) == 1 or len(pattern) / seconds <= 1.5, lamp


def test_ready_can_be_a_steady_glow() -> None:
    light = Light(ready="dim")
    light.driver.show(Lamp.READY)
    light.time.passes(60.0)
    assert light.levels == [DIM]
    light.driver.show(Lamp.RECONNECTING)
    assert light.levels == [DIM, 1.0]


def picture(pattern: tuple[Step, ...]) -> str:
    """Draw four seconds of a pattern, a tenth of a second for each character."""
    steps = unrolled(pattern)
    levels = [step.level for step in steps for _ in range(round(step.seconds * 100))]
    sampled = levels[5:400:10]  # the middle of each tenth
    return "".join("█" if level >= 0.6 else "▒" if level > 0 else "·" for level in sampled)


def test_the_pictures_in_the_docs_are_drawn_from_the_table() -> None:
    docs = (Path(__file__).parent.parent.parent / "docs" / "panel.md").read_text()
    rows = dict(re.findall(r"^\| \**([a-z ]+?)\** \|[^|]*\| `([█▒·]+)` \|$", docs, re.MULTILINE))
    assert rows == {lamp.value.replace("_", " "): picture(pattern) for lamp, pattern in PATTERNS.items()}


def test_night_dims_everything_but_an_open_microphone() -> None:
    assert brightness(Lamp.READY, 0.2, 50) == 0.1
    assert brightness(Lamp.ERROR, 1.0, 0) == 0.0
    assert brightness(Lamp.MICROPHONE_OPEN, 1.0, 0) == 1.0


class Timer:
    """What `call_at` returned: cancelled or not."""

    def __init__(self, when: float, callback: Callable[[], object]) -> None:
        self.when = when
        self.callback = callback
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class ToldTime:
    """The one thing of a loop that a driver uses; time passes when it is told to."""

    def __init__(self) -> None:
        self.now = 0.0
        self.timers: list[Timer] = []

    def time(self) -> float:
        return self.now

    def call_at(self, when: float, callback: Callable[..., object], *arguments: object) -> Timer:
        timer = Timer(when, partial(callback, *arguments))
        self.timers.append(timer)
        return timer

    def passes(self, seconds: float) -> None:
        until = self.now + seconds
        while due := [one for one in self.timers if not one.cancelled and one.when <= until]:
            timer = min(due, key=lambda one: one.when)
            self.timers.remove(timer)
            self.now = timer.when
            timer.callback()
        self.now = until


class Light:
    """A driver, what it wrote, and its time."""

    def __init__(self, ready: ReadyLamp = "flash") -> None:
        self.levels: list[float] = []
        self.time = ToldTime()
        loop = cast("asyncio.AbstractEventLoop", self.time)
        self.driver = LampDriver(self.write, loop=loop, ready=ready)

    def write(self, lamp: Lamp, level: float) -> None:
        self.levels.append(level)


def test_a_steady_lamp_is_written_before_show_returns_and_once() -> None:
    light = Light()
    driver = light.driver
    driver.show(Lamp.MICROPHONE_OPEN)
    assert light.levels == [1.0]
    driver.show(Lamp.MICROPHONE_OPEN)
    assert light.levels == [1.0]
    assert driver.lamp is Lamp.MICROPHONE_OPEN
    light.time.passes(60.0)
    assert light.levels == [1.0]


def test_a_pattern_repeats() -> None:
    light = Light()
    light.driver.show(Lamp.RECONNECTING)
    light.time.passes(4.5 * PATTERNS[Lamp.RECONNECTING][0].seconds)
    assert light.levels == [1.0, 0.0, 1.0, 0.0, 1.0]


@pytest.mark.parametrize("begun", [0.0, 0.3, 0.95, 1.0, 1.7, 1.99])
def test_ready_flashes_at_the_beats_at_which_the_device_wakes_anyway(begun: float) -> None:
    light = Light()
    light.time.now = begun
    light.driver.show(Lamp.READY)
    light.time.passes(0.1)
    assert light.levels == [1.0, 0.0]
    light.time.passes(0.84)  # whatever comes next, no second flash within the second
    assert light.levels == [1.0, 0.0]
    light.time.passes(20.1 - light.time.now)
    flashes, light.levels = light.levels, []
    assert flashes[:3] == [1.0, 0.0, 1.0]
    light.time.passes(1.85)
    assert light.levels == []
    light.time.passes(0.1)
    assert light.levels == [1.0]  # at 22.0


def test_a_new_lamp_ends_the_old_pattern() -> None:
    light = Light()
    light.driver.show(Lamp.RECONNECTING)
    light.time.passes(PATTERNS[Lamp.RECONNECTING][0].seconds)
    light.driver.show(Lamp.MICROPHONE_OPEN)
    assert light.levels == [1.0, 0.0, 1.0]
    light.time.passes(60.0)
    assert light.levels == [1.0, 0.0, 1.0]


def test_showing_the_same_pattern_does_not_restart_it() -> None:
    light = Light()
    for _ in range(5):
        light.driver.show(Lamp.SEEKING)
    assert light.levels == [0.1]


def test_close_switches_off_and_stays_off() -> None:
    light = Light()
    driver = light.driver
    driver.show(Lamp.RECONNECTING)
    driver.close()
    driver.close()
    driver.show(Lamp.MICROPHONE_OPEN)
    assert light.levels == [1.0, 0.0]


async def test_a_broken_lamp_never_raises_and_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    def broken(lamp: Lamp, level: float) -> None:
        raise OSError("gone")

    driver = LampDriver(broken, loop=asyncio.get_running_loop())
    driver.show(Lamp.READY)
    driver.show(Lamp.MICROPHONE_OPEN)
    driver.close()
    assert len(caplog.records) == 1


async def test_a_lamp_that_works_again_is_set_by_the_next_show() -> None:
    light = Light()
    broken = True

    def write(lamp: Lamp, level: float) -> None:
        if broken:
            raise OSError("gone")
        light.write(lamp, level)

    driver = LampDriver(write, loop=asyncio.get_running_loop())
    driver.show(Lamp.MICROPHONE_OPEN)
    broken = False
    driver.show(Lamp.MICROPHONE_OPEN)
    assert light.levels == [1.0]
    driver.close()
