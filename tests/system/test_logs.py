"""What devices and hub write down about calls names nobody: no address, token, key, SDP or id."""

from __future__ import annotations

import asyncio
import contextlib
import re
import shutil
import sys
import tomllib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.system.lab import Lab, LabCall, ended, meet
from voicemeet_edge.demo.remote import to_toml
from voicemeet_edge.hub.app import HubInfo
from voicemeet_edge.secret import Secret
from voicemeet_edge.system.logs import GONE, redact

pytestmark = [pytest.mark.system, pytest.mark.timeout(180)]

START_LIMIT_S = 30.0
TIME = re.compile(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} ", re.MULTILINE)


@contextlib.asynccontextmanager
async def hub_process(directory: Path) -> AsyncIterator[HubInfo]:
    """Run the hub as its owner does, with its log in `hub.log`."""
    table: dict[str, dict[str, object]] = {
        "http": {"port": 0, "tls": "self-signed"},
        "match": {"avoid_repeat_s": 0, "open_pools": ["*"]},
        "turn": {"provider": "coturn", "port": 0},
        "limits": {"device_per_s": 100, "device_burst": 1000},
    }
    config = directory / "hub.toml"
    config.write_text(f'state_dir = "{directory / "state"}"\n{to_toml(table)}')
    with (directory / "hub.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "voicemeet_edge", "hub", "--config", str(config), "--device-settings",
            stdout=asyncio.subprocess.PIPE, stderr=log,
        )  # fmt: skip
    assert process.stdout is not None
    try:
        said = ""
        async with asyncio.timeout(START_LIMIT_S):
            while "role" not in said:
                line = await process.stdout.readline()
                assert line, (directory / "hub.log").read_text()
                said += line.decode()
        backend = tomllib.loads(said.partition("voicemeet.toml:")[2])["backend"]
        yield HubInfo(backend["url"], Secret(backend["apikey"]), backend["tls_pin"], 0, None)
    finally:
        if process.returncode is None:
            process.terminate()
        await process.communicate()
        assert process.returncode == 0


async def test_the_logs_of_calls_name_nobody(tmp_path: Path) -> None:
    if shutil.which("turnserver") is None:
        pytest.skip("coturn is not installed (Debian package coturn)")
    async with contextlib.AsyncExitStack() as stack:
        lab = Lab.make(tmp_path, stack)
        lab.info = await stack.enter_async_context(hub_process(tmp_path))
        relay = LabCall(policy="relay")
        one, other = await asyncio.gather(lab.device("a", relay), lab.device("b", relay))
        for _ in range(2):
            await meet(one, other)
            other.mark()
            await one.press()
            await ended(one, "hung_up")
            await ended(other, "peer_hung_up")
        await one.press("report")
        await one.expect("report", report="sent")
        # And a call that fails: errors are where names slip in.
        await meet(one, other)
        one.mark()
        other.kill()
        await one.state("reconnecting")
        key = lab.info.apikey.reveal()
    for name in ("a", "b", "hub"):
        log = lab.log(name)
        assert "INFO" in log
        assert key not in log
        told = TIME.sub("", log)
        # The redaction is the second line of defence: there must be nothing for it to do.
        assert GONE not in told, told
        assert redact(told) == told
        assert not re.search(
            r"\d+\.\d+\.\d+\.\d+|candidate|v=0|eyJ|[0-9a-f]{16}|\b[0-9A-F]{2}(:[0-9A-F]{2}){5}", told
        )
        assert not re.search(r"Traceback|ERROR", told), told
