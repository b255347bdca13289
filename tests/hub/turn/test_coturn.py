"""A real coturn with the configuration we write: who gets through and who does not."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import aioice.stun
import aioice.turn
import pytest

from voicemeet_edge.errors import SettingsError
from voicemeet_edge.hub.settings import TurnSettings
from voicemeet_edge.hub.turn import coturn as coturn_module
from voicemeet_edge.hub.turn.coturn import Coturn, CoturnError, CoturnFiles, _answers, coturn_config
from voicemeet_edge.hub.turn.provider import HmacTurn, TurnAddress, turn_password
from voicemeet_edge.secret import Secret
from voicemeet_edge.testing.network import BridgedNetwork, unavailable

pytestmark = pytest.mark.system

SECRET = Secret("0123456789abcdef" * 4)
SETTINGS = TurnSettings(provider="coturn", port=0, user_quota=2)

needs_coturn = pytest.mark.skipif(
    shutil.which("turnserver", path="/usr/bin:/usr/sbin") is None,
    reason="the Debian package coturn is missing",
)


@contextlib.asynccontextmanager
async def running(directory: Path, settings: TurnSettings = SETTINGS) -> AsyncIterator[Coturn]:
    coturn = await asyncio.to_thread(Coturn, settings, SECRET, directory)
    await coturn.start()
    try:
        yield coturn
    finally:
        await coturn.stop()


def place(coturn: Coturn) -> TurnAddress:
    """Where it is; it must be somewhere."""
    assert coturn.address is not None
    return coturn.address


class Sink(asyncio.DatagramProtocol):
    """Receives relayed data."""

    def __init__(self) -> None:
        self.received: asyncio.Queue[bytes] = asyncio.Queue(16)

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.received.put_nowait(data)


def client_of(relay: Any) -> Any:
    """Return aioice's TURN client behind a relay, which it does not hand out."""
    return relay._TurnTransport__inner_protocol


@contextlib.asynccontextmanager
async def allocation(
    address: TurnAddress, username: str, password: Secret, transport: str = "udp"
) -> AsyncIterator[tuple[Any, Sink]]:
    relay, sink = await aioice.turn.create_turn_endpoint(
        Sink,
        server_addr=(address.host, address.port),
        username=username,
        password=password.reveal(),
        transport=transport,
    )
    try:
        yield relay, sink
    finally:
        await client_of(relay).delete()


async def refusal(address: TurnAddress, username: str, password: Secret) -> int:
    """Return the STUN error code with which an allocation is refused, 0 when it is not."""
    try:
        async with allocation(address, username, password):
            return 0
    except aioice.stun.TransactionFailed as error:
        return int(error.response.attributes["ERROR-CODE"][0])


async def credentials(coturn: Coturn, expires_at: float, slot: str = "a") -> tuple[str, Secret]:
    provider = HmacTurn(SECRET, place(coturn))
    grant = await provider.issue("c" * 32, "a" if slot == "a" else "b", time.time(), expires_at)
    server = grant.ice_servers[1]
    assert server.username is not None
    assert server.credential is not None
    return server.username, server.credential


@needs_coturn
async def test_who_gets_an_allocation(tmp_path: Path) -> None:
    async with running(tmp_path) as coturn:
        username, password = await credentials(coturn, time.time() + 600)
        assert await refusal(place(coturn), username, password) == 0
        assert await refusal(place(coturn), username, Secret("wrong")) == 401
        expired, password = await credentials(coturn, time.time() - 600)
        assert await refusal(place(coturn), expired, password) == 401
        foreign = f"{int(time.time()) + 600}:x"
        assert await refusal(place(coturn), foreign, turn_password(Secret("other"), foreign)) == 401
        config = tmp_path / "turnserver.conf"
        assert config.stat().st_mode & 0o777 == 0o600
    assert not [name for name in os.listdir(tmp_path) if name.endswith(".log")]


@needs_coturn
async def test_quota_counts_one_slot_of_one_call_over_renewals(tmp_path: Path) -> None:
    async with running(tmp_path) as coturn, contextlib.AsyncExitStack() as stack:
        for renewal in range(2):
            username, password = await credentials(coturn, time.time() + 600 + renewal)
            await stack.enter_async_context(allocation(place(coturn), username, password))
        username, password = await credentials(coturn, time.time() + 700)
        assert await refusal(place(coturn), username, password) == 486
        username, password = await credentials(coturn, time.time() + 700, "b")
        assert await refusal(place(coturn), username, password) == 0


@needs_coturn
async def test_two_ends_meet_at_the_relay_and_private_peers_are_denied(tmp_path: Path) -> None:
    async with running(tmp_path) as coturn, contextlib.AsyncExitStack() as stack:
        ends = []
        for slot, transport in (("a", "udp"), ("b", "tcp")):
            username, password = await credentials(coturn, time.time() + 600, slot)
            entry = allocation(place(coturn), username, password, transport)
            ends.append(await stack.enter_async_context(entry))
        (relay_a, sink_a), (relay_b, sink_b) = ends
        # coturn installs a permission per direction, so each side has to speak first.
        for _ in range(100):
            relay_a.sendto(b"from a", relay_b.get_extra_info("sockname"))
            relay_b.sendto(b"from b", relay_a.get_extra_info("sockname"))
            await asyncio.sleep(0.1)
            if not sink_a.received.empty() and not sink_b.received.empty():
                break
        assert sink_a.received.get_nowait() == b"from b"
        assert sink_b.received.get_nowait() == b"from a"
        inner = client_of(relay_a)
        for peer in ("10.1.2.3", "192.168.1.1", "169.254.169.254", "127.0.0.2", "0.0.0.0", "100.64.0.1"):
            with pytest.raises(aioice.stun.TransactionFailed) as caught:
                await inner.channel_bind(0x4FF0, (peer, 80))
            assert caught.value.response.attributes["ERROR-CODE"][0] == 403, peer


@needs_coturn
async def test_killed_coturn_comes_back_and_ends_with_the_supervisor(tmp_path: Path) -> None:
    coturn = await asyncio.to_thread(Coturn, SETTINGS, SECRET, tmp_path)
    await coturn.start()
    supervisor = asyncio.create_task(coturn.supervise())
    first = coturn.pid
    assert first is not None
    os.kill(first, signal.SIGKILL)
    # Another process tells us nothing: it has to be asked.
    while coturn.pid == first or not await _answers("127.0.0.1", place(coturn).port):  # noqa: ASYNC110
        await asyncio.sleep(0.05)
    second = coturn.pid
    assert second is not None
    supervisor.cancel()
    with pytest.raises(asyncio.CancelledError):
        await supervisor
    assert coturn.restarts == 1
    with pytest.raises(ProcessLookupError):
        os.kill(second, 0)


@pytest.mark.namespaces
@needs_coturn
@pytest.mark.skipif(unavailable() is not None, reason=str(unavailable()))
@pytest.mark.parametrize("wanted", ["auto", "10.66.0.5"])
def test_the_address_comes_later_goes_and_changes(tmp_path: Path, wanted: str) -> None:
    with BridgedNetwork(("hub",)) as network:
        program = (sys.executable, "-m", "tests.hub.turn.late_network", str(tmp_path), wanted)
        subprocess.run(network.command("hub", *program), check=True, timeout=120)


def test_missing_program_is_a_settings_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("voicemeet_edge.hub.turn.coturn.shutil.which", lambda *_args, **_more: None)
    with pytest.raises(SettingsError, match="coturn"):
        Coturn(SETTINGS, SECRET, tmp_path)


def test_configuration_of_a_public_server() -> None:
    settings = TurnSettings(
        provider="coturn",
        listen=("198.51.100.7",),
        relay_address="10.0.0.5",
        external_address="198.51.100.7",
        tls_port=443,
        public_peers=True,
        allowed_peers=("192.168.1.0/24",),
    )
    files = CoturnFiles(Path("/s/turnserver.conf"), Path("/s/turnserver.pid"), Path("/s/turnserver.db"))
    lines = coturn_config(settings, SECRET, files, (Path("/s/chain.pem"), Path("/s/key.pem"))).splitlines()
    for wanted in (
        "external-ip=198.51.100.7/10.0.0.5",
        "tls-listening-port=443",
        "denied-peer-ip=10.0.0.0-10.255.255.255",
        "denied-peer-ip=::ffff:0.0.0.0-::ffff:255.255.255.255",
        "allowed-peer-ip=10.0.0.5",
        "allowed-peer-ip=198.51.100.7",
        "allowed-peer-ip=192.168.1.0-192.168.1.255",
        "no-cli",
        "no-tcp-relay",
        "log-file=/dev/null",
        "use-auth-secret",
    ):
        assert wanted in lines
    assert "allow-loopback-peers" not in lines
    assert "secure-stun" not in lines


KINDS = pytest.mark.parametrize("kind", [socket.SOCK_DGRAM, socket.SOCK_STREAM])


@needs_coturn
@KINDS
async def test_a_port_that_another_server_holds_is_not_shared(
    tmp_path: Path, kind: socket.SocketKind
) -> None:
    with socket.socket(socket.AF_INET, kind) as other:
        # As another coturn would: it lets others share its port.
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.bind(("0.0.0.0", 0))
        if kind == socket.SOCK_STREAM:
            other.listen()
        settings = replace(SETTINGS, port=other.getsockname()[1])
        coturn = await asyncio.to_thread(Coturn, settings, SECRET, tmp_path)
        with pytest.raises(CoturnError, match="another TURN server"):
            await coturn.start()
    assert coturn.pid is None


def take(stack: contextlib.ExitStack, kind: socket.SocketKind, port: int) -> None:
    """Be the program that has this port until the stack closes."""
    other = stack.enter_context(socket.socket(socket.AF_INET, kind))
    other.bind(("0.0.0.0", port))
    if kind == socket.SOCK_STREAM:
        other.listen()


async def relays(coturn: Coturn) -> bool:
    """Say whether an allocation is had of it."""
    return await refusal(place(coturn), *await credentials(coturn, time.time() + 600)) == 0


@needs_coturn
@KINDS
async def test_a_chosen_port_that_is_taken_before_the_start_is_given_up(
    tmp_path: Path, kind: socket.SocketKind, caplog: pytest.LogCaptureFixture
) -> None:
    coturn = await asyncio.to_thread(Coturn, SETTINGS, SECRET, tmp_path)
    chosen = place(coturn).port
    with contextlib.ExitStack() as others:
        take(others, kind, chosen)
        await coturn.start()
        try:
            assert place(coturn).port != chosen
            assert await relays(coturn)
        finally:
            await coturn.stop()
    assert f"the TURN port {chosen} cannot be had" in caplog.text


@needs_coturn
@KINDS
async def test_a_chosen_port_that_is_taken_from_under_coturn_is_given_up(
    tmp_path: Path,
    kind: socket.SocketKind,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(coturn_module, "READY_TIMEOUT_S", 2.0)
    coturn = await asyncio.to_thread(Coturn, SETTINGS, SECRET, tmp_path)
    chosen = place(coturn).port
    spawn = coturn._spawn
    with contextlib.ExitStack() as others:

        async def spawn_too_late() -> None:
            if place(coturn).port == chosen:
                take(others, kind, chosen)
            await spawn()

        monkeypatch.setattr(coturn, "_spawn", spawn_too_late)
        await coturn.start()
        try:
            assert place(coturn).port != chosen
            assert await relays(coturn)
        finally:
            await coturn.stop()
    assert f"coturn does not answer on port {chosen}" in caplog.text


@needs_coturn
async def test_a_machine_on_which_no_port_can_be_had_is_said_in_the_end(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    coturn = await asyncio.to_thread(Coturn, SETTINGS, SECRET, tmp_path)
    with contextlib.ExitStack() as others:

        def taken() -> int:
            one = others.enter_context(socket.socket())
            one.bind(("0.0.0.0", 0))
            return int(one.getsockname()[1])

        take(others, socket.SOCK_STREAM, place(coturn).port)
        monkeypatch.setattr(coturn_module, "_free_port", taken)
        with pytest.raises(CoturnError, match=r"TURN port \d+ cannot be had"):
            await coturn.start()
    assert coturn.pid is None
    assert len(caplog.messages) == coturn_module.PORT_TRIES - 1


@needs_coturn
async def test_no_other_program_gets_the_port_of_the_command_line(tmp_path: Path) -> None:
    coturn = await asyncio.to_thread(Coturn, SETTINGS, SECRET, tmp_path)
    spawn = coturn._spawn
    refused: list[OSError] = []
    with contextlib.ExitStack() as others:

        async def spawn_too_late() -> None:
            line = next(one for one in coturn._files.config.read_text().splitlines() if "cli-port" in one)
            try:
                take(others, socket.SOCK_STREAM, int(line.partition("=")[2]))
            except OSError as error:
                refused.append(error)
            await spawn()

        coturn._spawn = spawn_too_late  # type: ignore[method-assign]
        await coturn.start()
        try:
            username, password = await credentials(coturn, time.time() + 600)
            async with allocation(place(coturn), username, password):
                assert await coturn.cli.end_allocations(username.partition(":")[2]) == 1
        finally:
            await coturn.stop()
    assert refused


@needs_coturn
async def test_a_coturn_that_ends_says_its_status(tmp_path: Path) -> None:
    coturn = await asyncio.to_thread(Coturn, SETTINGS, SECRET, tmp_path)
    coturn._command = ["/bin/sh", "-c", "exit 127"]
    with pytest.raises(CoturnError, match="status 127"):
        await coturn.start()


async def test_systemd_ends_coturn_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", "/run/systemd/notify")
    monkeypatch.setattr(shutil, "which", lambda name, **_: f"/usr/bin/{name}")
    coturn = await asyncio.to_thread(Coturn, SETTINGS, SECRET, tmp_path)
    assert coturn._command[0] == "/usr/bin/turnserver"


@needs_coturn
async def test_the_service_manager_is_not_coturns_to_talk_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", "/run/systemd/notify")
    monkeypatch.setenv("LANG", "C.UTF-8")
    coturn = await asyncio.to_thread(Coturn, SETTINGS, SECRET, tmp_path)
    coturn._command = ["/bin/sh", "-c", f"env >{tmp_path}/environment; exit 127"]
    with pytest.raises(CoturnError, match="status 127"):
        await coturn.start()
    names = {line.split("=")[0] for line in (tmp_path / "environment").read_text().splitlines()}
    assert "NOTIFY_SOCKET" not in names
    assert {"PATH", "LANG"} <= names, "and all else stays"


@needs_coturn
async def test_its_files_lie_where_systemd_says_and_not_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = tmp_path / "run"
    memory.mkdir()
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(memory))
    no_disk = tmp_path / "missing"  # as good as a full one
    async with running(no_disk) as coturn:
        async with allocation(place(coturn), *await credentials(coturn, time.time() + 60)):
            pass
        assert {"turnserver.conf", "turnserver.pid"} <= {path.name for path in memory.iterdir()}
        assert (memory / "turnserver.conf").stat().st_mode & 0o077 == 0
    assert not no_disk.exists()


@needs_coturn
async def test_a_disk_that_takes_no_settings_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RUNTIME_DIRECTORY", raising=False)
    coturn = await asyncio.to_thread(Coturn, SETTINGS, SECRET, tmp_path / "missing")
    with pytest.raises(CoturnError, match="cannot be written"):
        await coturn.start()
    assert coturn.pid is None
