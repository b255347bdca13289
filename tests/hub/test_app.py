"""A hub as a whole: it starts, pushes, stops, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest

from tests.hub.running import loopback, new_ticket, run
from voicemeet_edge.backend.client import Backend
from voicemeet_edge.backend.pin import tls_context
from voicemeet_edge.backend.verbs import Role, WaitingReply
from voicemeet_edge.errors import BackendError, SettingsError
from voicemeet_edge.hub.app import HubInfo, device_settings, read_info, running_hub
from voicemeet_edge.hub.listening import HubError
from voicemeet_edge.hub.settings import HttpSettings, HubSettings, TurnSettings
from voicemeet_edge.secret import Secret
from voicemeet_edge.signaling.socket import realtime_url


async def test_self_signed_hub_takes_its_pin_and_no_other(tmp_path: Path) -> None:
    async with run(loopback(tmp_path, tls="self-signed")) as hub:
        assert (await hub.client().session()).expires_in_s > 0
        stranger = Backend(hub.info.url, hub.info.apikey, tls=tls_context("0" * 64))
        with pytest.raises(BackendError) as caught:
            await stranger.session()
        await stranger.close()
        assert caught.value.code == "pin_mismatch"


async def test_the_waiting_side_is_told_at_once(tmp_path: Path) -> None:
    async with run(loopback(tmp_path)) as hub:
        client, ticket = hub.client(), new_ticket()
        first = (await client.session()).device_token
        waiting = await client.match(first, ticket, "public", Role.EITHER)
        assert isinstance(waiting, WaitingReply)
        url = f"{realtime_url(hub.info.url)}?apikey={hub.info.apikey.reveal()}&vsn=2.0.0"
        async with hub.http.ws_connect(url) as socket:
            topic = f"realtime:wait:{ticket}"
            config = {"broadcast": {"ack": False, "self": False}, "presence": {"key": ""}, "private": True}
            token = waiting.wait_token.reveal()
            await socket.send_json(["1", "1", topic, "phx_join", {"config": config, "access_token": token}])
            reply = await socket.receive_json()
            assert reply[3:5][0] == "phx_reply"
            assert reply[4]["status"] == "ok"
            second = (await client.session()).device_token
            await client.match(second, new_ticket(), "public", Role.EITHER)
            while True:
                _, _, where, event, payload = await socket.receive_json()
                if event == "broadcast":
                    break
            assert where == topic
            assert payload["event"] == "matched"
            assert payload["payload"] == {}


async def test_port_in_use_is_an_error(tmp_path: Path) -> None:
    async with run(loopback(tmp_path / "one")) as hub:
        taken = HubSettings(tmp_path / "two", http=HttpSettings(port=hub.info.port, tls="off"))
        with pytest.raises(HubError):
            async with running_hub(taken):
                pass


def times(folder: Path) -> dict[str, int]:
    """When each file was last written; not the database, which a running hub writes to at any time."""
    files = [path for path in folder.iterdir() if not path.name.startswith("hub.db")]
    return {path.name: path.stat().st_mtime_ns for path in files}


@pytest.mark.system
async def test_a_second_hub_ends_before_it_touches_anything(tmp_path: Path) -> None:
    turn = TurnSettings(provider="coturn", port=0)
    async with run(loopback(tmp_path, turn=turn)) as hub:
        before = times(tmp_path)
        again = HubSettings(tmp_path, http=HttpSettings(port=hub.info.port, tls="off"), turn=turn)
        with pytest.raises(HubError):
            async with running_hub(again):
                pass
        assert times(tmp_path) == before


async def test_what_devices_need_can_be_read_beside_a_running_hub(tmp_path: Path) -> None:
    settings = loopback(tmp_path, tls="self-signed")
    with pytest.raises(SettingsError, match="has run before"):
        read_info(settings)
    assert times(tmp_path) == {}
    async with run(settings) as hub:
        known = HubSettings(tmp_path, http=HttpSettings(port=hub.info.port), turn=settings.turn)
        info = read_info(known)
        assert (info.apikey.reveal(), info.pin) == (hub.info.apikey.reveal(), hub.info.pin)
        assert info.port == hub.info.port


async def test_missing_secret_file_is_a_settings_error(tmp_path: Path) -> None:
    turn = TurnSettings(provider="hmac", secret_file=str(tmp_path / "none"), urls=("turn:x",))
    with pytest.raises(SettingsError):
        async with running_hub(loopback(tmp_path, turn=turn)):
            pass


CHILD = """
import asyncio, sys
from pathlib import Path
from voicemeet_edge.hub.app import run_hub
from voicemeet_edge.hub.settings import HttpSettings, HubSettings, TurnSettings
settings = HubSettings(
    Path(sys.argv[1]), http=HttpSettings(port=0, tls="off"), turn=TurnSettings(provider=sys.argv[2], port=0)
)
asyncio.run(run_hub(settings, ready=lambda info: print(info.port, info.coturn_pid, flush=True)))
"""


@pytest.mark.system
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_it_cleanly_and_coturn_with_it(tmp_path: Path, number: signal.Signals) -> None:
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-c", CHILD, str(tmp_path), "coturn", stdout=asyncio.subprocess.PIPE
    )
    assert child.stdout is not None
    coturn_pid = int((await child.stdout.readline()).split()[1])
    os.kill(coturn_pid, 0)
    child.send_signal(number)
    assert await child.wait() == 0
    with pytest.raises(ProcessLookupError):
        os.kill(coturn_pid, 0)


@pytest.mark.system
async def test_coturn_does_not_outlive_a_killed_hub(tmp_path: Path) -> None:
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-c", CHILD, str(tmp_path), "coturn", stdout=asyncio.subprocess.PIPE
    )
    assert child.stdout is not None
    coturn_pid = int((await child.stdout.readline()).split()[1])
    child.kill()
    await child.wait()
    while await asyncio.to_thread(is_running, coturn_pid):  # noqa: ASYNC110 - it is not our child
        await asyncio.sleep(0.05)


def is_running(pid: int) -> bool:
    """Say whether a process runs; a zombie that nobody collects does not."""
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_the_lines_a_device_needs() -> None:
    info = HubInfo("https://hub.example:8443", Secret("key"), "ab" * 32, 8443, None)
    text = device_settings(info, pool="frontdesk", role="caller")
    assert 'url = "https://hub.example:8443"' in text
    assert f'tls_pin = "{"ab" * 32}"' in text
    assert 'role = "caller"' in text
    assert info.desk_url == "https://hub.example:8443/desk/"
    assert "key" not in repr(info.apikey)
