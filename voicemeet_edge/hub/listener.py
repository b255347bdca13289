"""Accepts connections, starts TLS on them and hands them to the HTTP server; decides nothing itself.

The one rule: no connection costs more than a file descriptor before `hub/connections.py` gave it a place.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import resource
import select
import socket
import ssl
from asyncio import sslproto
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import cast

from aiohttp import web

from voicemeet_edge.hub.connections import HEAD_S, IDLE_S, Connections, OpenConnection, Places
from voicemeet_edge.hub.limits import address_key
from voicemeet_edge.hub.plain_http import TLS_HANDSHAKE, first_byte, say_use_https
from voicemeet_edge.hub.tls import cut
from voicemeet_edge.net.small_messages import send_at_once
from voicemeet_edge.timeouts import timeout

logger = logging.getLogger(__name__)

TLS_BUFFER_BYTES = 8 * 1024  # bytes read at once; what is said here is smaller. asyncio would take 256 kB
TLS_SHUTDOWN_S = 2.0  # s for the other side's last word
ACCEPT_AT_ONCE = 32  # connections taken in one turn of the loop, about 1 ms
ACCEPT_PAUSE_S = 0.2  # s after accept failed, for want of files
TICK_S = 0.1  # s between looks at the line, while there is one
CONNECTION_BYTES = 64 * 1024  # bytes of the hub that one TLS connection takes, measured 49 kB and rounded up
HUB_BYTES = 120 * 1024 * 1024  # bytes of the hub itself, with the books of many calls
MEMORY_SHARE = 0.7  # of what is left that connections may take; the rest is for what they say
MIN_CONNECTIONS = 256
MAX_CONNECTIONS = 20_000


class _Waiting:
    """An accepted socket nobody reads yet."""

    def __init__(self, sock: socket.socket, *, is_exempt: bool = False) -> None:
        self.sock = sock
        self.is_exempt = is_exempt  # a proxy's: no stranger's, whenever it is served

    def drop(self) -> None:
        """Close it; the other side sees a reset."""
        self.sock.close()

    def has_left(self) -> bool:
        """Say whether the other side has closed it, whatever it said before."""
        look = select.poll()
        look.register(self.sock, select.POLLRDHUP)
        return bool(look.poll(0))


class Wire(asyncio.Protocol):
    """Stands between a transport and the HTTP server's protocol, and keeps the time."""

    def __init__(self, listener: Listener, entry: OpenConnection, inner: asyncio.Protocol) -> None:
        self._listener = listener
        self._entry = entry
        self._inner = inner
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self.task: asyncio.Task[None] | None = None  # what opens it
        entry.carrier = self

    def request_begins(self) -> None:
        """A whole request head is there."""
        self._entry.has_head = self._entry.is_long = True
        self._set_timer(None)

    def request_ends(self) -> None:
        """The request was answered; the next one has its time."""
        self._entry.is_long = False
        self._set_timer(IDLE_S)

    def becomes_socket(self) -> None:
        """It is a WebSocket now, of which nobody has made use yet."""
        self._entry.is_unused_socket = True

    def used(self) -> None:
        """Whoever is there has joined something."""
        self._entry.is_unused_socket = False

    def known(self) -> None:
        """Whoever is there has shown that a pass stands behind it."""
        self._listener.connections.known(self._entry)

    def drop(self) -> None:
        """Close at once, in the middle of a handshake too."""
        if self._transport is not None:
            cut(self._transport)
        elif self.task is not None:
            self.task.cancel()

    def begin(self, deadline: float) -> None:
        """Close it at this time (of the loop) unless a whole head has come by then."""
        self._timer = asyncio.get_running_loop().call_at(deadline, self._too_slow)

    def _set_timer(self, seconds: float | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None if seconds is None else asyncio.get_running_loop().call_later(seconds, self.drop)

    def _too_slow(self) -> None:
        self._listener.connections.counters.dropped_slow += 1
        self.drop()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Pass on."""
        self._transport = cast("asyncio.Transport", transport)
        self._inner.connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """Pass on, and free the place."""
        self._set_timer(None)
        self._listener.ended(self._entry)
        self._inner.connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Pass on."""
        self._inner.data_received(data)

    def eof_received(self) -> bool | None:
        """Pass on."""
        return self._inner.eof_received()

    def pause_writing(self) -> None:
        """Pass on."""
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        """Pass on."""
        self._inner.resume_writing()


class Listener:
    """Serves listening sockets until closed."""

    def __init__(
        self,
        server: Callable[[], asyncio.Protocol],
        places: Places,
        tls: ssl.SSLContext | None,
        exempt: Sequence[str] = (),
        on_link: Sequence[ipaddress.IPv6Network] = (),
    ) -> None:
        """`server` makes the HTTP server's protocol; `exempt` are proxies, behind which many stand.

        `on_link` are our own IPv6 networks, in which each address is somebody else.
        """
        self._server = server
        self._tls = tls
        self._exempt = frozenset(exempt)
        self._on_link = on_link
        self.connections = Connections(places)
        self._tasks: set[asyncio.Task[None]] = set()
        if tls is not None:
            sslproto.SSLProtocol.max_size = TLS_BUFFER_BYTES

    async def run(self, sockets: Sequence[socket.socket]) -> None:
        """Accept until cancelled."""
        try:
            async with asyncio.TaskGroup() as group:
                for one in sockets:
                    group.create_task(self._accept(one))
                group.create_task(self._move_line())
        finally:
            self.connections.drop_line()
            for task in self._tasks:
                task.cancel()

    async def _accept(self, listening: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                self._arrive(*await loop.sock_accept(listening))
                # As many as knock, or a busy hub would take one in each turn of its loop; but so many at once
                # that a building switched on does not keep those waiting who are served already.
                for _ in range(ACCEPT_AT_ONCE - 1):
                    self._arrive(*listening.accept())
            except BlockingIOError:
                pass
            except OSError:
                # Out of files, mostly; whoever knocks waits in the kernel meanwhile.
                await asyncio.sleep(ACCEPT_PAUSE_S)
                continue
            await asyncio.sleep(0)

    def _arrive(self, sock: socket.socket, peer: tuple[object, ...]) -> None:
        sock.setblocking(False)
        address = str(peer[0])
        waiting = _Waiting(sock, is_exempt=address in self._exempt)
        now = asyncio.get_running_loop().time()
        entry = self.connections.arrive(address_key(address, self._on_link), waiting, now)
        if entry is not None:
            self._start(entry, waiting)

    def _start(self, entry: OpenConnection, waiting: _Waiting) -> None:
        if waiting.is_exempt:
            self.connections.known(entry)
        wire = Wire(self, entry, self._server())
        wire.task = task = asyncio.get_running_loop().create_task(self._serve(wire, entry, waiting.sock))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, wire: Wire, entry: OpenConnection, sock: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + HEAD_S
        try:
            send_at_once(sock)
            if self._tls is not None and not await self._begins_tls(sock):
                sock.close()
                self.ended(entry)
                return
            await loop.connect_accepted_socket(
                lambda: wire,
                sock,
                ssl=self._tls,
                ssl_handshake_timeout=HEAD_S if self._tls is not None else None,
                ssl_shutdown_timeout=TLS_SHUTDOWN_S if self._tls is not None else None,
            )
        except (OSError, ssl.SSLError, TimeoutError, ConnectionError, ValueError):
            # A failed handshake is the other side's affair: scanners, wrong pins.
            sock.close()
            self.ended(entry)
            return
        except asyncio.CancelledError:
            sock.close()
            self.ended(entry)
            raise
        if not entry.has_head:
            wire.begin(deadline)

    async def _begins_tls(self, sock: socket.socket) -> bool:
        """Say whether a TLS handshake comes; plain HTTP is told to use https."""
        async with timeout(HEAD_S):
            first = await first_byte(sock)
        if first == TLS_HANDSHAKE:
            return True
        if first is not None:
            await say_use_https(sock)
        return False

    def ended(self, entry: OpenConnection) -> None:
        """A connection is closed; whoever waits for its place gets it."""
        self.connections.gone(entry)
        if self.connections.waiting:
            self._serve_line()

    def _serve_line(self) -> None:
        for entry, waiting in self.connections.next(asyncio.get_running_loop().time()):
            self._start(entry, cast("_Waiting", waiting))

    async def _move_line(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            if self.connections.waiting:
                self._serve_line()


def wire_of(request: web.BaseRequest) -> Wire | None:
    """Return the wire a request came by; None in tests that have no listener."""
    transport = request.transport
    wire = transport.get_protocol() if transport is not None else None
    return wire if isinstance(wire, Wire) else None


def places_for(max_connections: int, per_address: int) -> Places:
    """Return how many connections there may be: as set, or as many as memory and open files are there for."""
    if max_connections:
        return Places(max_connections, per_address)
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    by_files = MAX_CONNECTIONS if files == resource.RLIM_INFINITY else files // 2
    by_memory = int((memory_bytes() - HUB_BYTES) * MEMORY_SHARE / CONNECTION_BYTES)
    return Places(max(MIN_CONNECTIONS, min(by_files, by_memory, MAX_CONNECTIONS)), per_address)


def memory_bytes() -> int:
    """Return the bytes this process may take: its control group's limit, or half of the machine."""
    total = _number(Path("/proc/meminfo"), "MemTotal:") * 1024
    best = total // 2
    try:
        group = Path("/proc/self/cgroup").read_text().strip().rpartition(":")[2]
    except OSError:
        return best
    place = Path("/sys/fs/cgroup") / group.lstrip("/")
    for directory in (place, *place.parents):
        limit = _number(directory / "memory.max", "")
        if limit:
            best = min(best, limit) if directory != place else min(limit, total)
        if directory == Path("/sys/fs/cgroup"):
            break
    return best


def _number(path: Path, word: str) -> int:
    """Return the number that follows a word in a file; 0 when there is none."""
    try:
        text = path.read_text()
    except OSError:
        return 0
    parts = text.partition(word)[2].split() if word else text.split()
    return int(parts[0]) if parts and parts[0].isdigit() else 0
