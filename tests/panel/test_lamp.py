"""Lamp patterns: what they must not look like, and the clockwork that plays them."""

from __future__ import annotations

import asyncio
import itertools
import re
from pathlib import Path

import pytest

from voicemeet_edge.call.signs import Lamp
from voicemeet_edge.panel.lamp import PATTERNS, LampDriver, Step, brightness

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


class Light:
    """What a driver writes to, and a way to wait for it."""

    def __init__(self) -> None:
        self.levels: list[float] = []
        self.written = asyncio.Event()

    def write(self, level: float) -> None:
        self.levels.append(level)
        self.written.set()

    async def wait_for(self, count: int) -> None:
        async with asyncio.timeout(30):
            while len(self.levels) < count:
                self.written.clear()
                await self.written.wait()


async def test_a_steady_lamp_is_written_before_show_returns_and_once() -> None:
    light = Light()
    driver = LampDriver(light.write, loop=asyncio.get_running_loop())
    driver.show(Lamp.MICROPHONE_OPEN)
    assert light.levels == [1.0]
    driver.show(Lamp.MICROPHONE_OPEN)
    assert light.levels == [1.0]
    assert driver.lamp is Lamp.MICROPHONE_OPEN
    driver.close()


async def test_a_pattern_repeats() -> None:
    light = Light()
    driver = LampDriver(light.write, loop=asyncio.get_running_loop())
    driver.show(Lamp.RECONNECTING)
    await light.wait_for(5)
    assert light.levels[:5] == [1.0, 0.0, 1.0, 0.0, 1.0]
    driver.close()


async def test_a_new_lamp_ends_the_old_pattern() -> None:
    light = Light()
    driver = LampDriver(light.write, loop=asyncio.get_running_loop())
    driver.show(Lamp.RECONNECTING)
    await light.wait_for(2)
    driver.show(Lamp.MICROPHONE_OPEN)
    written = len(light.levels)
    await asyncio.sleep(0.5)  # three steps of the old pattern, had it gone on
    assert light.levels[written:] == []
    assert light.levels[-1] == 1.0
    driver.close()


async def test_showing_the_same_pattern_does_not_restart_it() -> None:
    light = Light()
    driver = LampDriver(light.write, loop=asyncio.get_running_loop())
    for _ in range(5):
        driver.show(Lamp.SEEKING)
    assert light.levels == [0.1]
    driver.close()


async def test_close_switches_off_and_stays_off() -> None:
    light = Light()
    driver = LampDriver(light.write, loop=asyncio.get_running_loop())
    driver.show(Lamp.RECONNECTING)
    driver.close()
    driver.close()
    driver.show(Lamp.MICROPHONE_OPEN)
    assert light.levels == [1.0, 0.0]


async def test_a_broken_lamp_never_raises_and_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    def broken(level: float) -> None:
        raise OSError("gone")

    driver = LampDriver(broken, loop=asyncio.get_running_loop())
    driver.show(Lamp.READY)
    driver.show(Lamp.MICROPHONE_OPEN)
    driver.close()
    assert len(caplog.records) == 1


async def test_a_lamp_that_works_again_is_set_by_the_next_show() -> None:
    light = Light()
    broken = True

    def write(level: float) -> None:
        if broken:
            raise OSError("gone")
        light.write(level)

    driver = LampDriver(write, loop=asyncio.get_running_loop())
    driver.show(Lamp.MICROPHONE_OPEN)
    broken = False
    driver.show(Lamp.MICROPHONE_OPEN)
    assert light.levels == [1.0]
    driver.close()
