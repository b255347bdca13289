"""Whoever carries the signaling, and is not on our side: it reads, changes, invents and withholds.

One rule: it has everything a hub has (every request, every message, the TURN credentials) and nothing
more, so that what the devices resist here they resist from their own hub.

`HostileCarrier` stands between the devices and a real hub as an HTTP and WebSocket proxy; `Middle` uses
one to sit in the middle of a call, with a DTLS connection of its own to each end.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import field, replace
from typing import Any, Self, cast

import aiohttp
from aiohttp import web

from voicemeet_edge.backend.verbs import MatchedReply, Slot, WaitingReply, parse_match_reply
from voicemeet_edge.call.commands import Command, MakeAnswer, MakeOffer, Publish, TakeAnswer
from voicemeet_edge.call.conversation import Conversation
from voicemeet_edge.call.negotiation import Kind
from voicemeet_edge.call.session import to_ice_servers
from voicemeet_edge.choices import IcePolicy
from voicemeet_edge.errors import FrameError, VoiceMeetError
from voicemeet_edge.records import dataclass
from voicemeet_edge.signaling.channel import TOPIC_PREFIX, ChannelState
from voicemeet_edge.signaling.frames import (
    MAX_FRAME_BYTES,
    Broadcast,
    PhoenixFrame,
    Version,
    broadcast_of,
    broadcast_payload,
    decode,
    encode,
)
from voicemeet_edge.signaling.sealed import NoSeal
from voicemeet_edge.voice.packet import RtpAudio
from voicemeet_edge.webrtc.events import PeerEvent
from voicemeet_edge.webrtc.options import PeerOptions
from voicemeet_edge.webrtc.peer import Peer, new_certificate

CALL_TOPIC = TOPIC_PREFIX + "call:"
MAX_RECORD = 50_000  # pieces remembered; a call has a few hundred
FORWARDED = ("apikey", "authorization", "content-type")  # headers a verb needs
Payload = dict[str, object]


@dataclass(eq=False)
class DeviceSocket:
    """The WebSocket of one device."""

    socket: web.WebSocketResponse
    version: Version
    slot: str = ""
    """Which end of the call it is; known once it said something there."""
    topic: str = ""
    said: list[tuple[str, Payload]] = field(default_factory=list)
    """What the device said in calls, in order: event, payload."""

    async def tell(self, event: str, payload: Payload) -> None:
        """Make the device believe that the other end said this."""
        broadcast = broadcast_payload(Broadcast(event, payload))
        await self.send(encode(PhoenixFrame(None, None, self.topic, "broadcast", broadcast), self.version))

    async def send(self, data: str | bytes) -> None:
        """Send a frame as it is; a device that is gone misses it."""
        with contextlib.suppress(ConnectionError, RuntimeError):
            await (self.socket.send_str(data) if isinstance(data, str) else self.socket.send_bytes(data))


Tamper = Callable[[DeviceSocket, str, Payload], Iterable[tuple[str, Payload]]]
"""To whom, event, payload: what is delivered instead."""


def faithful(_line: DeviceSocket, event: str, payload: Payload) -> Iterable[tuple[str, Payload]]:
    """Deliver what was said."""
    return ((event, payload),)


class HostileCarrier:
    """A proxy before a hub on this machine; use as an async context manager."""

    def __init__(self, hub_url: str) -> None:
        self.tamper: Tamper = faithful
        self.on_said: Callable[[DeviceSocket, str, Payload], None] = lambda _line, _event, _payload: None
        self.record: list[bytes] = []
        """Everything that went through, verbs and frames, both ways."""
        self.matches: list[MatchedReply] = []
        self.lines: list[DeviceSocket] = []
        self._hub_url = hub_url.rstrip("/")
        self._client: aiohttp.ClientSession | None = None
        self._runner: web.AppRunner | None = None
        self.url = ""

    async def __aenter__(self) -> Self:
        self._client = aiohttp.ClientSession()
        app = web.Application()
        app.router.add_post("/functions/v1/voicemeet/{verb}", self._verb)
        app.router.add_get("/realtime/v1/websocket", self._websocket)
        app.on_shutdown.append(self._hang_up)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=2.0)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
        if self._client is not None:
            await self._client.close()

    def line(self, slot: str) -> DeviceSocket:
        """Return the newest line of this end of a call."""
        return next(line for line in reversed(self.lines) if line.slot == slot)

    def match(self, slot: str) -> MatchedReply:
        """Return what the newest match told this end."""
        return next(match for match in reversed(self.matches) if match.slot == slot)

    def remember(self, data: str | bytes) -> None:
        """Write down what went through."""
        if len(self.record) < MAX_RECORD:
            self.record.append(data.encode() if isinstance(data, str) else data)

    async def _hang_up(self, _app: web.Application) -> None:
        for line in self.lines:
            await line.socket.close()

    async def _verb(self, request: web.Request) -> web.Response:
        assert self._client is not None
        body = await request.read()
        headers = {name: request.headers[name] for name in FORWARDED if name in request.headers}
        async with self._client.post(self._hub_url + request.path, data=body, headers=headers) as answer:
            reply = await answer.read()
            status, retry = answer.status, answer.headers.get("Retry-After")
        self.remember(body)
        self.remember(json.dumps(headers))
        self.remember(reply)
        if request.match_info["verb"] == "match" and status == 200:
            matched: MatchedReply | WaitingReply = parse_match_reply(json.loads(reply))
            if isinstance(matched, MatchedReply):
                self.matches.append(matched)
        more = {"Retry-After": retry} if retry else {}
        return web.Response(status=status, body=reply, content_type="application/json", headers=more)

    async def _websocket(self, request: web.Request) -> web.StreamResponse:
        assert self._client is not None
        down = web.WebSocketResponse(max_msg_size=MAX_FRAME_BYTES, compress=False)
        await down.prepare(request)
        self.remember(request.path_qs)
        line = DeviceSocket(down, Version(request.query.get("vsn", Version.V1.value)))
        self.lines.append(line)
        async with self._client.ws_connect(
            self._hub_url + request.path_qs, max_msg_size=MAX_FRAME_BYTES
        ) as up:
            pumps = [asyncio.create_task(self._up(line, up)), asyncio.create_task(self._down(line, up))]
            try:
                await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for pump in pumps:
                    pump.cancel()
                await asyncio.gather(*pumps, return_exceptions=True)
        await down.close()
        return down

    async def _up(self, line: DeviceSocket, hub: aiohttp.ClientWebSocketResponse) -> None:
        async for message in line.socket:
            data = _data(message)
            self.remember(data)
            frame = _call_frame(data, line.version)
            said = broadcast_of(frame) if frame is not None else None
            if frame is not None and said is not None and isinstance(said.payload, dict):
                line.topic, line.slot = frame.topic, str(said.payload.get("slot"))
                line.said.append((said.event, said.payload))
                self.on_said(line, said.event, said.payload)
            await (hub.send_str(data) if isinstance(data, str) else hub.send_bytes(data))

    async def _down(self, line: DeviceSocket, hub: aiohttp.ClientWebSocketResponse) -> None:
        async for message in hub:
            data = _data(message)
            self.remember(data)
            frame = _call_frame(data, line.version)
            told = broadcast_of(frame) if frame is not None else None
            if told is None or not isinstance(told.payload, dict):
                await line.send(data)
                continue
            for event, payload in self.tamper(line, told.event, told.payload):
                line.topic = line.topic or (frame.topic if frame is not None else "")
                await line.tell(event, payload)


def _data(message: aiohttp.WSMessage) -> str | bytes:
    return cast("str | bytes", message.data)


def _call_frame(data: str | bytes, version: Version) -> PhoenixFrame | None:
    """Return a frame of a call's topic."""
    try:
        frame = decode(data, version)
    except FrameError:
        return None
    return frame if frame.topic.startswith(CALL_TOPIC) else None


def swap_fingerprint(sdp: str, fingerprint: str) -> str:
    """Return a description that promises another certificate (upper case hex with colons)."""
    lines = [
        f"a=fingerprint:sha-256 {fingerprint}" if line.startswith("a=fingerprint:") else line
        for line in sdp.split("\r\n")
    ]
    return "\r\n".join(lines)


class FalseEnd:
    """Plays the other end of the call for one device: its messages, its words, its own certificate."""

    def __init__(self, line: DeviceSocket, grant: MatchedReply) -> None:
        slot: Slot = "b" if grant.slot == "a" else "a"
        self.other: FalseEnd | None = None
        self.relayed = 0
        """Opus frames that were readable here, in the middle, and passed on."""
        self.events: list[PeerEvent] = []
        self.errors: list[VoiceMeetError] = []
        self._line = line
        certificate = new_certificate()
        self._conversation = Conversation(replace(grant, slot=slot), Kind.MEET, NoSeal(), certificate.sha256)
        servers = to_ice_servers(grant.ice_servers)
        self._peer = Peer(
            PeerOptions(ice_servers=servers, policy=IcePolicy.RELAY, ipv6=False),
            on_rtp=self._pass_on,
            on_event=self.events.append,
            certificate=certificate,
        )
        self._tasks: set[asyncio.Task[None]] = set()
        self._speaking = asyncio.Lock()
        self._execute(self._conversation.start(time.monotonic()))
        self._execute(self._conversation.channel_changed(ChannelState.JOINED, time.monotonic()))

    @property
    def refusals(self) -> int:
        """Messages of the device that could not be understood: sealed ones."""
        return self._conversation.refused().get("unsealed", 0)

    def hear(self, event: str, payload: Payload) -> None:
        """Take what the device said."""
        self._execute(self._conversation.receive(event, payload, time.monotonic()))

    def _pass_on(self, packet: RtpAudio) -> None:
        if self.other is not None:
            self.relayed += 1
            self.other._peer.send(packet.payload, packet.timestamp)

    def _execute(self, commands: list[Command]) -> None:
        for command in commands:
            match command:
                case Publish():
                    self._spawn(self._say(command))
                case MakeOffer():
                    self._spawn(self._describe(command.attempt, self._peer.create_offer()))
                case MakeAnswer():
                    self._spawn(self._describe(command.attempt, self._peer.create_answer(command.sdp)))
                case TakeAnswer():
                    self._spawn(self._peer.accept_answer(command.sdp))
                case _:
                    pass  # whatever the device does, this end goes on

    async def _say(self, message: Publish) -> None:
        async with self._speaking:  # in order: the words' exchange is refused out of it
            await self._line.tell(message.event, message.payload)

    async def _describe(self, attempt: int, making: Coroutine[Any, Any, str]) -> None:
        self._execute(self._conversation.described(attempt, await making, time.monotonic()))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        async def guarded() -> None:
            # Everything a device does against us may be: it ends this end, not the test.
            try:
                await work
            except VoiceMeetError as error:
                self.errors.append(error)

        task = asyncio.create_task(guarded())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Free everything."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._peer.close()


class Middle:
    """Sits in a call: withholds what the ends say to each other and plays the other one to each."""

    def __init__(self, carrier: HostileCarrier) -> None:
        self.ends: dict[str, FalseEnd] = {}
        """By the slot of the device it talks to."""
        self._carrier = carrier
        carrier.tamper = lambda _line, _event, _payload: ()
        carrier.on_said = self._said

    def _said(self, line: DeviceSocket, event: str, payload: Payload) -> None:
        end = self.ends.get(line.slot)
        if end is None:
            end = self.ends[line.slot] = FalseEnd(line, self._carrier.match(line.slot))
            if len(self.ends) == 2:
                first, second = self.ends.values()
                first.other, second.other = second, first
        end.hear(event, payload)

    async def close(self) -> None:
        """Free everything."""
        for end in self.ends.values():
            await end.close()
