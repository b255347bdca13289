"""A real browser on the other side: it offers, it answers, its voice arrives and ours is decoded there."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from tests.webrtc.ends import WAIT_S, End
from voicemeet_edge.webrtc.events import Closed
from voicemeet_edge.webrtc.options import PeerOptions

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium (Debian package chromium)"),
]
SILENCE = bytes((0x08, 0x00, 0x00))  # Opus, SILK wideband, 20 ms

PAGE = """<!doctype html><meta charset=utf-8><script>
const post = (path, body) => fetch(path, {method: 'POST', body: JSON.stringify(body)}).then(r => r.json());
async function gathered(pc) {
  while (pc.iceGatheringState !== 'complete')
    await new Promise(done => pc.addEventListener('icegatheringstatechange', done, {once: true}));
  return pc.localDescription.sdp;
}
(async () => {
  const offerer = new URLSearchParams(location.search).get('offerer');
  const pc = new RTCPeerConnection();
  const sound = new AudioContext();
  const out = sound.createMediaStreamDestination();
  const tone = sound.createOscillator();
  tone.connect(out); tone.start();
  pc.addTrack(out.stream.getAudioTracks()[0], out.stream);
  if (offerer === 'browser') {
    await pc.setLocalDescription(await pc.createOffer());
    await pc.setRemoteDescription({type: 'answer', sdp: await post('/answer', await gathered(pc))});
  } else {
    await pc.setRemoteDescription({type: 'offer', sdp: await post('/offer', null)});
    await pc.setLocalDescription(await pc.createAnswer());
    await post('/accept', await gathered(pc));
  }
  for (;;) {
    let seen = {};
    (await pc.getStats()).forEach(stat => {
      if (stat.type === 'inbound-rtp') seen = {...seen, packets: stat.packetsReceived, codec: stat.codecId};
      if (stat.type === 'transport') seen = {...seen, srtp: stat.srtpCipher, tls: stat.tlsVersion};
    });
    if (await post('/seen', seen)) { pc.close(); break; }
    await new Promise(done => setTimeout(done, 100));
  }
})().catch(error => post('/seen', {error: String(error)}));
</script>"""


class Desk:
    """The page's server, with our end behind it."""

    def __init__(self, end: End) -> None:
        self.end = end
        self.seen: dict[str, Any] = {}
        self.news = asyncio.Event()
        self.enough = False

    async def page(self, _: web.Request) -> web.Response:
        return web.Response(text=PAGE, content_type="text/html")

    async def offer(self, _: web.Request) -> web.Response:
        return web.json_response(await self.end.peer.create_offer())

    async def answer(self, request: web.Request) -> web.Response:
        return web.json_response(await self.end.peer.create_answer(await request.json()))

    async def accept(self, request: web.Request) -> web.Response:
        await self.end.peer.accept_answer(await request.json())
        return web.json_response(None)

    async def report(self, request: web.Request) -> web.Response:
        self.seen = await request.json()
        self.news.set()
        return web.json_response(self.enough)


@asynccontextmanager
async def served(desk: Desk) -> AsyncIterator[str]:
    app = web.Application()
    app.add_routes(
        [
            web.get("/", desk.page),
            web.post("/offer", desk.offer),
            web.post("/answer", desk.answer),
            web.post("/accept", desk.accept),
            web.post("/seen", desk.report),
        ]
    )
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/"
    finally:
        await runner.cleanup()


@asynccontextmanager
async def browser(folder: Path, url: str) -> AsyncIterator[None]:
    assert CHROMIUM is not None
    process = await asyncio.create_subprocess_exec(
        CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run",
        "--autoplay-policy=no-user-gesture-required", f"--user-data-dir={folder}",
        "--remote-debugging-port=0", url,
        stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    try:
        yield
    finally:
        # The whole session of processes this test started, renderers included.
        os.killpg(process.pid, 9)
        await process.wait()


@pytest.mark.timeout(120)
@pytest.mark.parametrize("offerer", ["browser", "edge"])
async def test_a_browser_on_the_other_side(offerer: str, tmp_path: Path) -> None:
    end = End(PeerOptions())
    desk = Desk(end)
    try:
        async with served(desk) as url, browser(tmp_path, f"{url}?offerer={offerer}"):
            async with asyncio.timeout(2 * WAIT_S):
                timestamp = 0
                while len(end.packets) < 50 or desk.seen.get("packets", 0) < 50:
                    assert "error" not in desk.seen, desk.seen
                    end.peer.send(SILENCE, timestamp)
                    timestamp += 960
                    await asyncio.sleep(0.02)
            assert end.packets[0].payload
            assert end.peer.stats().srtp_profile.startswith("SRTP_AEAD_AES_"), json.dumps(desk.seen)
            desk.enough = True
            await end.event(Closed)
    finally:
        await end.peer.close()
