"""A call of the device with itself: through backend, signaling and relay, with speech that is scored.

One rule: it is a real call with every part of one but the card. Two parties with tokens of their own meet in
a pool whose name nobody else knows, over the relay where there is one; the second sends back what it hears.
No microphone is open, and nobody is rung.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from functools import partial
from typing import cast

import numpy as np

from voicemeet_edge.audio.call_audio import CallAudio
from voicemeet_edge.audio.codec import OpusCodec
from voicemeet_edge.audio.likeness import Likeness, compare
from voicemeet_edge.backend.client import Backend
from voicemeet_edge.backend.pin import tls_context
from voicemeet_edge.backend.tokens import DeviceTokens
from voicemeet_edge.backend.verbs import SELF_TEST_POOL, MatchedReply, Role
from voicemeet_edge.build import intercom_keys, peer_options, silence_frame, turn_memory
from voicemeet_edge.call.commands import Tell
from voicemeet_edge.call.machine import Event
from voicemeet_edge.call.negotiation import Kind
from voicemeet_edge.call.search import Search, SearchTarget
from voicemeet_edge.call.session import CallSession, News, SessionParts, to_ice_servers
from voicemeet_edge.call_maker import load_call_parts
from voicemeet_edge.choices import IcePolicy, RelayProtocol
from voicemeet_edge.errors import MediaError
from voicemeet_edge.reasons import EndReason
from voicemeet_edge.records import dataclass
from voicemeet_edge.settings import Settings
from voicemeet_edge.signaling.sealed import make_envelope
from voicemeet_edge.signaling.socket import RealtimeSocket
from voicemeet_edge.testing.signals import speech_like
from voicemeet_edge.timeouts import timeout
from voicemeet_edge.voice.control import LineMemory
from voicemeet_edge.voice.format import FRAME_BYTES, FRAME_SAMPLES, SAMPLE_RATE, Samples
from voicemeet_edge.voice.packet import RtpAudio
from voicemeet_edge.webrtc.ice_server import IceServer, TurnMemory
from voicemeet_edge.webrtc.turn import RelayTransport, allocate_relay

MEET_LIMIT_S = 15.0  # s for the two to find each other
SET_UP_LIMIT_S = 20.0  # s until voice flows
SPEECH_S = 4.0  # s of speech
TAIL_S = 1.0  # s after it, in which the last of it comes back
END_LIMIT_S = 6.0  # s for goodbyes
PACKET_LIMIT_S = 3.0  # s for a packet through the relay; it is sent again meanwhile
AGAIN_S = 0.2  # s


@dataclass(frozen=True, slots=True)
class EchoCall:
    """What came of it."""

    relayed: bool
    set_up_s: float
    """From the match to the first connected path."""
    likeness: Likeness
    """Of the speech that came back; its delay is both ways, and both ends' waiting."""
    loss: float
    """Share of the frames that did not come back, 0 to 1."""
    words_agree: bool
    """Both ends computed the same check words."""


@dataclass(frozen=True, slots=True)
class Pair:
    """Two parties of this device that were matched with each other, and what they speak through."""

    replies: tuple[MatchedReply, MatchedReply]
    sockets: tuple[RealtimeSocket, RealtimeSocket]
    backend: Backend

    @property
    def servers(self) -> tuple[tuple[IceServer, ...], tuple[IceServer, ...]]:
        """Each party's servers; none have a user name where there is no relay."""
        first, second = self.replies
        return to_ice_servers(first.ice_servers), to_ice_servers(second.ice_servers)

    @property
    def has_relay(self) -> bool:
        """Whether the backend gives a relay at all."""
        return any(server.username for server in self.servers[0])


@contextlib.asynccontextmanager
async def paired(settings: Settings) -> AsyncIterator[Pair]:
    """Let two parties meet; whatever becomes of them, both have left at the end.

    Raises:
        BackendError: the backend refuses.
        TimeoutError: they did not meet.
    """
    target = SearchTarget(f"{SELF_TEST_POOL}{secrets.token_hex(10)}", Role.EITHER)
    at = settings.backend
    tls = tls_context(at.tls_pin) if at.url.startswith("https") else None
    backend = Backend(at.url, at.apikey, tls=tls)
    tokens = [DeviceTokens(backend, shown_pass=at.pass_) for _ in range(2)]
    # A socket each: a topic has one member on a connection.
    sockets = [
        RealtimeSocket(
            at.url, at.apikey, ssl=tls, device_token=partial(getattr, one, "current"), before=one.get
        )
        for one in tokens
    ]
    running = [asyncio.create_task(socket.run()) for socket in sockets]
    try:
        searches = [Search(backend, own, socket, target) for own, socket in zip(tokens, sockets, strict=True)]
        async with timeout(MEET_LIMIT_S):
            first, second = await _both(searches)
        yield Pair((first, second), (sockets[0], sockets[1]), backend)
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        await backend.close()


async def _both(searches: Sequence[Search]) -> tuple[MatchedReply, MatchedReply]:
    tasks = [asyncio.create_task(search.find()) for search in searches]
    try:
        first, second = await asyncio.gather(*tasks)
        return first, second
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class _Party:
    """One end of the call."""

    def __init__(self, pair: Pair, index: int, settings: Settings) -> None:
        matched = pair.replies[index]
        policy = IcePolicy.RELAY if pair.has_relay else settings.ice_policy_for_pool
        options = replace(peer_options(settings, turn_memory(settings), LineMemory()), policy=policy)
        self.connected = asyncio.Event()
        self.ended = asyncio.Event()
        self.reason = EndReason.FAILED
        self.audio: CallAudio | None = None
        from voicemeet_edge.webrtc.peer import new_certificate  # only here: see call_maker.load_call_parts

        parts = SessionParts(
            pair.backend,
            pair.sockets[index],
            make_envelope(intercom_keys(settings), matched.call_id, matched.slot),
            options,
            new_certificate(),
            silence_frame(settings),
        )
        self.session = CallSession(matched, Kind.MEET, parts, on_news=self._news, on_rtp=self._heard)
        self.returns = index == 1
        """It sends back what it hears."""

    def _news(self, news: News) -> None:
        if isinstance(news, Tell) and news.event is Event.CONNECTED:
            self.connected.set()
        elif isinstance(news, Tell) and news.event in (Event.FAILED, Event.PEER_BYE):
            self.reason = news.reason
            self.ended.set()
            self.connected.set()

    def _heard(self, packet: RtpAudio) -> None:
        """What comes on the loop, over TCP and TLS, is taken as what is asked for."""
        self.take([packet])

    def take(self, packets: Sequence[RtpAudio]) -> None:
        """Take packets in, or send them back."""
        for packet in packets:
            if self.returns:
                self.session.path.send(packet.payload, packet.timestamp, red=packet.red)
            elif self.audio is not None:
                self.audio.receive(packet, time.monotonic())


async def call_oneself(settings: Settings, pair: Pair) -> EchoCall:
    """Call, speak, listen, hang up.

    Raises:
        MediaError: the two did not reach each other; its code is the reason the call ended with.
    """
    await asyncio.to_thread(load_call_parts)  # the loop has its sockets to serve meanwhile
    near, far = (_Party(pair, index, settings) for index in range(2))
    begun = time.monotonic()
    running = [asyncio.create_task(party.session.run()) for party in (near, far)]
    try:
        async with timeout(SET_UP_LIMIT_S):
            await near.connected.wait()
            await far.connected.wait()
        for party in (near, far):
            if party.ended.is_set():
                raise MediaError("the call with itself did not come about", code=party.reason.value)
        set_up_s = time.monotonic() - begun
        said = speech_like(SPEECH_S, seed=7)
        heard, sent = await _talk(near, far, said, OpusCodec(settings.audio))
        received = near.audio.received if near.audio is not None else 0
        words = near.session.words
        return EchoCall(
            pair.has_relay,
            set_up_s,
            compare(said, heard),
            max(0.0, 1.0 - received / max(1, sent)),
            words is not None and words == far.session.words,
        )
    except TimeoutError:
        raise MediaError("the call with itself did not come about", code="connect_timeout") from None
    finally:
        for party in (near, far):
            party.session.end(EndReason.HUNG_UP)
        _, late = await asyncio.wait(running, timeout=END_LIMIT_S)
        for task in late:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


async def _talk(near: _Party, far: _Party, said: Samples, codec: OpusCodec) -> tuple[Samples, int]:
    """Speak and hear, 20 ms at a time by the clock; returns what was heard, and how many frames were sent."""
    audio = near.audio = CallAudio(near.session.path, codec, asyncio.get_running_loop(), SAMPLE_RATE)
    begun, heard = time.monotonic(), []
    silence = bytes(FRAME_BYTES)
    frames = [
        said[at : at + FRAME_SAMPLES].tobytes().ljust(FRAME_BYTES, b"\0")
        for at in range(0, len(said), FRAME_SAMPLES)
    ]
    tail = round(TAIL_S * 50)
    try:
        for number in range(len(frames) + tail):
            await asyncio.sleep(max(0.0, begun + number / 50 - time.monotonic()))
            audio.encode(frames[number] if number < len(frames) else silence, FRAME_SAMPLES)
            far.take(far.session.path.receive())
            near.take(near.session.path.receive())
            heard += [audio.playout.pull_pcm(time.monotonic(), 1.0) for _ in range(2)]
    finally:
        audio.sender.stop()
    return np.frombuffer(b"".join(heard), np.int16), audio.sender.sent


class _Catcher(asyncio.DatagramProtocol):
    """One end of a relayed path."""

    def __init__(self) -> None:
        self.transport: RelayTransport | None = None
        self.got: asyncio.Queue[bytes] = asyncio.Queue(8)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the allocation."""
        self.transport = cast(RelayTransport, transport)

    def datagram_received(self, data: bytes, _addr: tuple[str, int]) -> None:
        """Take what comes; the queue drops what nobody waits for."""
        if not self.got.full():
            self.got.put_nowait(data)

    def media_received(self, data: bytes, addr: tuple[str, int], _arrival: float) -> None:
        """The same, of a packet that looks like voice."""
        self.datagram_received(data, addr)


async def try_rung(pair: Pair, rung: RelayProtocol) -> float:
    """Send a packet from an allocation by this way to one by UDP, or by the same way; returns the ms it took.

    Raises:
        MediaError: no allocation, or nothing came through.
    """
    ends: list[_Catcher] = []
    try:
        for servers in pair.servers:
            ends.append(await allocate_relay(_Catcher, servers, TurnMemory((rung,)), None))
        first, second = (end.transport for end in ends)
        assert first is not None
        assert second is not None
        here, there = first.get_extra_info("sockname"), second.get_extra_info("sockname")
        begun = time.monotonic()
        for _ in range(round(PACKET_LIMIT_S / AGAIN_S)):
            # Each has to speak to let the other's packets in (RFC 8656 section 9).
            first.sendto(b"from the doctor", there)
            second.sendto(b"to the doctor", here)
            with contextlib.suppress(TimeoutError):
                async with timeout(AGAIN_S):
                    await ends[1].got.get()
                    return 1000 * (time.monotonic() - begun)
        raise MediaError("nothing came through the relay", code="relay_silent")
    finally:
        for end in ends:
            if end.transport is not None:
                end.transport.close()
