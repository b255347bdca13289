"""Loudspeaker and lamp follow the clock, the settings and whoever holds the button."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import datetime

import pytest

from voicemeet_edge.audio.engine import VoiceEngine
from voicemeet_edge.levels import Levels
from voicemeet_edge.settings import Settings
from voicemeet_edge.testing.panel import FakePanel
from voicemeet_edge.testing.sound import VirtualCard

DAY, NIGHT = datetime(2026, 5, 5, 12, 0), datetime(2026, 5, 5, 23, 0)
PLAIN = Settings.parse('[backend]\nurl = "http://127.0.0.1:1"\n[audio]\nvolume = 80\nnight_volume = 40\n')
WITH_NIGHT = replace(PLAIN, panel=replace(PLAIN.panel, night="22:00-06:00", night_level=10))


class Bench:
    """A device's levels and the hour by hand."""

    def __init__(self, settings: Settings, card: VirtualCard) -> None:
        self.hour = DAY
        self.panel = FakePanel()
        loop = asyncio.get_running_loop()
        self.engine = VoiceEngine(
            card, settings.audio, loop=loop, on_event=lambda _event: None, real_time=False
        )
        self.levels = Levels(settings, self.engine, self.panel, clock=lambda: self.hour)


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    with VirtualCard() as card:
        bench = Bench(WITH_NIGHT, card)
        yield bench
        await bench.engine.close()


async def test_by_night_it_is_softer_and_darker_but_not_in_a_call(bench: Bench) -> None:
    bench.levels.look()
    assert (bench.engine.volume, bench.panel.level) == (80, 100)
    bench.hour = NIGHT
    bench.levels.look()
    assert (bench.engine.volume, bench.panel.level) == (40, 10)
    bench.levels.talk(is_talking=True)
    assert (bench.engine.volume, bench.panel.level) == (80, 10)
    bench.levels.talk(is_talking=False)
    assert bench.engine.volume == 40


async def test_what_was_chosen_stays_until_the_settings_say_another_volume(bench: Bench) -> None:
    bench.levels.choose(20)
    bench.levels.step()
    assert (bench.levels.chosen, bench.engine.volume) == (30, 30)
    bench.levels.apply(replace(WITH_NIGHT, audio=replace(WITH_NIGHT.audio, night_volume=5)))
    assert bench.levels.chosen == 30
    bench.hour = NIGHT
    bench.levels.look()
    assert bench.engine.volume == 5
    bench.levels.apply(replace(WITH_NIGHT, audio=replace(WITH_NIGHT.audio, volume=55)))
    assert bench.levels.chosen == 55


async def test_a_step_is_heard_at_night_too(bench: Bench) -> None:
    bench.hour = NIGHT
    bench.levels.look()
    bench.levels.step()
    assert bench.engine.volume == 90
    bench.levels.look()
    assert bench.engine.volume == 40
