"""The search against a real hub: lines that died, servers that ask for patience, tokens that are refused."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from voicemeet_edge.backend.client import Backend
from voicemeet_edge.backend.tokens import DeviceTokens
from voicemeet_edge.backend.verbs import MatchedReply, MatchReply, MatchRequest, Role
from voicemeet_edge.call import search
from voicemeet_edge.call.search import Search, SearchTarget
from voicemeet_edge.demo.lab import hub_settings
from voicemeet_edge.errors import BackendError
from voicemeet_edge.hub.app import HubInfo, running_hub
from voicemeet_edge.secret import Secret
from voicemeet_edge.signaling.channel_handle import ChannelHandle
from voicemeet_edge.signaling.socket import RealtimeSocket, SocketState
from voicemeet_edge.testing.proxy import FreezingProxy


@pytest.fixture
async def hub(tmp_path: Path) -> AsyncIterator[HubInfo]:
    async with running_hub(hub_settings(tmp_path, turn="off", port=0)) as info:
        yield info


class Party:
    """Who searches, over a socket and a backend of its own."""

    def __init__(self, info: HubInfo, url: str = "", backend: Backend | None = None) -> None:
        self.states: list[SocketState] = []
        self.backend = backend or Backend(url or info.url, info.apikey)
        self.socket = RealtimeSocket(
            url or info.url,
            info.apikey,
            on_state=self.states.append,
            push_timeout_s=3600.0,  # that a join is not answered must not be how it is noticed
        )
        self._line = asyncio.create_task(self.socket.run())

    async def up(self) -> None:
        async with asyncio.timeout(20):
            while self.socket.state is not SocketState.UP:  # noqa: ASYNC110 - its own counter
                await asyncio.sleep(0.01)

    async def find(self) -> MatchedReply:
        tokens = DeviceTokens(self.backend)
        async with asyncio.timeout(20):
            return await Search(self.backend, tokens, self.socket, SearchTarget("lab", Role.EITHER)).find()

    async def close(self) -> None:
        self._line.cancel()
        await asyncio.gather(self._line, return_exceptions=True)
        await self.backend.close()


async def test_a_search_asks_whether_the_line_is_alive_when_it_begins_and_while_it_waits(
    hub: HubInfo,
) -> None:
    async with FreezingProxy(int(hub.url.rpartition(":")[2])) as proxy:
        one, other = Party(hub, f"http://127.0.0.1:{proxy.port}"), Party(hub)
        await asyncio.gather(one.up(), other.up())
        proxy.freeze()
        finding = asyncio.create_task(one.find())
        await one.up()
        async with asyncio.timeout(20):
            while one.states.count(SocketState.UP) < 2:  # noqa: ASYNC110 - its own counter
                await asyncio.sleep(0.01)
        proxy.freeze()  # again, while it waits in the pool
        async with asyncio.timeout(20):
            while one.states.count(SocketState.UP) < 3:  # noqa: ASYNC110 - its own counter
                await asyncio.sleep(0.01)
        matched = await asyncio.gather(finding, other.find())
        assert matched[0].call_id == matched[1].call_id
        await one.close()
        await other.close()


class Busy(Backend):
    """A backend that is full once and says for how long."""

    times: list[float]

    async def search(self, device_token: Secret, request: MatchRequest) -> MatchReply:
        self.times = [*getattr(self, "times", []), time.monotonic()]
        if len(self.times) == 1:
            raise BackendError("full", code="too_fast", status=429, retry_after_s=1.2)
        return await super().search(device_token, request)


async def test_what_the_server_asks_for_is_waited_at_least(hub: HubInfo) -> None:
    busy = Busy(hub.url, hub.apikey)
    one, other = Party(hub, backend=busy), Party(hub)
    await asyncio.gather(one.find(), other.find())
    assert busy.times[1] - busy.times[0] >= 1.2
    await one.close()
    await other.close()


@pytest.mark.parametrize(("used_s", "tokens"), [(3600.0, 0), (0.0, 3)])
async def test_a_fresh_wait_token_goes_to_the_socket_only_when_the_old_one_is_half_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, used_s: float, tokens: int
) -> None:
    monkeypatch.setattr(search, "WAIT_TOKEN_USED_S", used_s)
    settings = hub_settings(tmp_path, turn="off", port=0)
    settings = replace(settings, match=replace(settings.match, poll_after_s=0.1))
    handed, asked = [], asyncio.Event()
    set_token, match = ChannelHandle.set_token, Backend.search
    polls = 0

    async def hand(handle: ChannelHandle, token: Secret) -> None:
        handed.append(token)
        await set_token(handle, token)

    async def ask(backend: Backend, *wanted: object, **more: object) -> MatchReply:
        nonlocal polls
        polls += 1
        if polls > 4:
            asked.set()
        return await match(backend, *wanted, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(ChannelHandle, "set_token", hand)
    monkeypatch.setattr(Backend, "search", ask)
    async with running_hub(settings) as info:
        one = Party(info)
        await one.up()
        finding = asyncio.create_task(one.find())
        async with asyncio.timeout(20):
            await asked.wait()
        finding.cancel()
        await asyncio.gather(finding, return_exceptions=True)
        await one.close()
    assert (len(handed) >= tokens) if tokens else not handed
