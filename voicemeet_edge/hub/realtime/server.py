"""The Realtime server: handshake, the list of open sockets, the sweeper, the hub's own pushes.

Rule: nothing here knows what a call is. The apikey arrives in the URL, so whoever runs this must
switch aiohttp's access log off.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable

from aiohttp import WSCloseCode, web

from voicemeet_edge.hub.limits import Limiter, address_key
from voicemeet_edge.hub.listener import wire_of
from voicemeet_edge.hub.realtime.authorizer import Authorizer, TokenError, TokenFault
from voicemeet_edge.hub.realtime.connection import Connection, Shared, fault_text
from voicemeet_edge.hub.realtime.options import RealtimeCounters, RealtimeOptions, RealtimeStats
from voicemeet_edge.hub.realtime.rest import RestBroadcast
from voicemeet_edge.hub.realtime.topics import CallWatch, Topics, broadcast_frame
from voicemeet_edge.hub.tls import cut
from voicemeet_edge.signaling.channel import TOPIC_PREFIX
from voicemeet_edge.signaling.frames import MAX_FRAME_BYTES, Broadcast, Version

logger = logging.getLogger(__name__)

PREFIX = "/realtime/v1"
CLOSE_TIMEOUT_S = 1.0  # s a client gets to answer a close frame; a dead one never does


class Realtime:
    """Phoenix channels as Supabase Realtime speaks them, for one hub."""

    def __init__(
        self,
        authorizer: Authorizer,
        options: RealtimeOptions | None = None,
        *,
        address_of: Callable[[web.BaseRequest], str] = lambda request: request.remote or "",
        unix: Callable[[], float] = time.time,
    ) -> None:
        """Prepare; `attach` it to an application, which then owns the sweeper.

        Args:
            authorizer: verifies tokens and decides who reads and writes.
            options: limits and delays.
            address_of: the client's address, where a proxy stands in front.
            unix: the clock that tokens are dated by.
        """
        options = options or RealtimeOptions()
        self._shared = Shared(
            authorizer,
            options,
            Topics(options.max_presences),
            RealtimeCounters(),
            Limiter(options.address_bytes),
            unix,
        )
        self._address_of = address_of
        self._connections: dict[Connection, str] = {}
        self._per_address: Counter[str] = Counter()
        self._delayed = 0
        self._rest = RestBroadcast(self._shared, self._client_address)

    def attach(self, app: web.Application) -> None:
        """Add the routes, the sweeper and an orderly end to an application."""
        app.add_routes(self.routes())
        app.cleanup_ctx.append(self._sweeping)
        # aiohttp waits for handlers before it cleans up: open sockets have to go first.
        app.on_shutdown.append(self._shut_down)

    def watch(self, watch: CallWatch) -> None:
        """Let somebody see who is in which call."""
        self._shared.topics.watch = watch

    def routes(self) -> list[web.RouteDef]:
        """Return the handlers; `attach` is what an application wants."""
        return [
            web.get(f"{PREFIX}/websocket", self._websocket),
            *self._rest.routes(f"{PREFIX}/api/broadcast"),
        ]

    async def broadcast(
        self, topic: str, event: str, payload: dict[str, object], private: bool = True
    ) -> int:
        """Tell every member of a topic (without prefix); returns how many there are."""
        wire_topic = TOPIC_PREFIX + topic
        outgoing = broadcast_frame(wire_topic, Broadcast(event, payload), is_binary=False)
        count = self._shared.topics.broadcast(wire_topic, private, outgoing)
        self._shared.counters.delivered += count
        return count

    def stats(self) -> RealtimeStats:
        """Return how much is open and what happened so far."""
        return RealtimeStats(
            connections=len(self._connections),
            channels=sum(len(connection.channels) for connection in self._connections),
            topics=len(self._shared.topics),
            counters=dataclasses.asdict(self._shared.counters),
        )

    async def run(self) -> None:
        """Look at idle sockets and expired tokens for ever; cancel to stop."""
        options = self._shared.options
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(options.sweep_s)
            now = loop.time()
            for connection in list(self._connections):
                connection.expire(now)
                silent_s = now - connection.last_seen
                if silent_s > options.idle_timeout_s + CLOSE_TIMEOUT_S * 2:
                    connection.abort()  # it did not answer the close frame either
                elif silent_s > options.idle_timeout_s:
                    self._shared.counters.dropped_idle += 1
                    connection.close(WSCloseCode.GOING_AWAY)

    async def close(self) -> None:
        """Hang up on everybody."""
        for connection in list(self._connections):
            connection.close(WSCloseCode.SERVICE_RESTART)
        # The handlers end by it; aiohttp waits for those, within its own limit.
        await asyncio.sleep(0)

    async def _sweeping(self, _app: web.Application) -> AsyncIterator[None]:
        # Not a TaskGroup: aiohttp may end this generator in another task than the one that began it.
        sweeper = asyncio.create_task(self.run())
        yield
        sweeper.cancel()
        try:
            await sweeper
        except asyncio.CancelledError:
            pass  # ours

    async def _shut_down(self, _app: web.Application) -> None:
        await self.close()

    def _client_address(self, request: web.BaseRequest) -> str:
        return address_key(self._address_of(request))

    async def _websocket(self, request: web.Request) -> web.StreamResponse:
        address = self._client_address(request)
        refusal = self._refusal(request, address)
        if refusal is not None:
            return await self._refuse(*refusal)
        claims = self._shared.authorizer.apikey_claims(_apikey(request))
        websocket = web.WebSocketResponse(
            timeout=CLOSE_TIMEOUT_S,
            heartbeat=None,  # one sweeper instead of a timer per socket
            compress=False,  # a deflate window costs 300 kB per socket
            max_msg_size=MAX_FRAME_BYTES,
        )
        if not websocket.can_prepare(request):
            return web.json_response({"error": "Not a WebSocket handshake"}, status=400)
        try:
            await websocket.prepare(request)
        except ConnectionError:
            # Gone meanwhile, or it had to make room: nothing to log, nobody to answer. The socket itself is
            # not given back: aiohttp would try to end it, half made as it is.
            cut(request.transport)
            return web.Response(status=400)
        version = Version(request.query.get("vsn", Version.V1.value))
        wire = wire_of(request)
        if wire is not None:
            wire.becomes_socket()
        connection = Connection(
            self._shared,
            websocket,
            request.transport,
            version,
            claims,
            address=address,
            on_known=wire.known if wire is not None else _nothing,
            on_joined=wire.used if wire is not None else _nothing,
        )
        self._connections[connection] = address
        self._per_address[address] += 1
        self._shared.counters.accepted += 1
        try:
            await connection.run()
        finally:
            del self._connections[connection]
            self._per_address[address] -= 1
            if not self._per_address[address]:
                del self._per_address[address]
        return websocket

    def _refusal(self, request: web.Request, address: str) -> tuple[int, str] | None:
        options = self._shared.options
        if len(self._connections) >= options.max_connections:
            return 429, "Too many connected users"
        if self._per_address[address] >= options.max_connections_per_address:
            return 429, "Too many connected users"
        if request.query.get("vsn", Version.V1.value) not in {version.value for version in Version}:
            return 400, "Unsupported protocol version"
        key = _apikey(request)
        if not key:
            return 401, "Missing API key"
        try:
            self._shared.authorizer.apikey_claims(key)
        except TokenError as error:
            text = "Token has expired" if error.kind is TokenFault.EXPIRED else fault_text(error)
            return 401, text
        return None

    async def _refuse(self, status: int, message: str) -> web.Response:
        self._shared.counters.refused_handshakes += 1
        if self._delayed < self._shared.options.max_delayed_refusals:
            self._delayed += 1
            try:
                await asyncio.sleep(self._shared.options.handshake_error_delay_s)
            finally:
                self._delayed -= 1
        return web.json_response({"error": message}, status=status)


def _nothing() -> None:
    """No listener, so nobody to tell."""


def _apikey(request: web.Request) -> str:
    return request.headers.get("x-api-key") or request.query.get("apikey", "")
