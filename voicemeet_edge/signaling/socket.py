"""The one WebSocket to Realtime, and the handles of the channels on it.

Rule: it connects and reconnects for ever and never asks anybody; what a channel does about it is
decided in `channel.py`, when to try again in `reconnect.py`. The URL holds the apikey: it is
never logged, nor is any library given a logger that would.
"""

from __future__ import annotations

import asyncio
import enum
import logging
import ssl as ssl_module
from collections.abc import Callable, Coroutine
from typing import Any
from urllib.parse import urlencode, urlsplit, urlunsplit

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus

from voicemeet_edge.errors import FrameError, OurError, SignalingError
from voicemeet_edge.secret import Secret
from voicemeet_edge.signaling import frames
from voicemeet_edge.signaling.channel import (
    PUSH_TIMEOUT_S,
    TOPIC_PREFIX,
    BroadcastReceived,
    Channel,
    ChannelState,
    PushDone,
    PushFailed,
    Refs,
    StateChanged,
    Step,
)
from voicemeet_edge.signaling.frames import Frame, Version
from voicemeet_edge.signaling.heartbeat import INTERVAL_S, TOPIC, Heartbeat
from voicemeet_edge.signaling.reconnect import Backoff
from voicemeet_edge.timeouts import timeout

logger = logging.getLogger(__name__)

PATH = "/realtime/v1/websocket"
OPEN_TIMEOUT_S = 10.0  # seconds for DNS, TCP, TLS and the upgrade together
CLOSE_TIMEOUT_S = 1.0  # seconds for the closing handshake; a cancelled device must not hang on a dead peer
CHECK_TIMEOUT_S = 2.0  # seconds; a living server answers a heartbeat within a round trip
SEND_QUEUE = 128  # frames; more waiting than this means that the connection is stuck
# These mean that the channel lost the push, not that anybody refused it. Sending again is safe: the
# receiver's inbox takes each sequence number once.
_REPEATABLE = frozenset({"not_joined", "disconnected", "channel_error", "channel_closed", "unmatched_topic"})

# websockets writes the request line, with the apikey in it, to its logger at DEBUG.
_wire_logger = logging.getLogger(f"{__name__}.wire")
_wire_logger.setLevel(logging.CRITICAL)
_wire_logger.propagate = False
_wire_logger.addHandler(logging.NullHandler())


class SocketState(enum.Enum):
    """Whether the socket is open; channels have states of their own."""

    DOWN = enum.auto()
    UP = enum.auto()


class _LostError(Exception):
    """This connection is over; the text is a word for the log."""


def realtime_url(base: str) -> str:
    """Turn the backend's base URL (https://host[/path]) into its Realtime URL (wss://…)."""
    parts = urlsplit(base)
    schemes = {"https": "wss", "http": "ws", "wss": "wss", "ws": "ws"}
    if parts.scheme not in schemes or not parts.hostname:
        raise OurError("backend URL is neither http nor https", code="bad_url")
    path = parts.path.rstrip("/")
    if not path.endswith("/websocket"):
        path += PATH
    return urlunsplit((schemes[parts.scheme], parts.netloc, path, "", ""))


class ChannelHandle:
    """A channel as its owner holds it; made by `RealtimeSocket.channel`."""

    def __init__(
        self,
        socket: RealtimeSocket,
        channel: Channel,
        on_broadcast: Callable[[str, dict[str, object]], None],
        on_state: Callable[[ChannelState], None],
    ) -> None:
        self._socket = socket
        self._channel = channel
        self._on_broadcast = on_broadcast
        self._on_state = on_state
        self._answers: dict[str, asyncio.Future[PushFailed | None]] = {}
        self._changed = asyncio.Event()
        self._code = ""

    @property
    def state(self) -> ChannelState:
        """Where the channel is."""
        return self._channel.state

    async def joined(self, timeout_s: float) -> None:
        """Wait until joined.

        Raises:
            SignalingError: refused, left, the token is not good any more, or the time is over.
        """
        try:
            async with timeout(timeout_s):
                await self._until_joined(is_token_awaited=False)
        except TimeoutError:
            raise SignalingError("join took too long", code="join_timeout") from None

    async def send(self, event: str, payload: dict[str, object], timeout_s: float) -> None:
        """Broadcast to the other members and wait until the server has it.

        A push that is lost with the connection is repeated after the rejoin, within the time.

        Raises:
            SignalingError: refused, never acknowledged, or the time is over.
        """
        try:
            async with timeout(timeout_s):
                while True:
                    await self._until_joined(is_token_awaited=True)
                    failure = await self._push(event, payload)
                    if failure is None:
                        return
                    if failure.code not in _REPEATABLE:
                        raise SignalingError(
                            "broadcast was not taken", code=failure.code, fatal=not failure.retryable
                        )
        except TimeoutError:
            raise SignalingError("broadcast was not acknowledged", code="push_timeout") from None

    async def set_token(self, token: Secret) -> None:
        """Use this token from now on; rejoins when the server had closed the channel."""
        self._apply(self._channel.set_token(token, _now()))

    async def leave(self) -> None:
        """Leave for good; idempotent."""
        self._socket._forget(self)
        self._apply(self._channel.leave())

    async def _until_joined(self, *, is_token_awaited: bool) -> None:
        while self._channel.state is not ChannelState.JOINED:
            state = self._channel.state
            is_final = state in (ChannelState.REFUSED, ChannelState.CLOSED)
            if is_final or (state is ChannelState.TOKEN_WANTED and not is_token_awaited):
                raise SignalingError("channel is not joined", code=self._code or "closed", fatal=is_final)
            self._changed.clear()
            await self._changed.wait()

    async def _push(self, event: str, payload: dict[str, object]) -> PushFailed | None:
        ref, step = self._channel.push(event, payload, _now())
        answer: asyncio.Future[PushFailed | None] = asyncio.get_running_loop().create_future()
        self._answers[ref] = answer
        try:
            self._apply(step)
            return await answer
        except FrameError as error:
            raise SignalingError(str(error), code="too_large", fatal=True) from None
        finally:
            del self._answers[ref]
            self._channel.forget(ref)

    def _apply(self, step: Step) -> None:
        """Send what a step wants sent, tell what it wants told."""
        self._socket._post(step.frames)
        for event in step.events:
            match event:
                case StateChanged():
                    self._code = event.code
                    logger.debug("channel is %s %s", event.state.name, event.code)
                    self._changed.set()
                    self._tell_state(event.state)
                case BroadcastReceived():
                    self._tell_broadcast(event)
                case PushDone():
                    self._answer(event.ref, None)
                case PushFailed():
                    self._answer(event.ref, event)

    def _answer(self, ref: str, failure: PushFailed | None) -> None:
        answer = self._answers.get(ref)
        if answer is not None and not answer.done():
            answer.set_result(failure)

    def _tell_state(self, state: ChannelState) -> None:
        try:
            self._on_state(state)
        except Exception:  # the owner's bug must not end the socket for the other channels
            logger.exception("on_state failed")

    def _tell_broadcast(self, event: BroadcastReceived) -> None:
        if isinstance(event.payload, bytes):
            logger.debug("binary broadcast dropped")  # no message of ours is binary
            return
        try:
            self._on_broadcast(event.event, event.payload)
        except Exception:  # as above; what a peer sends must not either
            logger.exception("on_broadcast failed")


class RealtimeSocket:
    """One connection for the device's whole life; calls come and go as channels on it."""

    def __init__(
        self,
        url: str,
        apikey: Secret,
        *,
        ssl: ssl_module.SSLContext | None = None,
        on_state: Callable[[SocketState], None] | None = None,
        heartbeat_s: float = INTERVAL_S,
        push_timeout_s: float = PUSH_TIMEOUT_S,
        backoff: Backoff | None = None,
    ) -> None:
        """Prepare; `run` connects.

        Args:
            url: the backend's base URL, or the full wss:// URL of Realtime.
            apikey: goes into the query, as Realtime wants it.
            ssl: the context for wss; None takes the system's certificates.
            on_state: told on the loop when the socket opens and is lost.
            heartbeat_s: seconds between heartbeats, and what each reply may take.
        """
        self._url = realtime_url(url)
        self._apikey = apikey
        # Made once: loading the system's certificates reads files, which has no place on the loop.
        is_secure = self._url.startswith("wss:")
        self._ssl = (ssl or ssl_module.create_default_context()) if is_secure else None
        self._on_state = on_state
        self._heartbeat_s = heartbeat_s
        self._push_timeout_s = push_timeout_s
        self._backoff = backoff or Backoff()
        self._refs = Refs()
        self._handles: dict[str, ChannelHandle] = {}
        self._queue: asyncio.Queue[str | bytes] | None = None
        self._heartbeat: Heartbeat | None = None
        self._is_stuck = False
        self._wake = asyncio.Event()
        self._hint = asyncio.Event()
        self.state = SocketState.DOWN
        self.dropped = 0
        """Frames that were none, or belong to no channel."""

    def channel(
        self,
        topic: str,
        token: Secret,
        *,
        on_broadcast: Callable[[str, dict[str, object]], None],
        on_state: Callable[[ChannelState], None],
        private: bool = True,
    ) -> ChannelHandle:
        """Join a topic (without the `realtime:` prefix), now or as soon as the socket is up."""
        if TOPIC_PREFIX + topic in self._handles:
            raise OurError("topic is already joined", code="duplicate_topic")
        channel = Channel(topic, token, self._refs, private=private, push_timeout_s=self._push_timeout_s)
        handle = ChannelHandle(self, channel, on_broadcast, on_state)
        self._handles[channel.topic] = handle
        if self.state is SocketState.UP:
            handle._apply(channel.connected(_now()))
        return handle

    def network_back(self) -> None:
        """Take the hint that the network is there again: try at once instead of waiting."""
        self._backoff.network_back(_now())
        self._hint.set()

    def check_network(self) -> None:
        """Take the hint that the network may be gone: ask the server now, and reconnect without waiting.

        A dead TCP connection says nothing for a long time; a call that lost its path cannot wait for it.
        """
        if self._heartbeat is None:
            self.network_back()
        elif (beat := self._heartbeat.hurry(_now(), CHECK_TIMEOUT_S)) is not None:
            self._post([beat])
        self._wake.set()

    async def run(self) -> None:
        """Connect and reconnect for ever; cancel to stop. Leaves no task behind."""
        try:
            while True:
                is_hard = await self._connect_once()
                wait_s = self._backoff.failed(_now(), hard=is_hard)
                # One line says that it is gone; a night without network must not fill the journal.
                level = logging.WARNING if self._backoff.failures == 1 else logging.DEBUG
                logger.log(level, "no connection to the backend; next attempt in %.1f s", wait_s)
                await self._wait()
        finally:
            for handle in list(self._handles.values()):
                handle._apply(handle._channel.leave())
            self._handles.clear()

    async def _connect_once(self) -> bool:
        """Serve one connection until it is lost; says whether the server refused us outright."""
        query = urlencode({"apikey": self._apikey.reveal(), "vsn": Version.V2.value})
        try:
            async with connect(
                f"{self._url}?{query}",
                ssl=self._ssl,
                compression=None,  # a sealed payload does not shrink, and its length must not talk
                user_agent_header=None,
                proxy=None,  # the way out is a setting, not an environment variable
                open_timeout=OPEN_TIMEOUT_S,
                ping_interval=None,  # the Phoenix heartbeat looks further than the next proxy
                close_timeout=CLOSE_TIMEOUT_S,
                max_size=frames.MAX_FRAME_BYTES,
                max_queue=SEND_QUEUE,
                logger=_wire_logger,
            ) as connection:
                await self._serve(connection)
        except InvalidStatus as error:
            status = error.response.status_code
            logger.debug("the backend refused the socket with status %d", status)
            return status in (401, 403, 429)
        except (OSError, InvalidHandshake, ConnectionClosed) as error:
            # The class only: the text of an OSError holds the address.
            logger.debug("connecting failed: %s", type(error).__name__)
        return False

    async def _serve(self, connection: ClientConnection) -> None:
        now = _now()
        self._queue = asyncio.Queue(SEND_QUEUE)
        self._heartbeat = Heartbeat(self._refs, self._heartbeat_s, now)
        self._is_stuck = False
        self._backoff.succeeded(now)
        self._become(SocketState.UP)
        try:
            for handle in list(self._handles.values()):
                handle._apply(handle._channel.connected(_now()))
            await _until_one_fails(
                self._read(connection),
                self._write(connection, self._queue),
                self._keep_time(self._heartbeat),
            )
        except _LostError as error:
            logger.debug("connection lost: %s", error)
        finally:
            self._queue = None
            self._heartbeat = None
            self._become(SocketState.DOWN)
            for handle in list(self._handles.values()):
                handle._apply(handle._channel.disconnected(_now()))

    async def _read(self, connection: ClientConnection) -> None:
        try:
            async for message in connection:
                try:
                    self._dispatch(frames.decode(message, Version.V2))
                except FrameError:
                    self.dropped += 1
        except ConnectionClosed:
            pass
        raise _LostError("closed")

    async def _write(self, connection: ClientConnection, queue: asyncio.Queue[str | bytes]) -> None:
        try:
            while True:
                await connection.send(await queue.get())
        except ConnectionClosed:
            raise _LostError("closed while sending") from None

    async def _keep_time(self, heartbeat: Heartbeat) -> None:
        """Sleep until the next deadline of any channel or of the heartbeat."""
        while True:
            self._wake.clear()
            now = _now()
            if (beat := heartbeat.tick(now)) is not None:
                self._post([beat])
            if heartbeat.is_dead:
                raise _LostError("heartbeat was not answered")
            deadline = heartbeat.deadline
            for handle in list(self._handles.values()):
                due = handle._channel.deadline
                if due is not None and due <= now:
                    handle._apply(handle._channel.tick(now))
                    due = handle._channel.deadline
                deadline = min(deadline, deadline if due is None else due)
            if self._is_stuck:
                raise _LostError("send queue is full")
            try:
                async with timeout(max(0.0, deadline - _now())):
                    await self._wake.wait()
            except TimeoutError:
                pass  # the deadline itself

    async def _wait(self) -> None:
        while (deadline := self._backoff.deadline) is not None and deadline > _now():
            self._hint.clear()
            try:
                async with timeout(deadline - _now()):
                    await self._hint.wait()
            except TimeoutError:
                return

    def _dispatch(self, frame: Frame) -> None:
        if frame.topic == TOPIC and self._heartbeat is not None:
            self._heartbeat.receive(frame)
            return
        handle = self._handles.get(frame.topic)
        if handle is None:
            self.dropped += 1
            return
        handle._apply(handle._channel.receive(frame, _now()))

    def _post(self, step_frames: list[Frame]) -> None:
        """Queue frames for the writer; what is not sent before the connection goes is lost."""
        for frame in step_frames:
            data = frames.encode(frame, Version.V2)
            if self._queue is None:
                return
            try:
                self._queue.put_nowait(data)
            except asyncio.QueueFull:
                self._is_stuck = True
        self._wake.set()  # deadlines may have moved

    def _forget(self, handle: ChannelHandle) -> None:
        if self._handles.get(handle._channel.topic) is handle:
            del self._handles[handle._channel.topic]

    def _become(self, state: SocketState) -> None:
        self.state = state
        if state is SocketState.UP:
            logger.info("connected to the backend")
        if self._on_state is not None:
            try:
                self._on_state(state)
            except Exception:  # the owner's bug must not end the connection
                logger.exception("on_state failed")


async def _until_one_fails(*work: Coroutine[Any, Any, None]) -> None:
    """Run these side by side until one fails, end the others, and raise what it raised.

    Not a TaskGroup: up to Python 3.12 one whose child failed leaves this task marked as cancelled, and this
    task lives on; libraries' timeouts in it would then end it.
    """
    tasks = [asyncio.create_task(one) for one in work]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _now() -> float:
    return asyncio.get_running_loop().time()
