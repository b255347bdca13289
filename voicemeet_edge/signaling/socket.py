"""The one WebSocket to Realtime; the channels on it are held by their handles.

Rule: it connects and reconnects for ever and never asks anybody; what a channel does about it is
decided in `channel.py`, when to try again in `reconnect.py`. The URL holds the apikey: it is
never logged, nor is any library given a logger that would.

A connection may be dead without a word: a NAT forgot it, a Wi-Fi roamed, a machine slept. So it is asked
(`check_network`) whenever somebody depends on it; while the answer is late a second connection is opened
beside it, and whichever proves first that it lives is used.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import logging
import math
import ssl as ssl_module
import time
from collections.abc import Awaitable, Callable
from urllib.parse import urlencode, urlsplit, urlunsplit

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus

from voicemeet_edge.errors import BackendError, FrameError, LocalError
from voicemeet_edge.net import eyeballs
from voicemeet_edge.net.certificates import explain
from voicemeet_edge.net.faults import detail, of_os_error
from voicemeet_edge.not_connected import NotConnected, of_status
from voicemeet_edge.secret import Secret
from voicemeet_edge.signaling import frames
from voicemeet_edge.signaling.channel import (
    PUSH_TIMEOUT_S,
    TOPIC_PREFIX,
    Channel,
    ChannelState,
    Refs,
)
from voicemeet_edge.signaling.channel_handle import ChannelHandle
from voicemeet_edge.signaling.frames import PhoenixFrame, Version
from voicemeet_edge.signaling.heartbeat import INTERVAL_S, TOPIC, Heartbeat
from voicemeet_edge.signaling.reconnect import Backoff
from voicemeet_edge.timeouts import timeout, until_one_fails

logger = logging.getLogger(__name__)

PATH = "/realtime/v1/websocket"
OPEN_TIMEOUT_S = 10.0  # s for DNS, TCP, TLS and the upgrade together
CLOSE_TIMEOUT_S = 1.0  # s for the closing handshake; a cancelled device must not hang on a dead peer
CHECK_TIMEOUT_S = 2.0  # s; a living server answers a heartbeat within a round trip
SEND_QUEUE = 128  # frames; more waiting than this means that the connection is stuck

PROVE_S = 600.0  # s a connection that is not needed stays closed until it is tried again
PROOF_S = 5.0  # s such a try is kept open: long enough for a search that begins just then
REST_LOOK_S = 20.0  # s between proofs of life while it rests

# websockets writes the request line, with the apikey in it, to its logger at DEBUG.
_wire_logger = logging.getLogger(f"{__name__}.wire")
_wire_logger.setLevel(logging.CRITICAL)
_wire_logger.propagate = False
_wire_logger.addHandler(logging.NullHandler())


class SocketState(enum.Enum):
    """Whether the socket is open; channels have states of their own."""

    DOWN = enum.auto()
    UP = enum.auto()
    DOUBTED = enum.auto()
    """Open, but the server is late to answer: nothing may be promised on it."""
    RESTING = enum.auto()
    """Closed by us because nobody needs it: proven every ten minutes, and open again at the first need."""


class _RestError(Exception):
    """Nobody has needed this connection for a while."""


class _LostError(Exception):
    """This connection is over; the text is a word for the log."""


def realtime_url(base: str) -> str:
    """Turn the backend's base URL (https://host[/path]) into its Realtime URL (wss://…)."""
    parts = urlsplit(base)
    schemes = {"https": "wss", "http": "ws", "wss": "wss", "ws": "ws"}
    if parts.scheme not in schemes or not parts.hostname:
        raise LocalError("backend URL is neither http nor https", code="bad_url")
    path = parts.path.rstrip("/")
    if not path.endswith("/websocket"):
        path += PATH
    return urlunsplit((schemes[parts.scheme], parts.netloc, path, "", ""))


class _Connect(connect):
    """Follows no redirect: the address is the one in the settings, and no server may choose another."""

    def process_redirect(self, exc: Exception) -> Exception | str:
        """Give the answer back as the failure it is."""
        return exc


class RealtimeSocket:
    """One connection for the device's whole life; calls come and go as channels on it."""

    def __init__(
        self,
        url: str,
        apikey: Secret,
        *,
        ssl: ssl_module.SSLContext | None = None,
        on_state: Callable[[SocketState], None] | None = None,
        on_reason: Callable[[NotConnected | None], None] | None = None,
        heartbeat_s: float = INTERVAL_S,
        push_timeout_s: float = PUSH_TIMEOUT_S,
        backoff: Backoff | None = None,
        device_token: Callable[[], Secret | None] = lambda: None,
        before: Callable[[], Awaitable[object]] | None = None,
        rest_after_s: float | None = None,
    ) -> None:
        """Prepare; `run` connects.

        Args:
            url: the backend's base URL, or the full wss:// URL of Realtime.
            apikey: goes into the query, as Realtime wants it.
            ssl: the context for wss; None takes the system's certificates.
            on_state: told on the loop when the socket opens and is lost.
            on_reason: told when it becomes known why there is no connection, or when there is one (None).
            heartbeat_s: seconds between heartbeats, and what each reply may take.
            device_token: what the first heartbeat shows, so that the backend knows that we are no stranger.
            before: awaited before each attempt, BackendErrors ignored. A hub has few places for strangers
                behind one address: who has a token first is none when its socket comes.
            rest_after_s: seconds without a channel after which the connection is closed; None keeps it.
        """
        self._url, self._apikey = realtime_url(url), apikey
        # Made once: loading the system's certificates reads files, which has no place on the loop.
        is_secure = self._url.startswith("wss:")
        self._ssl = (ssl or ssl_module.create_default_context()) if is_secure else None
        self._on_state, self._on_reason = on_state, on_reason
        self._heartbeat_s = heartbeat_s
        self._device_token, self._before = device_token, before
        self._rest_after_s = rest_after_s
        self._push_timeout_s = push_timeout_s
        self._backoff = backoff or Backoff()
        self._refs = Refs()
        self._handles: dict[str, ChannelHandle] = {}
        self._queue: asyncio.Queue[str | bytes] | None = None
        self._heartbeat: Heartbeat | None = None
        self._is_stuck = False
        self._spare: asyncio.Task[ClientConnection] | None = None  # beside a connection in doubt
        self._opening: asyncio.Task[ClientConnection] | None = None
        self._why = self._warned = ""
        self.not_connected: NotConnected | None = None
        """Why there is no connection, as far as is known; None while there is one."""
        self._wake = asyncio.Event()
        self._hint = asyncio.Event()
        self.state = SocketState.DOWN
        self.alive_at: float | None = None
        """When it last tried to connect or looked at its deadlines (monotonic); None before `run`.

        It moves on at least every 40 s (the longest back-off, or a slow connect), network or not.
        """
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
            raise LocalError("topic is already joined", code="duplicate_topic")
        channel = Channel(topic, token, self._refs, private=private, push_timeout_s=self._push_timeout_s)
        handle = ChannelHandle(channel, self._post, self._forget, on_broadcast, on_state)
        self._handles[channel.topic] = handle
        if self.state not in (SocketState.DOWN, SocketState.RESTING):
            handle.deliver(channel.connected(_now()))
        elif self.state is SocketState.RESTING:
            self._hint.set()
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

    def network_changed(self) -> None:
        """Take the hint that addresses or routes changed: an attempt under way may lead nowhere now."""
        if self._opening is not None:
            self._opening.cancel()
        self.check_network()

    async def run(self) -> None:
        """Connect and reconnect for ever; cancel to stop. Leaves no task behind."""
        try:
            while True:
                self.alive_at = _now()
                is_hard = await self._connect_once()
                self.alive_at = _now()
                if self.state is SocketState.RESTING:
                    await self._rest()
                    continue
                if self._spare is not None:
                    continue  # it is open, or further on its way than any new one
                wait_s = self._backoff.failed(_now(), hard=is_hard)
                self._say_why(wait_s)
                await self._wait()
        finally:
            await self._drop_spare()
            for handle in list(self._handles.values()):
                handle.deliver(handle.channel.leave())
            self._handles.clear()

    def _say_why(self, wait_s: float) -> None:
        # One line says that it is gone, and one when the reason is another; a night without network must not
        # fill the journal.
        if self._backoff.failures == 1:
            self._warned = ""
        reason = self.not_connected or NotConnected.LOST
        said = self._why.partition(";")[0]  # what follows may be the time
        level = logging.DEBUG if self._warned == said else logging.WARNING
        self._warned = said
        logger.log(
            level, "no connection; next attempt in %.1f s: %s. %s", wait_s, self._why, _capital(reason.cure)
        )

    async def _connect_once(self) -> bool:
        """Serve one connection until it is lost; says whether the server refused us outright."""
        spare, self._spare = self._spare, None
        self._opening = spare or asyncio.create_task(self._open())
        try:
            await asyncio.wait((self._opening,))
        finally:
            opening, self._opening = self._opening, None
            if not opening.done():
                await _discard(opening)  # the device stops
        if opening.cancelled():
            self._why = "the network changed"
            self._miss(NotConnected.LOST)
            self._backoff.network_back(_now())
            self._not_resting()
            return False
        error = opening.exception()
        if error is None:
            await self._serve(opening.result())
            return False
        self._not_resting()
        reason, self._why = why(error)
        self._miss(reason)
        if not isinstance(error, OSError | InvalidHandshake | ConnectionClosed):
            raise error
        return isinstance(error, InvalidStatus) and error.response.status_code in (401, 403, 429)

    def _miss(self, reason: NotConnected | None) -> None:
        """Note why there is no connection, None when there is one; tell it once."""
        before, self.not_connected = self.not_connected, reason
        if before is not reason and self._on_reason is not None:
            self._on_reason(reason)

    def _not_resting(self) -> None:
        if self.state is SocketState.RESTING:
            self._become(SocketState.DOWN)

    async def _rest(self) -> None:
        """Wait until somebody needs the connection, or until it is time to prove that it could be had."""
        until = _now() + PROVE_S
        while not self._handles and not self._hint.is_set() and (left := until - _now()) > 0:
            self.alive_at = _now()
            try:
                async with timeout(min(left, REST_LOOK_S)):
                    await self._hint.wait()
            except TimeoutError:
                pass  # looked, for `alive_at`

    async def _open(self) -> ClientConnection:
        """Return an open connection. Raises: OSError, InvalidHandshake, ConnectionClosed."""
        parts = urlsplit(self._url)
        host, port = parts.hostname or "", parts.port or (443 if self._ssl is not None else 80)
        query = urlencode({"apikey": self._apikey.reveal(), "vsn": Version.V2.value})
        if self._before is not None:
            with contextlib.suppress(BackendError):
                await self._before()
        async with timeout(OPEN_TIMEOUT_S):
            return await _Connect(
                f"{self._url}?{query}",
                sock=await eyeballs.connect(host, port),
                ssl=self._ssl,
                compression=None,  # a sealed payload does not shrink, and its length must not talk
                user_agent_header=None,
                proxy=None,  # the way out is a setting, not an environment variable
                open_timeout=None,
                ping_interval=None,  # the Phoenix heartbeat looks further than the next proxy
                close_timeout=CLOSE_TIMEOUT_S,
                max_size=frames.MAX_FRAME_BYTES,
                max_queue=SEND_QUEUE,
                logger=_wire_logger,
            )

    async def _drop_spare(self) -> None:
        spare, self._spare = self._spare, None
        if spare is not None:
            await _discard(spare)

    async def _serve(self, connection: ClientConnection) -> None:
        now = _now()
        self._queue = asyncio.Queue(SEND_QUEUE)
        shown: list[Secret] = []

        def payload() -> dict[str, object]:
            token = self._device_token()
            if token is None or token in shown:
                return {}
            shown[:] = [token]
            return {"access_token": token.reveal()}

        self._heartbeat = Heartbeat(self._refs, self._heartbeat_s, now, payload)
        self._is_stuck = False
        self._backoff.succeeded(now)
        is_proof = self.state is SocketState.RESTING and not self._handles
        self._become(SocketState.UP)
        rests = False
        try:
            if self._device_token() is not None and (beat := self._heartbeat.hurry(now, self._heartbeat_s)):
                self._post([beat])
            for handle in list(self._handles.values()):
                handle.deliver(handle.channel.connected(_now()))
            await until_one_fails(
                self._read(connection),
                self._write(connection, self._queue),
                self._keep_time(self._heartbeat, is_proof),
            )
        except _RestError:
            rests = True
        except _LostError as error:
            self._why = str(error)
            self._miss(NotConnected.LOST)
            connection.transport.abort()  # who does not answer will not say goodbye either
        finally:
            self._queue = None
            self._heartbeat = None
            if rests:
                self._hint.clear()  # what is hinted at from now on is meant for the rest
            self._become(SocketState.RESTING if rests else SocketState.DOWN)
            for handle in list(self._handles.values()):
                handle.deliver(handle.channel.disconnected(_now()))
            await connection.close()

    async def _read(self, connection: ClientConnection) -> None:
        try:
            async for message in connection:
                try:
                    self._dispatch(frames.decode(message, Version.V2))
                except FrameError:
                    self.dropped += 1
        except ConnectionClosed:
            pass
        raise _LostError("it ended the connection")

    async def _write(self, connection: ClientConnection, queue: asyncio.Queue[str | bytes]) -> None:
        try:
            while True:
                await connection.send(await queue.get())
        except ConnectionClosed:
            raise _LostError("it ended the connection") from None

    async def _keep_time(self, heartbeat: Heartbeat, is_proof: bool) -> None:
        """Sleep until the next deadline of any channel or of the heartbeat."""
        kept_s = self._rest_after_s
        if kept_s is not None and is_proof:
            kept_s = min(kept_s, PROOF_S)
        needed_at = _now()
        while True:
            self._wake.clear()
            now = self.alive_at = _now()
            if (beat := heartbeat.tick(now)) is not None:
                self._post([beat])
            if heartbeat.is_dead:
                raise _LostError("it does not answer any more")
            deadline = min(heartbeat.deadline, await self._look_at_spare(heartbeat, now))
            for handle in list(self._handles.values()):
                due = handle.channel.deadline
                if due is not None and due <= now:
                    handle.deliver(handle.channel.tick(now))
                    due = handle.channel.deadline
                    self.check_network()  # a join or push without an answer: is it the line?
                deadline = min(deadline, deadline if due is None else due)
            if self._is_stuck:
                raise _LostError("it takes nothing any more")
            if kept_s is not None:
                if self._handles:
                    needed_at, kept_s = now, self._rest_after_s or kept_s
                elif now >= needed_at + kept_s and heartbeat.doubted_at is None:
                    raise _RestError
                deadline = min(deadline, needed_at + kept_s)
            try:
                async with timeout(max(0.0, deadline - _now())):
                    await self._wake.wait()
            except TimeoutError:
                pass  # the deadline itself

    async def _look_at_spare(self, heartbeat: Heartbeat, now: float) -> float:
        """Keep a second connection beside one in doubt; returns when to look again (monotonic).

        Raises:
            _LostError: the second one is open and the first still silent.
        """
        doubted_at = heartbeat.doubted_at
        if doubted_at is None:
            if self.state is SocketState.DOUBTED:
                self._become(SocketState.UP)
            await self._drop_spare()
            return math.inf
        if now < doubted_at:
            return doubted_at
        if self._spare is None:
            if self.state is not SocketState.DOUBTED:  # once: it fails when the whole network is gone
                self._become(SocketState.DOUBTED)
                self._spare = asyncio.create_task(self._open())
                self._spare.add_done_callback(lambda _done: self._wake.set())
        elif self._spare.done():
            if not self._spare.cancelled() and self._spare.exception() is None:
                raise _LostError("it did not answer, and a new connection was there first")
            self._spare = None
        return math.inf

    async def _wait(self) -> None:
        while (deadline := self._backoff.deadline) is not None and deadline > _now():
            self._hint.clear()
            try:
                async with timeout(deadline - _now()):
                    await self._hint.wait()
            except TimeoutError:
                return

    def _dispatch(self, frame: PhoenixFrame) -> None:
        if frame.topic == TOPIC and self._heartbeat is not None:
            self._heartbeat.receive(frame, _now())
            self._wake.set()  # a doubt may be over
            return
        handle = self._handles.get(frame.topic)
        if handle is None:
            self.dropped += 1
            return
        handle.deliver(handle.channel.receive(frame, _now()))

    def _post(self, step_frames: list[PhoenixFrame]) -> None:
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
        if self._handles.get(handle.channel.topic) is handle:  # the topic may have been joined anew
            del self._handles[handle.channel.topic]

    def _become(self, state: SocketState) -> None:
        before, self.state = self.state, state
        if state is not SocketState.DOWN:
            self._miss(None)
        if state is SocketState.UP and before is SocketState.DOWN:
            logger.info("connected to the backend")
        if self._on_state is not None:
            try:
                self._on_state(state)
            except Exception:  # the owner's bug must not end the connection
                logger.exception("telling the change of the socket failed; it goes on")


def why(error: BaseException) -> tuple[NotConnected, str]:
    """Say why a connection did not come about; never an address, which the error's own text has."""
    match error:
        case ssl_module.SSLError():
            return explain(error, time.time())
        case OSError():
            reason = of_os_error(error)
            is_plain = reason is NotConnected.UNREACHABLE
            return reason, f"{reason.said} ({detail(error)})" if is_plain else reason.said
        case InvalidStatus():
            status = error.response.status_code
            reason = of_status(status)
            return reason, f"{reason.said} (HTTP status {status})"
        case _:
            return NotConnected.NO_HUB, f"{NotConnected.NO_HUB.said} ({type(error).__name__})"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


async def _discard(opening: asyncio.Task[ClientConnection]) -> None:
    """End an attempt to connect whose outcome nobody wants any more."""
    opening.cancel()
    await asyncio.wait((opening,))
    if not opening.cancelled() and opening.exception() is None:
        opening.result().transport.abort()


def _now() -> float:
    return asyncio.get_running_loop().time()
