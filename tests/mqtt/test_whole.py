"""The whole service at a real hub and a real Mosquitto: what happens at the door is what a home sees."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.call.test_reception import POOL, House, house
from tests.mqtt.test_link import BASE, Broker, broker, home  # noqa: F401 - a fixture
from voicemeet_edge import daemon
from voicemeet_edge.backend.verbs import Role
from voicemeet_edge.call.machine import REPEAT_PRESS_S
from voicemeet_edge.call.signs import Lamp
from voicemeet_edge.demo.lab import LabCall, device_settings
from voicemeet_edge.hub.pass_desk import make_pass, open_store
from voicemeet_edge.secret import Secret
from voicemeet_edge.settings import Settings
from voicemeet_edge.testing.panel import FakePanel

pytestmark = [pytest.mark.system, pytest.mark.timeout(120)]

IDLE, TALKING, ENDED = "idle", "talking", "ended"


@asynccontextmanager
async def service(
    there: House, shown: Secret, port: int, panel: FakePanel, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[None]:
    """Run what systemd runs; its buttons, lamp and lock are this panel."""
    table = device_settings(there.info, LabCall(pool=POOL, role="caller", policy="direct"), {})
    table["backend"]["pass"] = shown.reveal()
    table["call"] |= {"name": "Side entrance"}
    table["panel"] = {"factory": "gpiod", "relay_line": "GPIO16", "relay_s": 0.5}
    table["mqtt"] = {"broker": f"mqtt://127.0.0.1:{port}", "open_door": True}
    monkeypatch.setattr(daemon, "open_panel", lambda _settings: panel)
    monkeypatch.setattr(daemon, "settle_memory", lambda: None)  # it is this process' memory, too
    running = asyncio.create_task(daemon.run_device(Settings.from_dict(table), Path("voicemeet.toml")))
    try:
        yield
    finally:
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running


async def test_a_home_sees_a_visitor_come_and_opens_the_door(
    tmp_path: Path,
    broker: Broker,  # noqa: F811 - the fixture
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    panel = FakePanel()
    panel.has_door = True
    async with house(tmp_path, open_pools=()) as there, home(broker) as eyes:
        async with open_store(tmp_path / "hub") as store:
            passes = [await make_pass(store, POOL, role, "one") for role in (Role.ANSWERER, Role.CALLER)]
        desk = await there.device("answerer", passes[0])
        async with service(there, passes[1], broker.port, panel, monkeypatch):
            await panel.wait_for(Lamp.READY)
            for topic, payload in (("available", "online"), ("state", IDLE), ("door", "LOCKED")):
                await eyes.until(f"{BASE}/{topic}", payload)
            panel.press()
            await eyes.until(f"{BASE}/ring", '{"event_type": "ring"}')
            await desk.wait_for(Lamp.RINGING)
            desk.press()
            await eyes.until(f"{BASE}/state", TALKING)
            await eyes.client.publish(f"{BASE}/door/set", "UNLOCK")  # type: ignore[attr-defined]
            await eyes.until(f"{BASE}/door", "UNLOCKED")
            assert panel.opened == [0.5]
            await asyncio.sleep(REPEAT_PRESS_S)  # a press any sooner would be a bounce of the first
            desk.press()
            await eyes.until(f"{BASE}/state", ENDED)
            said = [payload for topic, payload in eyes.seen if topic == f"{BASE}/state"]
            assert [said.index(state) for state in (IDLE, TALKING, ENDED)] == sorted(
                said.index(state) for state in (IDLE, TALKING, ENDED)
            )
            everything = " ".join(payload for _, payload in eyes.seen)
            assert passes[1].reveal() not in everything
            assert there.info.apikey.reveal() not in everything
        await eyes.until(f"{BASE}/available", "offline")
