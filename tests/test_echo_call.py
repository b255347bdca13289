"""The call with oneself, over a real hub and its real relay."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from voicemeet_edge.choices import RelayProtocol
from voicemeet_edge.demo.lab import LabCall, device_settings, hub_settings
from voicemeet_edge.echo_call import Pair, call_oneself, paired, try_rung
from voicemeet_edge.errors import MediaError
from voicemeet_edge.hub.app import running_hub
from voicemeet_edge.settings import Settings

needs_coturn = pytest.mark.skipif(shutil.which("turnserver") is None, reason="needs Debian's coturn")


@asynccontextmanager
async def meeting(
    tmp_path: Path, *, turn: str, keys: list[str] | None = None
) -> AsyncIterator[tuple[Settings, Pair]]:
    async with running_hub(hub_settings(tmp_path, turn="coturn" if turn else "off")) as info:
        table = device_settings(info, LabCall(policy="direct"), {})
        settings = Settings.from_dict({**table, "security": {"intercom_keys": keys or []}})
        async with paired(settings) as pair:
            yield settings, pair


async def test_without_a_relay_it_goes_directly(tmp_path: Path) -> None:
    async with meeting(tmp_path, turn="", keys=["A" * 43]) as (settings, pair):
        assert not pair.has_relay
        call = await call_oneself(settings, pair)
        assert not call.relayed
        assert call.words_agree
        assert call.likeness.score > 0.6
        assert call.loss < 0.2
        with pytest.raises(MediaError):
            await try_rung(pair, RelayProtocol.UDP)


@needs_coturn
@pytest.mark.system
async def test_over_the_relay_and_its_rungs(tmp_path: Path) -> None:
    async with meeting(tmp_path, turn="coturn") as (settings, pair):
        assert pair.has_relay
        for rung in (RelayProtocol.UDP, RelayProtocol.TCP):
            assert await try_rung(pair, rung) > 0
        call = await call_oneself(settings, pair)
        assert call.relayed
        assert call.words_agree
        assert call.likeness.score > 0.6
