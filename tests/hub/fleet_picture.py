"""The operator's page with devices that sealed their health: `python -m tests.hub.fleet_picture OUT`."""

from __future__ import annotations

import asyncio
import sys
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tests.hub.running import RunningHub, loopback, run
from voicemeet_edge.backend.verbs import Role
from voicemeet_edge.fleet_seal import make_key
from voicemeet_edge.health_report import HealthReport
from voicemeet_edge.hub.pass_desk import make_pass, revoke
from voicemeet_edge.hub.settings import MatchSettings
from voicemeet_edge.hub.store import Store
from voicemeet_edge.settings import BackendSettings
from voicemeet_edge.system.board import Board
from voicemeet_edge.system.snapshot import Snapshot, take
from voicemeet_edge.testing.browser import Browser

DEVICES: tuple[dict[str, Any], ...] = (
    {"name": "Main gate", "temperature": 51.0, "test": "passed"},
    {"name": "Side entrance", "temperature": 47.0, "test": "passed", "fault": "microphone"},
    {"name": "Garage", "temperature": 62.0, "test": "failed"},
)


def moment(device: dict[str, Any]) -> Snapshot:
    """What such a device would say."""
    board = Board()
    if "fault" in device:
        board.faults[device["fault"]] = "sound_device_lost"
    return take(
        board,
        version="0.9.0",
        name=device["name"],
        up_s=6 * 86_400.0,
        volume=80,
        sound={},
        line=None,
        health={"temperature_c": device["temperature"], "memory_mb": 66.0, "disk_free_mb": 900},
        self_test={"outcome": device["test"], "age_s": 8 * 3600.0, "figures": {}, "found": {}},
    )


async def tell_health(hub: RunningHub, store: Store, public: str = "") -> None:
    """Let each of the devices tell its health once, with a pass that is taken back afterwards."""
    for device in DEVICES:
        shown = await make_pass(store, "frontdesk", Role.CALLER, device["name"])
        backend = BackendSettings(url=hub.info.url, apikey=hub.info.apikey, pass_=shown)
        report = HealthReport(backend, partial(moment, device), public)
        await report.tell()
        await report.close()
        await revoke(store, device["name"])


async def main(out: Path) -> None:
    """Run a hub, let the devices speak, look at the page."""
    with TemporaryDirectory() as folder:
        state = Path(folder) / "state"
        state.mkdir(mode=0o700)
        store = Store(state / "hub.db")
        await store.open()
        operator = await make_pass(store, "", None, "operator")
        private, public = make_key()
        async with run(loopback(state, match=MatchSettings())) as hub:
            await tell_health(hub, store, public)
            await store.close()
            url = f"{hub.info.url}/operator/#pass={operator.reveal()}"
            async with Browser(url, size=(1000, 960)) as page:
                await page.wait_for("document.querySelectorAll('#fleet-list tbody tr').length > 0")
                await page.evaluate(f"document.getElementById('fleet-key-text').value = '{private.reveal()}'")
                await page.evaluate("document.getElementById('fleet-key-form').requestSubmit()")
                await page.wait_for("document.getElementById('fleet-list').textContent.includes('Garage')")
                await page.evaluate("document.getElementById('fleet-key').open = true")
                await page.evaluate("(document.getElementById('fleet').scrollIntoView(), true)")
                await page.screenshot(out)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
