"""A hub moves to another machine: doors and desks go on with what they have."""

from __future__ import annotations

import asyncio
import shutil
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest

from tests.hub.running import new_ticket
from voicemeet_edge.backend.client import Backend
from voicemeet_edge.backend.pin import tls_context
from voicemeet_edge.backend.verbs import Role, WaitingReply
from voicemeet_edge.errors import LocalError
from voicemeet_edge.hub.app import HubInfo, running_hub
from voicemeet_edge.hub.backup import restore_backup, write_backup
from voicemeet_edge.hub.pass_desk import make_pass, open_store
from voicemeet_edge.hub.settings import load_hub_settings
from voicemeet_edge.secret import Secret


class Machine:
    """Where a hub may live: its settings and its state, at the same places on each machine."""

    def __init__(self, place: Path) -> None:
        self.config, self.state = place / "etc" / "hub.toml", place / "state"

    def set_up(self, port: int) -> None:
        """Write the settings of a hub."""
        self.config.parent.mkdir(parents=True)
        self.config.write_text(f'state_dir = "{self.state}"\n[http]\nport = {port}\n')

    def burn(self) -> None:
        """Lose everything."""
        shutil.rmtree(self.state)
        shutil.rmtree(self.config.parent)


async def may_wait(info: HubInfo, shown: Secret, device: Backend) -> bool:
    """Ask with what the device was once given: address, apikey, pin and pass."""
    token = (await device.session(shown_pass=shown)).device_token
    reply = await device.match(token, new_ticket(), "frontdesk", Role.CALLER)
    return isinstance(reply, WaitingReply)


async def test_a_door_goes_on_at_the_restored_hub_untouched(tmp_path: Path, unused_tcp_port: int) -> None:
    machine, kept = Machine(tmp_path / "machine"), tmp_path / "hub.backup"
    machine.set_up(unused_tcp_port)
    settings = await asyncio.to_thread(load_hub_settings, machine.config)
    async with running_hub(settings) as info:
        async with open_store(machine.state) as store:
            shown = await make_pass(store, "frontdesk", Role.CALLER, "door")
            gone = await make_pass(store, "frontdesk", Role.CALLER, "stolen")
        await asyncio.to_thread(write_backup, machine.config, kept)
        device = Backend(info.url, info.apikey, tls=tls_context(info.pin), timeout_s=20)
    assert kept.stat().st_mode & 0o777 == 0o600
    machine.burn()
    told = await asyncio.to_thread(restore_backup, machine.config, kept, replace=False)
    assert f"port {unused_tcp_port}" in told
    settings = await asyncio.to_thread(load_hub_settings, machine.config)
    async with running_hub(settings) as again:
        assert (again.url, again.pin, again.apikey) == (info.url, info.pin, info.apikey)
        assert await may_wait(again, shown, device)
        assert await may_wait(again, gone, device)
        await device.close()


async def test_a_hub_that_is_there_is_put_aside_when_asked_and_never_while_it_runs(
    tmp_path: Path,
) -> None:
    machine, kept = Machine(tmp_path / "machine"), tmp_path / "hub.backup"
    machine.set_up(0)
    settings = await asyncio.to_thread(load_hub_settings, machine.config)
    async with running_hub(replace(settings)) as info:
        await asyncio.to_thread(write_backup, machine.config, kept)
        with pytest.raises(LocalError, match="a hub is here already"):
            await asyncio.to_thread(restore_backup, machine.config, kept, replace=False)
        with pytest.raises(LocalError, match="stop it first"):
            await asyncio.to_thread(restore_backup, machine.config, kept, replace=True)
    await asyncio.to_thread(restore_backup, machine.config, kept, replace=True)
    assert (machine.state / "secrets.json.before-restore").exists()
    async with running_hub(settings) as again:
        assert again.pin == info.pin


def test_before_the_first_start_there_is_nothing_to_keep(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    machine.set_up(0)
    with pytest.raises(LocalError, match="has not run yet"):
        write_backup(machine.config, tmp_path / "file")


async def test_what_could_not_be_restored_is_not_written(
    tmp_path: Path, unused_tcp_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("voicemeet_edge.hub.backup.MAX_BYTES", 50_000)
    machine, kept = Machine(tmp_path / "machine"), tmp_path / "hub.backup"
    machine.set_up(unused_tcp_port)
    async with running_hub(await asyncio.to_thread(load_hub_settings, machine.config)):
        pass
    with pytest.raises(LocalError, match="too large"):
        await asyncio.to_thread(write_backup, machine.config, kept)
    assert not kept.exists()


async def test_what_is_no_whole_backup_changes_nothing(tmp_path: Path) -> None:
    machine, kept = Machine(tmp_path / "machine"), tmp_path / "hub.backup"
    machine.set_up(0)
    settings = await asyncio.to_thread(load_hub_settings, machine.config)
    async with running_hub(settings):
        await asyncio.to_thread(write_backup, machine.config, kept)
    machine.burn()
    await asyncio.to_thread(_try_bad_ones, machine, kept, tmp_path)
    assert not machine.config.exists()
    assert not machine.state.exists()


def test_a_sparse_file_is_not_unfolded(tmp_path: Path) -> None:
    sparse = tarfile.TarInfo("hub.toml")
    sparse.pax_headers = {"GNU.sparse.map": "0,0", "GNU.sparse.size": str(1 << 62)}
    with tarfile.open(tmp_path / "kept", "w:gz", format=tarfile.PAX_FORMAT) as archive:
        archive.addfile(sparse)
    with pytest.raises(LocalError, match="no whole backup"):
        restore_backup(tmp_path / "hub.toml", tmp_path / "kept", replace=False)


def _try_bad_ones(machine: Machine, kept: Path, tmp_path: Path) -> None:
    whole = kept.read_bytes()
    other = tmp_path / "other"
    other.write_text("x")
    for content in (b"", b"nonsense", whole[: len(whole) // 2], whole[:-20]):
        kept.write_bytes(content)
        with pytest.raises(LocalError, match="no whole backup"):
            restore_backup(machine.config, kept, replace=True)
    with tarfile.open(kept, "w:gz") as archive:
        archive.add(other, "../../etc/passwd")
    with pytest.raises(LocalError, match="no whole backup"):
        restore_backup(machine.config, kept, replace=True)
    with pytest.raises(LocalError, match="cannot be read"):
        restore_backup(machine.config, tmp_path / "nowhere", replace=True)
