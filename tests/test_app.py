"""The device with its real parts, on panels and cards from `testing/`, with a hub and without."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from voicemeet_edge import levels
from voicemeet_edge.app import Device
from voicemeet_edge.audio.card import SoundCard
from voicemeet_edge.backend.admission import as_typed, new_pass
from voicemeet_edge.call.machine import REPEAT_PRESS_S, ReportState, State
from voicemeet_edge.call.observed import (
    ButtonPressed,
    ConnectionFault,
    FirstAudio,
    Observed,
    Observer,
    ReportChanged,
    ResetAsked,
    StateChanged,
    Stopped,
    Tampered,
    ToneAsked,
    VolumeChosen,
    ignore,
)
from voicemeet_edge.call.signs import Lamp, Tone
from voicemeet_edge.call_maker import load_call_parts
from voicemeet_edge.demo.lab import LabCall, device_settings, hub_settings
from voicemeet_edge.hub.app import running_hub
from voicemeet_edge.not_connected import NotConnected
from voicemeet_edge.panel.interface import ButtonEvent
from voicemeet_edge.panel.keypad import PoolPressed
from voicemeet_edge.reasons import EndReason
from voicemeet_edge.settings import Settings
from voicemeet_edge.system.life import Part
from voicemeet_edge.testing.panel import FakePanel
from voicemeet_edge.testing.signals import speech_like
from voicemeet_edge.testing.sound import VirtualCard
from voicemeet_edge.testing.waiting import until

# Port 1 of this machine: refused at once, so that nothing waits for a network.
NOWHERE = Settings.parse(
    '[backend]\nurl = "http://127.0.0.1:1"\napikey = "a.b.c"\n[audio]\ncard = "virtual"\necho = "off"\n'
)


@asynccontextmanager
async def running(
    panel: FakePanel, card: SoundCard, settings: Settings = NOWHERE, *, observe: Observer = ignore
) -> AsyncIterator[Device]:
    device = Device(settings, panel, card, observe=observe)
    await asyncio.to_thread(load_call_parts)  # as the daemon does
    task = asyncio.create_task(device.run())
    try:
        yield device
    finally:
        task.cancel()
        (ended,) = await asyncio.gather(task, return_exceptions=True)
        if isinstance(ended, Exception):  # why nothing came of what the test waited for
            raise ended


async def test_each_part_proves_that_it_lives_and_what_rests_owes_nothing() -> None:
    panel = FakePanel()
    card = VirtualCard()
    async with running(panel, card) as device:
        await until(lambda: device.proofs_of_life()[Part.SIGNALING] is not None)
        await until(lambda: device.proofs_of_life()[Part.PLAYBACK] is None)  # it was tried at start
        first = device.proofs_of_life()
        assert set(first) == set(Part)
        assert first[Part.CAPTURE] is first[Part.PLAYBACK] is first[Part.PANEL] is None
        await until(lambda: device.proofs_of_life()[Part.LOOP] != first[Part.LOOP])
        panel.press()  # a search sounds: playback works, and the microphone still has nothing to prove
        await until(lambda: device.proofs_of_life()[Part.PLAYBACK] is not None)
        assert device.proofs_of_life()[Part.CAPTURE] is None
        panel.read_at = 17.0
        assert device.proofs_of_life()[Part.PANEL] == 17.0
    card.close()


async def test_two_devices_meet_talk_and_one_reports_the_other(tmp_path: Path) -> None:
    seen: list[Observed] = []
    async with AsyncExitStack() as stack:
        info = await stack.enter_async_context(running_hub(hub_settings(tmp_path, turn="off")))
        table = device_settings(info, LabCall(policy="direct"), {})
        settings = Settings.from_dict(table)
        panels = FakePanel(), FakePanel()
        cards = VirtualCard(speech_like(4.0)), VirtualCard(speech_like(4.0))
        for panel, card, observe in zip(panels, cards, (seen.append, ignore), strict=True):
            stack.callback(card.close)
            await stack.enter_async_context(running(panel, card, settings, observe=observe))
        for panel in panels:
            await panel.wait_for(Lamp.READY)
            panel.press()
        for panel in panels:
            await panel.wait_for(Lamp.MICROPHONE_OPEN)
        await until(lambda: any(isinstance(event, FirstAudio) for event in seen))
        panels[0].press(ButtonEvent.REPORT_PRESSED)
        await until(lambda: ReportChanged(ReportState.SENT) in seen)
        for panel in panels:
            await panel.wait_for(Lamp.READY)
    ends = [event.reason for event in seen if isinstance(event, StateChanged) and event.state is State.ENDED]
    assert ends == [EndReason.REPORTED]


async def test_a_pass_that_is_refused_is_shown_before_somebody_presses_until_it_is_mended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("voicemeet_edge.enrolled.AGAIN_S", 0.05)
    seen: list[Observed] = []
    async with AsyncExitStack() as stack:
        info = await stack.enter_async_context(running_hub(hub_settings(tmp_path, turn="off")))
        table = device_settings(info, LabCall(policy="direct"), {})
        table["backend"]["pass"] = as_typed(new_pass())  # of no hub
        card = VirtualCard()
        stack.callback(card.close)
        panel = FakePanel()
        device = await stack.enter_async_context(
            running(panel, card, Settings.from_dict(table), observe=seen.append)
        )
        await panel.wait_for(Lamp.ERROR)
        await until(lambda: ConnectionFault(NotConnected.PASS_REFUSED) in seen)
        device._tokens._pass = None  # as if the operator had made it good
        await panel.wait_for(Lamp.READY)
        assert [event for event in seen if isinstance(event, ConnectionFault)][-1].reason is None


async def test_a_factory_reset_is_counted_down_and_asked_for_when_idle_only() -> None:
    seen: list[Observed] = []
    panel = FakePanel()
    card = VirtualCard()
    async with running(panel, card, observe=seen.append):
        await until(lambda: bool(panel.shown))
        usual = panel.lamp
        panel.press(ButtonEvent.RESET_COUNTED)
        await panel.wait_for(Lamp.RESET_COUNT)
        panel.press(ButtonEvent.RESET_LEFT)
        await panel.wait_for(usual)
        assert ResetAsked() not in seen
        panel.press(ButtonEvent.RESET_COUNTED)
        panel.press(ButtonEvent.RESET_ASKED)
        await until(lambda: ResetAsked() in seen)
        assert panel.lamp is usual
        assert seen.count(ToneAsked(Tone.RESET_COUNT)) == 2
        panel.press()  # a search: nobody may ask until it is over
        panel.press(ButtonEvent.RESET_COUNTED)
        panel.press(ButtonEvent.RESET_ASKED)
        panel.press(ButtonEvent.REPORT_PRESSED)  # once this one was taken, those before were
        await until(lambda: ButtonPressed(ButtonEvent.REPORT_PRESSED) in seen)
        assert seen.count(ResetAsked()) == 1
        assert seen.count(ToneAsked(Tone.RESET_COUNT)) == 2
    card.close()


async def test_a_keypads_button_calls_its_own_pool(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        info = await stack.enter_async_context(running_hub(hub_settings(tmp_path, turn="off")))
        table = device_settings(info, LabCall(policy="direct"), {})
        there = Settings.from_dict({**table, "call": {"pool": "office", "role": "answerer"}})
        keypad = {"keypad": ["GPIO5 office", "GPIO6 workshop"]}
        here = Settings.from_dict({**table, "call": {"pool": "house", "role": "caller"}, "panel": keypad})
        panels = FakePanel(), FakePanel()
        for panel, settings in zip(panels, (here, there), strict=True):
            card = VirtualCard(speech_like(4.0))
            stack.callback(card.close)
            await stack.enter_async_context(running(panel, card, settings))
        for panel in panels:
            await panel.wait_for(Lamp.READY)
        panels[0].press(PoolPressed("office"))
        await panels[1].wait_for(Lamp.RINGING)
        panels[1].press()
        for panel in panels:
            await panel.wait_for(Lamp.MICROPHONE_OPEN)
        await asyncio.sleep(REPEAT_PRESS_S)  # a press any sooner would be a bounce of the first
        panels[0].press(PoolPressed("workshop"))  # in a call it hangs up
        await panels[1].wait_for(Lamp.READY)


async def test_an_opened_housing_ends_the_call_and_the_device(tmp_path: Path) -> None:
    seen: list[Observed] = []
    theirs: list[Observed] = []
    async with AsyncExitStack() as stack:
        info = await stack.enter_async_context(running_hub(hub_settings(tmp_path, turn="off")))
        settings = Settings.from_dict(device_settings(info, LabCall(policy="direct"), {}))
        panels = FakePanel(), FakePanel()
        for panel, observe in zip(panels, (seen.append, theirs.append), strict=True):
            card = VirtualCard(speech_like(4.0))
            stack.callback(card.close)
            await stack.enter_async_context(running(panel, card, settings, observe=observe))
        for panel in panels:
            await panel.wait_for(Lamp.READY)
            panel.press()
        for panel in panels:
            await panel.wait_for(Lamp.MICROPHONE_OPEN)
        panels[0].press(ButtonEvent.TAMPERED)
        await until(lambda: Stopped() in seen)  # nobody told it to
        assert Tampered() in seen
        await until(lambda: any(isinstance(one, StateChanged) and one.reason is not None for one in theirs))
    ends = [
        [one.reason for one in side if isinstance(one, StateChanged) and one.reason]
        for side in (seen, theirs)
    ]
    assert ends == [[EndReason.TAMPERED], [EndReason.TAMPERED]]


async def test_call_held_on_makes_it_louder_and_the_night_softer(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Observed] = []
    panel = FakePanel()
    night = replace(NOWHERE, panel=replace(NOWHERE.panel, night="22:00-06:00", night_level=10))
    monkeypatch.setattr(levels, "is_within", lambda _span, _now: False)  # whatever hour it is here
    with VirtualCard() as card:
        async with running(panel, card, night, observe=seen.append) as device:
            await until(lambda: bool(panel.shown))
            panel.press(ButtonEvent.CALL_HELD_ON)
            await until(lambda: VolumeChosen(90) in seen)
            monkeypatch.setattr(levels, "is_within", lambda _span, _now: True)
            await until(lambda: device.volume == night.audio.night_volume)
            assert panel.level == 10
            monkeypatch.setattr(levels, "is_within", lambda _span, _now: False)
            await until(lambda: device.volume == 90)
            assert panel.level == 100
            device.apply(replace(night, audio=replace(night.audio, volume=55)))
            assert device.volume == 55
