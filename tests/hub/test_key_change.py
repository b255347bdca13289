"""The intercom key is changed while the hub runs: both are good, who has which is told, then one is."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.hub.running import RunningHub, loopback, new_ticket, run
from voicemeet_edge.backend.admission import admission_key, make_proof
from voicemeet_edge.backend.verbs import Role
from voicemeet_edge.call.keys import new_key, parse_key
from voicemeet_edge.errors import BackendError, LocalError
from voicemeet_edge.hub import pass_reading, verbs
from voicemeet_edge.hub.key_change import finish, rotate, status
from voicemeet_edge.hub.pass_desk import make_pass, open_store
from voicemeet_edge.hub.settings import MatchSettings
from voicemeet_edge.secret import Secret

POOL = "frontdesk"


@dataclass
class Door:
    """A door with its pass."""

    hub: RunningHub
    shown: Secret

    async def search(self, key: Secret) -> None:
        """Look for somebody, with a proof of this key."""
        client = self.hub.client()
        token = (await client.session(shown_pass=self.shown)).device_token
        ticket = new_ticket()
        proof = make_proof(admission_key(parse_key(key), POOL), token, POOL, Role.CALLER, ticket)
        await client.match(token, ticket, POOL, Role.CALLER, proof=proof)


async def until_told(config: Path, text: str) -> str:
    """Ask until the hub has written down what it saw."""
    async with asyncio.timeout(30):
        while text not in (told := await status(config, POOL)):  # noqa: ASYNC110 - as a person does
            await asyncio.sleep(0.05)
    return told


async def heeded(door: Door, key: Secret, *, refused: bool) -> None:
    """Wait until the hub, which looks now and then, takes or refuses a proof of this key."""
    async with asyncio.timeout(30):
        while True:
            try:
                await door.search(key)
                now = False
            except BackendError:
                now = True
            if now is refused:
                return
            await asyncio.sleep(0.05)


async def test_a_key_is_changed_and_nobody_is_locked_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pass_reading, "PASSES_INTERVAL_S", 0.05)
    monkeypatch.setattr(verbs, "SWEEP_INTERVAL_S", 0.05)
    state, config, old = tmp_path / "state", tmp_path / "hub.toml", new_key()
    config.write_text(f'state_dir = "{state}"\n')
    async with open_store(state) as store:
        gate, side = [await make_pass(store, POOL, Role.CALLER, label) for label in ("gate", "side")]
    async with run(loopback(state, match=MatchSettings())) as hub:
        first, second = Door(hub, gate), Door(hub, side)
        told = await rotate(config, POOL, old)
        new = Secret(next(line.strip() for line in told.splitlines() if line.startswith("  ")))
        with pytest.raises(LocalError, match="already"):
            await rotate(config, POOL, old)
        await heeded(first, new_key(), refused=True)
        await first.search(old)
        await second.search(old)
        assert "2 not yet: gate, side" in await until_told(config, "side                      caller     OLD")
        with pytest.raises(LocalError, match="gate, side"):
            await finish(config, POOL)
        await first.search(new)
        assert "1 not yet: side" in await until_told(config, "gate                      caller     new")
        await second.search(new)
        await until_told(config, "nobody uses the old key")
        assert "alone" in await finish(config, POOL)
        await heeded(first, old, refused=True)
        await first.search(new)
        with pytest.raises(LocalError, match="not being changed"):
            await status(config, POOL)
    everything = b"".join(path.read_bytes() for path in state.iterdir() if path.is_file())
    assert old.reveal().encode() not in everything
    assert new.reveal().encode() not in everything


async def test_what_cannot_be_is_refused_in_words(tmp_path: Path) -> None:
    state, config, key = tmp_path / "state", tmp_path / "hub.toml", new_key()
    config.write_text(f'state_dir = "{state}"\n')
    async with open_store(state) as store:
        await make_pass(store, POOL, Role.CALLER, "gate")
        await store.set_admission_keys(POOL, [Secret("A" * 43)])
    with pytest.raises(LocalError, match="nobody is in"):
        await rotate(config, "lobby", key)
    with pytest.raises(LocalError, match="not the key of frontdesk"):
        await rotate(config, POOL, key)
    with pytest.raises(LocalError, match="43 characters"):
        await rotate(config, POOL, Secret("x"))
    with pytest.raises(LocalError, match="begin with rotate"):
        await finish(config, POOL)
