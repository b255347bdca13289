"""The desk page in a real Firefox: called and calling, packets of one size, a goodbye when it goes."""

from __future__ import annotations

import asyncio

import pytest

from tests.desk.conftest import Desks
from tests.desk.test_device import device
from voicemeet_edge.call.commands import WordsKnown
from voicemeet_edge.call.observed import StateChanged
from voicemeet_edge.call.signs import Lamp
from voicemeet_edge.reasons import EndReason
from voicemeet_edge.testing.browser import Browser
from voicemeet_edge.testing.firefox import Firefox
from voicemeet_edge.testing.panel import FakePanel

# Firefox tells the addresses of real interfaces only, so the device uses those too.
pytestmark = [pytest.mark.system, pytest.mark.timeout(240)]

CALL = "voicemeet.model.call"
HEARS = "voicemeet.stats().then(s => s.packetsReceived > 100 && s.energy > 0.001)"
MUTE = f"{CALL}.stream.getAudioTracks().forEach((track) => (track.enabled = false))"
SIZES = """(async () => {
  const sizes = new Set(); let last = await voicemeet.stats();
  for (let i = 0; i < 150; i += 1) {
    await new Promise((done) => setTimeout(done, 15));
    const now = await voicemeet.stats();
    if (now.packetsSent - last.packetsSent === 1) sizes.add(now.bytesSent - last.bytesSent);
    last = now;
  }
  return [...sizes];
})()"""


async def answered(desk: Browser, panel: FakePanel) -> None:
    """Let the device call and the page answer."""
    await panel.wait_for(Lamp.READY)
    panel.press()
    await desk.wait_for("voicemeet.state === 'ringing'")
    await desk.click("#answer")
    await desk.wait_for("voicemeet.state === 'talking'")
    await panel.wait_for(Lamp.MICROPHONE_OPEN)


async def test_a_device_calls_firefox_and_no_packet_tells_speech_from_silence(desks: Desks) -> None:
    desk = await desks.on_duty(firefox=True)
    async with device(desks, addresses=()) as (panel, card, told):
        await answered(desk, panel)
        await desk.wait_for(HEARS)
        await desk.wait_for(f"{CALL}.words")
        assert WordsKnown(tuple(await desk.evaluate(f"{CALL}.words"))) in told
        assert abs(card.heard().astype("int32")).max() > 1000  # Firefox's tone
        tone = await desk.evaluate(SIZES)
        await desk.evaluate(MUTE)
        await asyncio.sleep(0.5)
        silence = await desk.evaluate(SIZES)
        assert len(tone) == 1
        assert silence == tone
        await desk.click("#hangup")
        await desk.wait_for("voicemeet.state === 'ended'")


@pytest.mark.parametrize("how", ["reload", "navigate"])
async def test_a_firefox_page_that_goes_says_goodbye(desks: Desks, how: str) -> None:
    desk = await desks.on_duty(firefox=True)
    async with device(desks, addresses=()) as (panel, _, told):
        await answered(desk, panel)
        assert isinstance(desk, Firefox)
        await (desk.reload() if how == "reload" else desk.navigate("about:blank"))
        await panel.wait_for(Lamp.READY)
        reasons = [event.reason for event in told if isinstance(event, StateChanged) and event.reason]
        assert reasons == [EndReason.PEER_HUNG_UP]


async def test_firefox_calls_a_device(desks: Desks) -> None:
    caller = await desks.on_duty("role=caller", firefox=True)
    async with device(desks, role="answerer", addresses=()) as (panel, card, _):
        await panel.wait_for(Lamp.READY)
        await caller.click("#call")
        await panel.wait_for(Lamp.RINGING)
        panel.press()
        await panel.wait_for(Lamp.MICROPHONE_OPEN)
        await caller.wait_for("voicemeet.state === 'talking'")
        await caller.wait_for(HEARS)
        assert abs(card.heard().astype("int32")).max() > 1000
        assert len(await caller.evaluate(SIZES)) == 1
        panel.press()
        await caller.wait_for("voicemeet.state === 'ended'")
