"""A hub that moves: backed up beside its work, restored where nothing was, elsewhere under the same name.

Hub and door are processes of their own, the desk is a real page; neither is touched meanwhile.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

import pytest

from tests.system.test_installer import ROOT, Building, building
from voicemeet_edge.call.keys import new_key
from voicemeet_edge.demo.remote import RemoteDevice
from voicemeet_edge.testing.browser import Browser, chromium_path
from voicemeet_edge.testing.proxy import FreezingProxy

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]

STATE = "voicemeet.state === '{}'".format


async def start_hub(site: Building) -> asyncio.subprocess.Process:
    """Start the hub of the settings there are, and wait until it serves."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "voicemeet_edge", "hub", "--config", str(site.config), stdout=-1, stderr=-3
    )
    assert process.stdout is not None
    async with asyncio.timeout(60):
        while b"The desk page is at" not in (line := await process.stdout.readline()):
            assert line, "the hub has ended"
    return process


async def talk(door: RemoteDevice, desk: Browser) -> None:
    """Let a visitor press, and somebody at the desk answer and hang up."""
    await door.press()
    await desk.wait_for(STATE("ringing"), 60)
    await desk.click("#answer")
    await desk.wait_for(STATE("talking"), 60)
    await door.state("talking", 60)
    assert await desk.evaluate("voicemeet.model.call.envelope.sealed") is True
    await desk.click("#hangup")
    await door.state("idle", 60)
    await desk.wait_for(STATE("ready"), 60)


async def test_doors_and_desks_go_on_untouched_when_their_hub_moves(
    tmp_path: Path, unused_tcp_port: int
) -> None:
    if chromium_path() is None:
        pytest.skip("Chromium is not installed")
    place, kept = tmp_path / "machine", tmp_path / "hub.backup"
    place.mkdir()
    async with (
        FreezingProxy(unused_tcp_port) as name,
        building(place, "chromium", unused_tcp_port) as site,
    ):
        text = (ROOT / "firmware" / "hub.toml").read_text()
        for old, new in (
            ('state_dir = "/var/lib/voicemeet-hub"', f'state_dir = "{place / "state"}"'),
            ('#public_url = ""', f'public_url = "https://localhost:{name.port}"'),
            ("#port = 8443", f"port = {unused_tcp_port}"),
            ('provider = "coturn"', 'provider = "off"'),
        ):
            assert old in text, old
            text = text.replace(old, new, 1)
        await asyncio.to_thread(site.config.write_text, text)
        hub = await start_hub(site)
        site.trusted = await asyncio.to_thread(site._spki)
        key = tmp_path / "key"
        await asyncio.to_thread(key.write_text, new_key().reveal())
        config = ("--config", str(site.config), "--key-file", str(key))
        card = tmp_path / "card.toml"
        await site.run("enroll", *config, "--name", "Side entrance", "--out", str(card))
        told = await site.run("enroll", *config, "--name", "Reception", "--desk")
        link = next(word for word in told.split() if "/desk/#" in word)
        assert f"https://localhost:{name.port}/" in link
        door = await site.door(card)
        desk = await site.browser(link.replace("/desk/#", "/desk/?test=1#"))
        await desk.wait_for("window.voicemeet?.model.pass && voicemeet.model.keys.length")
        await desk.click("#start")
        await desk.wait_for(STATE("ready"))
        await talk(door, desk)
        await desk.evaluate("(window.untouched = true)")

        await site.run("backup", "--config", str(site.config), str(kept))
        hub.terminate()
        await hub.wait()
        await desk.wait_for(STATE("offline"), 60)
        await asyncio.to_thread(place.rename, tmp_path / "the old machine")
        await site.run("restore", "--config", str(site.config), str(kept))
        hub = await start_hub(site)
        site.stack.push_async_callback(hub.wait)
        site.stack.callback(hub.terminate)
        name.lead_to(unused_tcp_port, "127.0.0.2")
        await desk.wait_for(f"{STATE('ready')} && voicemeet.model.doors === 1", 90)
        await talk(door, desk)
        assert await desk.evaluate("window.untouched") is True
        listed = json.dumps(await site.run("pass", "--config", str(site.config)))
        assert "Side entrance" in listed
        assert "Reception" in listed
