"""The desk page from the desk's own machine; the one rule: nothing that runs in it comes from the hub.

Who serves a page can use every key that is typed into it. So this serves the page of the installed package
on loopback, and carries only its verbs and its signaling to the hub, over TLS whose certificate is pinned.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import ssl
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
from aiohttp import hdrs, web
from aiohttp.typedefs import Handler

from voicemeet_edge.backend.pin import tls_context
from voicemeet_edge.backend.verbs import (
    MAX_REPLY_BYTES,
    MAX_REQUEST_BYTES,
    REALTIME_PATH,
    VERB_PATH,
    ErrorReply,
)
from voicemeet_edge.errors import EnvironmentFault
from voicemeet_edge.hub.answers import PAGE_HEADERS, PAGE_TYPES
from voicemeet_edge.hub.desk_record import altered, installed
from voicemeet_edge.hub.gate import is_own
from voicemeet_edge.hub.server import DESK_FOLDERS, read_desk, read_page
from voicemeet_edge.net.faults import of_os_error
from voicemeet_edge.not_connected import NotConnected
from voicemeet_edge.signaling.frames import MAX_FRAME_BYTES
from voicemeet_edge.timeouts import timeout

logger = logging.getLogger(__name__)

HOST = "127.0.0.1"
NAMES = frozenset({"localhost"})  # and addresses: a page of another name must not reach this one
HUB_TIMEOUT_S = 10.0  # s for a verb; the page gives up after eight
SHUTDOWN_TIMEOUT_S = 1.0  # s for open pages at the end: whoever presses Ctrl-C does not wait for them
MAX_SOCKETS = 16  # pages open at once, and their successors while they go
CARRIED = ("apikey", "authorization", "content-type")


class OwnDeskError(EnvironmentFault):
    """The port is taken, or the page is not the one that was installed."""

    code = "own_desk"


class OwnDesk:
    """The page, and the way from it to one hub."""

    def __init__(self, url: str, pin: str = "") -> None:
        """Take the hub's base URL and, for a certificate of its own making, its pin; blocking.

        Raises:
            OwnDeskError: a file of the page is not as the package's record has it.
        """
        self._url = url.rstrip("/")
        self._tls: ssl.SSLContext | bool = tls_context(pin) if self._url.startswith("https") else True
        self._files = read_page()
        package = installed(DESK_FOLDERS[0])
        strange = [name for folder in DESK_FOLDERS for name in altered(folder, read_desk(folder), package)]
        if strange:
            names = ", ".join(strange[:5])
            raise OwnDeskError(f"the desk page is not as it was installed ({names}): install it anew")
        self._http: aiohttp.ClientSession | None = None
        self._sockets = 0

    def application(self) -> web.Application:
        """Build the application."""
        app = web.Application(client_max_size=MAX_REQUEST_BYTES, middlewares=[_only_here])
        app.cleanup_ctx.append(self._session)
        app.router.add_get("/", self._root)
        app.router.add_get("/desk", self._root)
        app.router.add_get("/desk/", self._page)
        app.router.add_get("/desk/config.json", self._config)
        app.router.add_get("/desk/{name}", self._page)
        app.router.add_post(VERB_PATH + "/{verb}", self._verb)
        app.router.add_get(REALTIME_PATH, self._socket)
        return app

    async def _session(self, _app: web.Application) -> AsyncIterator[None]:
        connector = aiohttp.TCPConnector(ssl=self._tls)
        # No proxy from the environment, no cookies, no redirects: the hub is the one that was named.
        async with aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=HUB_TIMEOUT_S),
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
        ) as self._http:
            yield

    async def _root(self, _request: web.Request) -> web.Response:
        return web.Response(status=308, headers={**PAGE_HEADERS, "Location": "/desk/"})

    async def _page(self, request: web.Request) -> web.Response:
        name = request.match_info.get("name", "desk.html")
        content = self._files.get(name)
        if content is None:
            raise web.HTTPNotFound
        kind = PAGE_TYPES[Path(name).suffix]
        return web.Response(body=content, headers={**PAGE_HEADERS, "Content-Type": kind})

    async def _config(self, _request: web.Request) -> web.Response:
        """Take the hub's apikey and its pools, and nothing that would say where the page speaks to."""
        status, answer = await self._carry("GET", "/desk/config.json", b"", {})
        if status != 200:
            return web.Response(status=502, body=answer, content_type="application/json")
        try:
            said = json.loads(answer)
            config = {"apikey": str(said["apikey"]), "realtime": "/realtime/v1", "verbs": VERB_PATH}
        except (ValueError, KeyError, TypeError, RecursionError):
            return web.Response(status=502)
        return web.json_response(config, headers={"Cache-Control": "no-store"})

    async def _verb(self, request: web.Request) -> web.Response:
        body = await request.read()
        headers = {name: request.headers[name] for name in CARRIED if name in request.headers}
        status, answer = await self._carry("POST", f"{VERB_PATH}/{request.match_info['verb']}", body, headers)
        return web.Response(status=status, body=answer, content_type="application/json")

    async def _carry(self, method: str, path: str, body: bytes, headers: dict[str, str]) -> tuple[int, bytes]:
        assert self._http is not None
        try:
            async with self._http.request(
                method,
                self._url + path,
                data=body,
                headers=headers,
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(total=HUB_TIMEOUT_S),
            ) as reply:
                answer = bytearray()
                while chunk := await reply.content.readany():  # as it comes, in packets
                    answer += chunk
                    if len(answer) > MAX_REPLY_BYTES:
                        return 502, b"{}"
                return reply.status, bytes(answer)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            reason = reason_of(error)
            logger.info("%s", reason.sentence)
            said = ErrorReply(reason.value, reason.said)
            return 502, json.dumps(said.serialize()).encode()

    async def _socket(self, request: web.Request) -> web.StreamResponse:
        assert self._http is not None
        if self._sockets >= MAX_SOCKETS:
            return web.Response(status=429)
        query = {name: request.query[name] for name in ("apikey", "vsn") if name in request.query}
        self._sockets += 1
        try:
            # Opened first: a hub that is away must look away to the page, not open and silent.
            async with timeout(HUB_TIMEOUT_S):
                hub = await self._http.ws_connect(
                    f"{self._url}{REALTIME_PATH}", params=query, max_msg_size=MAX_FRAME_BYTES
                )
            async with hub:
                page = web.WebSocketResponse(max_msg_size=MAX_FRAME_BYTES, compress=False)
                await page.prepare(request)
                pumps = [asyncio.create_task(_pump(page, hub)), asyncio.create_task(_pump(hub, page))]
                try:
                    await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    for pump in pumps:
                        pump.cancel()
                    await asyncio.gather(*pumps, return_exceptions=True)
                await page.close()
                return page
        except (aiohttp.ClientError, TimeoutError, OSError):
            return web.Response(status=502)
        finally:
            self._sockets -= 1


def reason_of(error: Exception) -> NotConnected:
    """Say why the hub was not reached: aiohttp wraps what the system said."""
    inner = getattr(error, "os_error", error)
    return of_os_error(inner) if isinstance(inner, OSError) else NotConnected.UNREACHABLE


_Socket = web.WebSocketResponse | aiohttp.ClientWebSocketResponse


async def _pump(source: _Socket, sink: _Socket) -> None:
    async for message in source:
        if message.type is aiohttp.WSMsgType.TEXT:
            await sink.send_str(message.data)
        elif message.type is aiohttp.WSMsgType.BINARY:
            await sink.send_bytes(message.data)


@web.middleware
async def _only_here(request: web.Request, handler: Handler) -> web.StreamResponse:
    if not is_own(request.headers.get(hdrs.HOST, ""), NAMES):
        raise web.HTTPMisdirectedRequest
    origin = request.headers.get(hdrs.ORIGIN)
    if origin is not None and not is_own(origin.partition("://")[2], NAMES):
        raise web.HTTPForbidden
    return await handler(request)


@contextlib.asynccontextmanager
async def running_desk(url: str, pin: str = "", *, port: int = 0) -> AsyncIterator[str]:
    """Serve the desk page on loopback; yields its address.

    Raises:
        OwnDeskError: the port is taken, or the page is not the one that was installed.
    """
    desk = await asyncio.to_thread(OwnDesk, url, pin)  # reads files
    runner = web.AppRunner(
        desk.application(), access_log=None, handle_signals=False, shutdown_timeout=SHUTDOWN_TIMEOUT_S
    )
    await runner.setup()
    try:
        site = web.TCPSite(runner, HOST, port)
        try:
            await site.start()
        except OSError as error:
            raise OwnDeskError(f"cannot listen on port {port} ({error.strerror})") from None
        yield f"http://{HOST}:{runner.addresses[0][1]}/desk/"
    finally:
        await runner.cleanup()


async def serve_desk(url: str, pin: str, port: int) -> None:
    """Serve until cancelled, and say where."""
    async with running_desk(url, pin, port=port) as address:
        sys.stdout.write(f"The desk page of this machine: {address}\nIt speaks to {url}. Stop with Ctrl-C.\n")
        sys.stdout.flush()
        await asyncio.Event().wait()
