"""A device (whole, but for its panel and sound card) and the desk page in one call, heard both ways."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import pytest

from tests.desk.conftest import Desks
from voicemeet_edge.app import Device
from voicemeet_edge.audio.wav import write_wav
from voicemeet_edge.call.commands import WordsKnown
from voicemeet_edge.call.keys import new_key
from voicemeet_edge.call.observed import Observed, ToneAsked
from voicemeet_edge.call.signs import Lamp, Tone
from voicemeet_edge.settings import Settings
from voicemeet_edge.testing.panel import FakePanel
from voicemeet_edge.testing.signals import likeness, speech_like
from voicemeet_edge.testing.sound import VirtualCard

pytestmark = [pytest.mark.system, pytest.mark.timeout(180)]

CALL = "voicemeet.model.call"

RECORD_4_S = """(async () => {
  const context = new AudioContext({ sampleRate: 48000 });
  const stream = document.getElementById('voice').srcObject;
  const processor = context.createScriptProcessor(4096, 1, 1);
  const samples = [];
  context.createMediaStreamSource(stream).connect(processor).connect(context.destination);
  await new Promise((resolve) => {
    processor.onaudioprocess = ({ inputBuffer }) => {
      samples.push(...Array.from(inputBuffer.getChannelData(0), (x) => Math.round(x * 32767)));
      if (samples.length > 192000) resolve();
    };
  });
  await context.close();
  return samples;
})()"""


@asynccontextmanager
async def device(
    desks: Desks,
    key: str = "",
    role: str = "caller",
    addresses: tuple[str, ...] = ("127.0.0.1",),
    name: str = "",
    relay: str = "",
    shown_pass: str = "",
) -> AsyncIterator[tuple[FakePanel, VirtualCard, list[Observed]]]:
    assert desks.info is not None
    settings = Settings.from_dict(
        {
            "backend": {"url": desks.info.url, "apikey": desks.info.apikey.reveal(), "pass": shown_pass},
            "call": {"pool": "frontdesk", "role": role, "name": name},
            "ice": {"policy": "direct", "addresses": list(addresses)},
            "security": {"intercom_keys": [key] if key else []},
            "audio": {"card": "virtual", "echo": "off"},
            "panel": {"factory": "gpiod" if relay else "none", "relay_line": relay},
        }
    )
    told: list[Observed] = []
    panel, card = FakePanel(), VirtualCard(speech_like(20.0))
    unit = Device(settings, panel, card, observe=told.append)
    running = asyncio.create_task(unit.run())
    try:
        yield panel, card, told
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        card.close()


@pytest.mark.parametrize("sealed", [False, True], ids=["open", "sealed"])
async def test_a_device_calls_the_desk(desks: Desks, sealed: bool) -> None:
    key = new_key().reveal() if sealed else ""
    desk = await desks.on_duty(key=key)
    async with device(desks, key) as (panel, card, told):
        await panel.wait_for(Lamp.READY)
        panel.press()
        await desk.wait_for("voicemeet.state === 'ringing'")
        await panel.wait_for(Lamp.RINGING)
        await desk.press("Enter")
        await desk.wait_for("voicemeet.state === 'talking'")
        await panel.wait_for(Lamp.MICROPHONE_OPEN)
        await desk.wait_for("voicemeet.stats().then(s => s.packetsReceived > 100 && s.energy > 0.001)")
        await desk.wait_for(f"{CALL}.words")
        assert await desk.evaluate(f"{CALL}.envelope.sealed") is sealed
        words = await desk.evaluate(f"{CALL}.words")
        assert WordsKnown(tuple(words)) in told
        await desk.press("Escape")
        await desk.wait_for("voicemeet.state === 'ended'")
        await panel.wait_for(Lamp.READY)
        assert abs(card.heard().astype("int32")).max() > 1000  # Chromium's beeps


WITHOUT_WORDS = """(() => {
  const send = WebSocket.prototype.send;
  WebSocket.prototype.send = function (frame) {
    const parts = JSON.parse(frame);
    const said = parts[4]?.payload;
    if (parts[4]?.event === 'reveal') return;
    if (said) { delete said.nonce; delete said.commitment; }
    send.call(this, JSON.stringify(parts));
  };
})()"""


async def test_the_page_says_when_somebody_takes_the_check_words_out(desks: Desks) -> None:
    # Fails without the timer in call.js: then the page praises the line, end to end.
    desk = await desks.on_duty()
    await desk.evaluate(WITHOUT_WORDS)
    async with device(desks) as (panel, _, told):
        await panel.wait_for(Lamp.READY)
        panel.press()
        await desk.wait_for("voicemeet.state === 'ringing'")
        await desk.press("Enter")
        await desk.wait_for("voicemeet.model.state === 'talking'")
        assert "end to end" not in str(await desk.evaluate("document.getElementById('sentence').innerText"))
        await desk.wait_for("voicemeet.state === 'unchecked'")
        assert await desk.evaluate("document.getElementById('headline').innerText") == "Not checked"
        async with asyncio.timeout(30):
            while ToneAsked(Tone.WORDS_UNAVAILABLE) not in told:  # noqa: ASYNC110 - the device tells all
                await asyncio.sleep(0.05)


async def test_speech_crosses_both_ways(desks: Desks, tmp_path: Path) -> None:
    said_at_desk, said_at_device = speech_like(4.0, seed=7, pitch_hz=180.0), speech_like(20.0)
    await asyncio.to_thread(write_wav, tmp_path / "desk.wav", said_at_desk)
    desk = await desks.on_duty(capture=tmp_path / "desk.wav")
    async with device(desks) as (panel, card, _):
        await panel.wait_for(Lamp.READY)
        panel.press()
        await desk.wait_for("voicemeet.state === 'ringing'")
        await desk.press("Enter")
        await panel.wait_for(Lamp.MICROPHONE_OPEN)
        await desk.wait_for("voicemeet.state === 'talking'")
        heard_at_desk = await desk.evaluate(RECORD_4_S)
        await desk.wait_for("voicemeet.stats().then(s => s.packetsSent > 300)")
        # What the desk recorded is a part of what the device says, so the part is looked for in the whole.
        at_desk = likeness(said_at_device, np.array(heard_at_desk, dtype=np.int16))
        at_device = likeness(card.heard(), said_at_desk)
        print(f"likeness: at the desk {at_desk:.2f}, at the device {at_device:.2f}")
        assert at_desk > 0.5
        assert at_device > 0.5


async def test_the_device_hangs_up_and_the_desk_is_ready_again(desks: Desks) -> None:
    desk = await desks.on_duty()
    async with device(desks) as (panel, _, _):
        await panel.wait_for(Lamp.READY)
        for _ in range(2):
            panel.press()
            await desk.wait_for("voicemeet.state === 'ringing'")
            await desk.press("Enter")
            await panel.wait_for(Lamp.MICROPHONE_OPEN)
            await desk.wait_for("voicemeet.state === 'talking'")
            # Half a second of voice: a press within 150 ms of the one before is taken for a bounce.
            await desk.wait_for("voicemeet.stats().then(s => s.packetsReceived > 25)")
            panel.press()
            await desk.wait_for("voicemeet.state === 'ended'")
            shown = await desk.evaluate("document.getElementById('sentence').innerText")
            assert shown == "The other side hung up."
            await desk.wait_for("voicemeet.state === 'ready'")
            await panel.wait_for(Lamp.READY)


async def test_a_device_without_the_key_is_refused_by_a_sealed_desk(desks: Desks) -> None:
    desk = await desks.on_duty(key=new_key().reveal())
    async with device(desks) as (panel, _, _):
        await panel.wait_for(Lamp.READY)
        panel.press()
        await desk.wait_for("voicemeet.state === 'distrust'")
        await panel.wait_for(Lamp.DISTRUST)
