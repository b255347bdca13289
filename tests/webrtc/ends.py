"""Two ends of a call for the tests: real peers, with their events and packets in lists."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

from voicemeet_edge.voice.packet import RtpAudio
from voicemeet_edge.webrtc.events import Connected, PeerEvent
from voicemeet_edge.webrtc.options import PeerOptions
from voicemeet_edge.webrtc.peer import Certificate, Peer

LOOPBACK = PeerOptions(addresses=("127.0.0.1",))
WAIT_S = 20.0  # a limit, not an expectation: the machine may stand still


class End:
    """A peer and everything it told."""

    def __init__(self, options: PeerOptions = LOOPBACK, *, certificate: Certificate | None = None) -> None:
        self.packets: list[RtpAudio] = []
        self.threads: set[int] = set()
        """Those in which packets came."""
        self.events: list[PeerEvent] = []
        self._changed = asyncio.Event()
        self._own_thread = threading.get_ident()
        self.peer = Peer(options, on_rtp=self._on_rtp, on_event=self._on_event, certificate=certificate)

    def _on_rtp(self, packet: RtpAudio) -> None:
        self.packets.append(packet)
        self.threads.add(threading.get_ident())
        if threading.get_ident() == self._own_thread:
            self._changed.set()

    def _on_event(self, event: PeerEvent) -> None:
        self.events.append(event)
        self._changed.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait for something these callbacks bring about."""
        async with asyncio.timeout(WAIT_S):
            while not condition():
                self._changed.clear()
                await self._changed.wait()

    async def event(self, kind: type[PeerEvent]) -> PeerEvent:
        """Wait for an event of this kind."""
        await self.until(lambda: any(isinstance(event, kind) for event in self.events))
        return next(event for event in self.events if isinstance(event, kind))

    async def connected(self) -> Connected:
        """Wait for the path; any other event first is a failure."""
        await self.until(lambda: bool(self.events))
        assert isinstance(self.events[0], Connected), self.events
        return self.events[0]

    async def hears(self, other: End, payload: bytes = b"voice", count: int = 1) -> None:
        """Let the other side send until `count` packets arrived here."""
        before = len(self.packets)
        timestamp = 0
        async with asyncio.timeout(WAIT_S):
            while len(self.packets) < before + count:
                other.peer.send(payload, timestamp)
                timestamp += 960
                await asyncio.sleep(0.005)

    def talk(self, count: int, other: End) -> None:
        """Send and receive as the sound threads do, in the calling one, until `count` packets came to both.

        Not only here: the other may have begun to listen later, and needs a few more of ours.
        """
        deadline = time.monotonic() + WAIT_S
        while not self._is_lent():
            assert time.monotonic() < deadline, "the loop kept the socket"
            self.peer.receive()
            time.sleep(0.001)
        self.packets.clear()
        self.threads.clear()
        timestamp = 0
        while min(len(self.packets), len(other.packets)) < count:
            assert time.monotonic() < deadline, f"{len(self.packets)} packets came"
            self.peer.send(b"voice", timestamp)
            timestamp += 960
            for packet in self.peer.receive():
                self._on_rtp(packet)
            time.sleep(0.002)

    def _is_lent(self) -> bool:
        udp = self.peer._connection._chosen_udp()
        return udp is not None and udp.is_lent


async def talk_in_threads(first: End, second: End) -> None:
    """Let both talk, each in a thread of its own, and see that the loop had no part in it."""
    async with asyncio.TaskGroup() as group:
        for end, other in ((first, second), (second, first)):
            group.create_task(asyncio.to_thread(end.talk, 50, other))
    for end in (first, second):
        assert threading.get_ident() not in end.threads
        sequences = [packet.sequence - end.packets[0].sequence & 0xFFFF for packet in end.packets]
        assert sequences == sorted(set(sequences))


async def join(caller: End, answerer: End) -> None:
    """Exchange descriptions; does not wait for the path."""
    offer = await caller.peer.create_offer()
    answer = await answerer.peer.create_answer(offer)
    await caller.peer.accept_answer(answer)


@asynccontextmanager
async def ends(
    first: PeerOptions = LOOPBACK, second: PeerOptions | None = None
) -> AsyncIterator[tuple[End, End]]:
    """Give two ends and close both, whatever happens."""
    pair = (End(first), End(replace(first) if second is None else second))
    try:
        yield pair
    finally:
        for end in pair:
            await end.peer.close()
