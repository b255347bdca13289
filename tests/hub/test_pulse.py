"""When a hub counts as hung."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.hub.running import loopback, run
from voicemeet_edge.errors import EnvironmentFault
from voicemeet_edge.hub import pulse as pulse_module
from voicemeet_edge.hub.pulse import Pulse


async def test_a_store_that_hangs_is_seen_and_one_that_refuses_is_alive(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pulse_module, "BEAT_S", 0.01)
    monkeypatch.setattr(pulse_module, "LIMIT_S", 0.5)
    hangs = asyncio.Event()
    asked = asyncio.Semaphore(0)

    async def ask() -> None:
        asked.release()
        if hangs.is_set():
            await asyncio.Event().wait()
        raise EnvironmentFault("the disk is full")

    pulse = Pulse(ask)
    task = asyncio.create_task(pulse.run())
    for _ in range(5):
        await asked.acquire()
    assert pulse.is_alive()
    hangs.set()
    async with asyncio.timeout(20):
        while pulse.is_alive():  # noqa: ASYNC110  # nobody announces it
            await asyncio.sleep(0.05)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_running_hub_is_alive(tmp_path: Path) -> None:
    async with run(loopback(tmp_path)) as hub:
        assert hub.info.is_alive()
