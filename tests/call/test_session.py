"""Two sessions in one process, a real hub between them, real connections: what carries out, carries out."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from voicemeet_edge.backend.client import Backend
from voicemeet_edge.backend.tokens import DeviceTokens
from voicemeet_edge.backend.verbs import MatchedReply, Role
from voicemeet_edge.call.commands import Tell, WordsKnown
from voicemeet_edge.call.machine import Event
from voicemeet_edge.call.negotiation import Kind
from voicemeet_edge.call.search import Search, SearchTarget
from voicemeet_edge.call.session import CallSession, News, SessionParts
from voicemeet_edge.choices import IcePolicy
from voicemeet_edge.demo.lab import LOOPBACK, hub_settings
from voicemeet_edge.hub.app import HubInfo, running_hub
from voicemeet_edge.reasons import EndReason
from voicemeet_edge.signaling.sealed import NoSeal
from voicemeet_edge.signaling.socket import RealtimeSocket
from voicemeet_edge.testing.waiting import until
from voicemeet_edge.voice.packet import RtpAudio
from voicemeet_edge.webrtc.options import PeerOptions
from voicemeet_edge.webrtc.peer import new_certificate

SILENCE = bytes(100)  # nobody decodes it


@dataclass
class End:
    """One device without buttons and sound."""

    backend: Backend
    socket: RealtimeSocket
    news: list[News] = field(default_factory=list)
    heard: list[RtpAudio] = field(default_factory=list)
    session: CallSession | None = None
    running: asyncio.Task[None] | None = None

    async def match(self) -> MatchedReply:
        tokens = DeviceTokens(self.backend)
        return await Search(self.backend, tokens, self.socket, SearchTarget("lab", Role.EITHER)).find()

    def talk(self, matched: MatchedReply) -> None:
        options = PeerOptions(policy=IcePolicy.DIRECT, addresses=(LOOPBACK,), ipv6=False)
        parts = SessionParts(self.backend, self.socket, NoSeal(), options, new_certificate(), SILENCE)
        self.session = CallSession(
            matched, Kind.MEET, parts, on_news=self.news.append, on_rtp=self.heard.append
        )
        self.running = asyncio.create_task(self.session.run())

    def told(self, event: Event) -> int:
        return [tell.event for tell in self.news if isinstance(tell, Tell)].count(event)

    @property
    def call(self) -> CallSession:
        assert self.session is not None
        return self.session

    async def ended(self) -> None:
        assert self.running is not None
        async with asyncio.timeout(20):
            await asyncio.gather(self.running, return_exceptions=True)


@asynccontextmanager
async def end_at(info: HubInfo) -> AsyncIterator[End]:
    backend, socket = Backend(info.url, info.apikey), RealtimeSocket(info.url, info.apikey)
    serving = asyncio.create_task(socket.run())
    end = End(backend, socket)
    try:
        yield end
    finally:
        for task in (end.running, serving):
            if task is not None:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
        await backend.close()


@asynccontextmanager
async def matched_ends(directory: Path) -> AsyncIterator[tuple[End, End]]:
    async with AsyncExitStack() as stack:
        info = await stack.enter_async_context(running_hub(hub_settings(directory, turn="off")))
        one = await stack.enter_async_context(end_at(info))
        other = await stack.enter_async_context(end_at(info))
        async with asyncio.timeout(30):
            matches = await asyncio.gather(one.match(), other.match())
        for end, matched in zip((one, other), matches, strict=True):
            end.talk(matched)
        yield one, other


def open_sockets() -> int:
    names = []
    for descriptor in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):
            names.append(os.readlink(f"/proc/self/fd/{descriptor}"))
    return sum(name.startswith("socket:") for name in names)


async def test_a_call_from_hello_to_goodbye(tmp_path: Path) -> None:
    before = len(asyncio.all_tasks())
    async with matched_ends(tmp_path) as ends:
        one, other = ends
        await until(lambda: all(end.told(Event.CONNECTED) for end in ends))
        await until(lambda: all(end.call.words is not None for end in ends))
        assert one.call.words == other.call.words
        assert all(end.news[0] == Tell(Event.MATCHED_TALK) for end in ends)
        assert all(isinstance(end.news[-1], WordsKnown | Tell) for end in ends)
        # Silence keeps each side sure of the other; it comes by the loop, since no sound thread asks.
        await until(lambda: all(len(end.heard) > 3 for end in ends))
        one.call.end(EndReason.HUNG_UP)
        await one.ended()
        await until(lambda: Tell(Event.PEER_BYE, EndReason.HUNG_UP) in other.news)
        other.call.end(EndReason.PEER_HUNG_UP)
        await other.ended()
        assert one.call.refused() == other.call.refused() == {}
        assert one.call.stats() is None, "the connection is gone"
    await until(lambda: len(asyncio.all_tasks()) <= before)


async def test_a_connection_that_is_closed_under_it_is_replaced(tmp_path: Path) -> None:
    async with matched_ends(tmp_path) as ends:
        await until(lambda: all(end.told(Event.CONNECTED) for end in ends))
        one, other = ends
        sockets = open_sockets()
        one.call.path.drop(0)
        await until(lambda: one.told(Event.PATH_LOST) + other.told(Event.PATH_LOST) > 0)
        await until(lambda: max(end.told(Event.CONNECTED) for end in ends) > 1)
        heard = len(one.heard), len(other.heard)
        await until(lambda: len(one.heard) > heard[0] and len(other.heard) > heard[1])
        await until(lambda: open_sockets() <= sockets)  # the old connections are closed, both of them


async def test_a_session_that_is_cancelled_says_goodbye_all_the_same(tmp_path: Path) -> None:
    async with matched_ends(tmp_path) as (one, other):
        await until(lambda: one.told(Event.CONNECTED) + other.told(Event.CONNECTED) == 2)
        assert one.running is not None
        one.running.cancel()
        await one.ended()
        await until(lambda: Tell(Event.PEER_BYE, EndReason.SHUTDOWN) in other.news)


async def test_a_session_that_ends_early_waits_a_moment_for_the_other_side(
    tmp_path: Path,
) -> None:
    async with matched_ends(tmp_path) as (one, other):
        one.call.end(EndReason.TURN_UNAUTHORIZED)
        await one.ended()
        await until(lambda: Tell(Event.PEER_BYE, EndReason.TURN_UNAUTHORIZED) in other.news)
