"""Whole calls with voice over each backend: two devices, and a device with a desk page of another origin."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from tests.conformance.deployments import Deployment
from voicemeet_edge.app import Device
from voicemeet_edge.call.signs import Lamp
from voicemeet_edge.hub.desk_site import site_headers, write_site
from voicemeet_edge.settings import Settings
from voicemeet_edge.testing.browser import Browser, chromium_path
from voicemeet_edge.testing.hostile import HostileCarrier
from voicemeet_edge.testing.panel import FakePanel
from voicemeet_edge.testing.signals import likeness, speech_like
from voicemeet_edge.testing.sound import VirtualCard

TALK_S = 6.0  # s of talk; the last three are judged

pytestmark = [pytest.mark.system, pytest.mark.timeout(180)]


@asynccontextmanager
async def device(
    backend: Deployment, role: str, pool: str, pitch_hz: float = 120.0, **more: object
) -> AsyncIterator[tuple[FakePanel, VirtualCard]]:
    """Run a whole device, but for its panel and sound card; `more` are settings of its backend."""
    settings = Settings.from_dict(
        {
            "backend": {"url": backend.url, "apikey": backend.apikey.reveal(), **more},
            "call": {"pool": pool, "role": role},
            "ice": {"policy": "direct", "addresses": ["127.0.0.1"]},
            "audio": {"card": "virtual", "echo": "off"},
            "panel": {"factory": "none"},
        }
    )
    panel, card = FakePanel(), VirtualCard(speech_like(20.0, pitch_hz=pitch_hz))
    running = asyncio.create_task(Device(settings, panel, card).run())
    try:
        await panel.wait_for(Lamp.READY)
        yield panel, card
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        card.close()


async def talk(one: tuple[FakePanel, VirtualCard], other: tuple[FakePanel, VirtualCard]) -> None:
    """Let somebody press at both, hear each other, and hang up; the pitches are 120 and 190 Hz."""
    for panel, _ in (one, other):
        panel.press()
    for panel, _ in (one, other):
        await panel.wait_for(Lamp.MICROPHONE_OPEN)
    await asyncio.sleep(TALK_S)
    heard = {pitch_hz: end[1].heard()[-48_000 * 3 :] for pitch_hz, end in ((190.0, one), (120.0, other))}
    one[0].press()
    for panel, _ in (one, other):
        await panel.wait_for(Lamp.READY)
    # What was heard is a part of what was said, so the part is looked for in the whole.
    for pitch_hz, part in heard.items():
        assert likeness(speech_like(20.0, pitch_hz=pitch_hz), part) > 0.5


async def test_two_devices(backend: Deployment) -> None:
    async with device(backend, "either", "lab") as one, device(backend, "either", "lab", 190.0) as other:
        await talk(one, other)


async def test_devices_that_hold_no_socket_while_nobody_calls(
    backend: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Fails without `rest_after_s` (app.py): then the sockets stay open for good.
    monkeypatch.setattr("voicemeet_edge.app.REST_AFTER_S", 0.2)
    async with HostileCarrier(backend.url) as carrier:
        more: dict[str, Any] = {"url": carrier.url, "close_idle": True}
        async with (
            device(backend, "either", "lab", **more) as one,
            device(backend, "either", "lab", 190.0, **more) as other,
        ):
            await no_sockets(carrier)
            await talk(one, other)
            await no_sockets(carrier)


async def no_sockets(carrier: HostileCarrier) -> None:
    """Wait until nobody holds a connection to Realtime; both have had one."""
    async with asyncio.timeout(60):
        # Nobody is told when a socket of another process closes.
        while len(carrier.lines) < 2 or not all(line.socket.closed for line in carrier.lines):  # noqa: ASYNC110
            await asyncio.sleep(0.05)


@asynccontextmanager
async def desk_site(directory: Path, backend: Deployment) -> AsyncIterator[str]:
    """Serve the desk page as any static host does, with the headers that its own file asks for."""
    await asyncio.to_thread(write_site, directory, backend.url, backend.apikey.reveal(), ("lab",))
    headers = site_headers(backend.url)

    async def add_headers(_request: web.Request, response: web.StreamResponse) -> None:
        response.headers.update(headers)

    app = web.Application()
    app.on_response_prepare.append(add_headers)

    async def index(_request: web.Request) -> web.FileResponse:
        return web.FileResponse(directory / "index.html")

    app.router.add_get("/", index)
    app.router.add_static("/", directory)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@pytest.mark.parametrize("backend", ["hosted"], indirect=True)
async def test_a_device_calls_a_desk_whose_page_somebody_else_serves(
    backend: Deployment, tmp_path: Path
) -> None:
    if chromium_path() is None:
        pytest.skip("Chromium is not installed (Debian package chromium)")
    async with desk_site(tmp_path / "site", backend) as url, Browser(f"{url}/?test=1&pool=lab") as desk:
        await desk.wait_for("window.voicemeet !== undefined")
        await desk.click("#start")
        await desk.wait_for("voicemeet.state === 'ready'")
        async with device(backend, "caller", "lab") as (panel, card):
            panel.press()
            await desk.wait_for("voicemeet.state === 'ringing'")
            await desk.press("Enter")
            await desk.wait_for("voicemeet.state === 'talking'")
            await panel.wait_for(Lamp.MICROPHONE_OPEN)
            await desk.wait_for("voicemeet.stats().then(s => s.packetsReceived > 100 && s.energy > 0.001)")
            await desk.press("Escape")
            await panel.wait_for(Lamp.READY)
            assert abs(card.heard().astype("int32")).max() > 1000  # Chromium's beeps
        problems = [line for line in desk.console if line.startswith("uncaught") or "security" in line]
        assert not problems
