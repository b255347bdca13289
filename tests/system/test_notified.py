"""What systemd is told by the device as its unit starts it: ready, what it does, new settings, the end."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.hub.running import loopback, run
from voicemeet_edge.demo.lab import LabCall, Table, device_settings
from voicemeet_edge.demo.remote import to_toml

pytestmark = [pytest.mark.system, pytest.mark.timeout(180)]

LIMIT_S = 60.0  # s for a device on a busy machine to say something
NOWHERE = "http://127.0.0.1:1"


@dataclass
class Unit:
    """A device in a process of its own, and the socket that systemd would listen on."""

    process: asyncio.subprocess.Process
    told: socket.socket
    config: Path

    async def hears(self, word: str) -> str:
        """Wait for a message with this in it; returns what else stood there."""
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(LIMIT_S):
            while word not in (message := (await loop.sock_recv(self.told, 4096)).decode()):
                assert "READY=1" not in message, f"{message} came before {word}"
        return message


@contextlib.asynccontextmanager
async def unit(folder: Path, table: Table) -> AsyncIterator[Unit]:
    """Start it."""
    config = folder / "voicemeet.toml"
    config.touch(mode=0o600)
    table["panel"] = {"factory": "mock"}
    table["status"] = {"self_test_at": ""}
    config.write_text(to_toml(table))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told:
        told.setblocking(False)
        told.bind(str(folder / "notify"))
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "voicemeet_edge", "run", "--config", str(config),
            env={**os.environ, "NOTIFY_SOCKET": str(folder / "notify"), "RUNTIME_DIRECTORY": str(folder)},
        )  # fmt: skip
        try:
            yield Unit(process, told, config)
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()


async def test_ready_what_it_does_new_settings_and_the_end(tmp_path: Path) -> None:
    async with run(loopback(tmp_path / "hub")) as hub:
        table = device_settings(hub.info, LabCall(policy="direct"), {})
        async with unit(tmp_path, table) as device:
            assert "STATUS=Ready: press call" in await device.hears("READY=1")
            await device.hears("WATCHDOG=1")
            before = device.process.pid
            asked = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "voicemeet_edge", "status", "--metrics", "--socket",
                str(tmp_path / "status.sock"), stdout=asyncio.subprocess.PIPE,
            )  # fmt: skip
            metrics, _ = await asked.communicate()
            assert b"\nvoicemeet_backend_connected 1.0\n" in metrics

            table["audio"]["volume"] = 33
            device.config.write_text(to_toml(table))
            device.process.send_signal(signal.SIGHUP)
            assert "MONOTONIC_USEC=" in await device.hears("RELOADING=1")
            assert "STATUS=Ready: press call" in await device.hears("READY=1")

            device.config.write_text("volume = loud")  # a wrong file changes nothing
            device.process.send_signal(signal.SIGHUP)
            await device.hears("RELOADING=1")
            await device.hears("READY=1")
            await device.hears("WATCHDOG=1")
            assert (device.process.pid, device.process.returncode) == (before, None)

            device.process.terminate()
            await device.hears("STOPPING=1")
            assert await device.process.wait() == 0


async def test_it_is_ready_without_a_hub_and_says_what_is_the_matter(tmp_path: Path) -> None:
    async with run(loopback(tmp_path / "hub")) as hub:
        table = device_settings(hub.info, LabCall(policy="direct"), {})
    table["backend"]["url"] = NOWHERE
    async with unit(tmp_path, table) as device:
        said = await device.hears("READY=1")
        assert "STATUS=" in said
        assert "Ready: press call" not in said
        device.process.terminate()
        await device.hears("STOPPING=1")
        assert await device.process.wait() == 0


async def test_settings_that_need_it_are_taken_by_a_new_start(tmp_path: Path) -> None:
    async with run(loopback(tmp_path / "hub")) as hub:
        table = device_settings(hub.info, LabCall(policy="direct"), {})
        async with unit(tmp_path, table) as device:
            await device.hears("READY=1")
            table["call"]["pool"] = "another"
            device.config.write_text(to_toml(table))
            device.process.send_signal(signal.SIGHUP)
            await device.hears("RELOADING=1")
            await device.hears("READY=1")
            await device.hears("STOPPING=1")  # nobody calls: at once, and systemd starts it again
            assert await device.process.wait() == 0
