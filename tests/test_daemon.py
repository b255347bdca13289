"""The service's own parts; as a whole it is started by tests/system and tests/machine."""

from __future__ import annotations

import asyncio
import subprocess
import sys

import pytest

from tests.test_app import NOWHERE, running
from voicemeet_edge.call.signs import Lamp
from voicemeet_edge.daemon import _beside, watch_system
from voicemeet_edge.system.image_state import ImageState
from voicemeet_edge.testing.panel import FakePanel
from voicemeet_edge.testing.sound import VirtualCard
from voicemeet_edge.testing.waiting import until

NOT_AT_THE_START = {
    "prometheus_client",
    "difflib",
    "aiomqtt",
    "aiohttp",
    "av",
    "aiortc.rtcdtlstransport",
    "gpiozero",
    "pylibsrtp",
    "voicemeet_edge.testing.sound",
}


async def test_a_damaged_system_is_on_the_lamp_until_it_is_whole() -> None:
    panel = FakePanel()
    said = [ImageState("a"), ImageState("a", integrity_lost=True)]
    async with running(panel, VirtualCard(), NOWHERE) as device:
        watching = asyncio.create_task(watch_system(device, lambda: said[-1], every_s=0.01))
        await until(lambda: panel.lamp is Lamp.ERROR)
        said.pop()
        await until(lambda: panel.lamp is Lamp.WAITING)
        watching.cancel()


async def test_what_ends_beside_the_device_by_a_fault_of_ours_is_in_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def fail() -> None:
        raise ValueError

    await asyncio.wait([_beside(fail(), "the link"), _beside(asyncio.sleep(0), "the other")])
    assert "the link has ended by a fault of ours (ValueError)" in caplog.text
    assert "the other" not in caplog.text


async def test_a_system_of_ones_own_is_not_looked_at_again() -> None:
    async with running(FakePanel(), VirtualCard(), NOWHERE) as device:
        await watch_system(device, lambda: None)


def test_what_only_some_need_takes_no_time_of_the_start() -> None:
    # Metrics that nobody asked for, slips that nobody made, the broker that is not named, the doubles.
    code = (
        "import sys, voicemeet_edge.cli, voicemeet_edge.daemon\n"
        f"print(*sorted({NOT_AT_THE_START} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("\n", "")
