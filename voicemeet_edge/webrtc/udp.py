"""A UDP socket that two kinds of threads may use: the loop, and during a call the sound threads.

asyncio's own transport wakes the loop for every packet in and every packet out, and each wake costs more
than what is then done with 20 ms of sound. So a datagram may be sent from any thread, and `receive`, called
by the playback thread right before it needs sound, returns what has come; meanwhile the loop does not look.

One rule: only media is handed to the thread that asks. Whatever else comes (STUN, DTLS) goes to the loop,
and so does everything as soon as nobody asks any more.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
import threading
from collections.abc import Iterator
from typing import Any, Protocol, TypeVar

from typing_extensions import override

from voicemeet_edge.webrtc.datagrams import AT_ONCE, Datagram, ask_for_times, reader

BATCH = 64  # datagrams taken in one go: 1.3 s of voice; a flood must not keep the loop or a sound thread
IDLE_S = 0.5  # s between two looks whether somebody still asks; a sound card may hang in its driver


class DatagramUser(Protocol):
    """What this transport serves: an asyncio.DatagramProtocol that knows media when it sees it."""

    def is_media(self, data: bytes) -> bool:
        """Say whether this goes to `media_received`; any bytes may come."""

    def media_received(self, data: bytes, addr: tuple[Any, ...], arrival: float) -> None:
        """Take a packet of voice, on the loop; `arrival` is monotonic."""

    def datagram_received(self, data: bytes, addr: tuple[Any, ...]) -> None:
        """Take anything else, on the loop."""

    def connection_made(self, transport: Any) -> None:
        """The socket is open."""

    def connection_lost(self, exc: Exception | None) -> None:
        """The socket is closed."""

    def error_received(self, exc: Exception) -> None:
        """A send or a read failed, such as for an unreachable network."""


UserT = TypeVar("UserT", bound=DatagramUser)


class UdpTransport(asyncio.DatagramTransport):
    """One UDP socket; `sendto` from any thread, `receive` from one, all else on the loop."""

    def __init__(self, own: socket.socket, user: DatagramUser) -> None:
        super().__init__()
        self.dropped = 0
        """Datagrams the kernel had no room for: late voice is worth nothing, so none waits."""
        self._socket = own
        self._user = user
        self._loop = asyncio.get_running_loop()
        self._names = {"socket": own, "sockname": own.getsockname(), "peername": _peername(own)}
        self._connected = self._names["peername"] is not None
        self._reader = reader(own)
        # A number closed here may at once belong to another file: nobody may be using it at that moment.
        self._lock = threading.Lock()
        self._closed = False
        self.is_lent = False
        """The loop does not look for packets: another thread asks for them."""
        self._asked = False
        self._times_asked = 0
        self._watch: asyncio.TimerHandle | None = None
        self._loop.add_reader(own, self._readable)
        user.connection_made(self)

    # From any thread

    @override
    def sendto(self, data: bytes, addr: tuple[Any, ...] | None = None) -> None:  # type: ignore[override]
        """Send now or not at all."""
        with self._lock:
            if self._closed:
                return
            try:
                if self._connected or addr is None:
                    self._socket.send(data)
                else:
                    self._socket.sendto(data, addr)
                return
            except BlockingIOError:
                self.dropped += 1
                return
            except OSError as error:
                failed = error
        self._call_on_loop(self._user.error_received, failed)

    # From the thread that asks

    def receive(self) -> list[Datagram]:
        """Return the media that has come; all else goes to the loop. Never blocks, never raises."""
        self._times_asked += 1
        if not self.is_lent and not self._asked:
            self._asked = True
            self._call_on_loop(self._lend)
        media: list[Datagram] = []
        for datagram in self._read():
            if self._user.is_media(datagram[0]):
                media.append(datagram)
            else:
                self._call_on_loop(self._user.datagram_received, *datagram[:2])
        return media

    def _call_on_loop(self, function: Any, *arguments: object) -> None:
        # RuntimeError: the loop is closed, and nobody is left to be told.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(function, *arguments)

    # On the loop

    def _lend(self) -> None:
        self._asked = False
        if self._closed or self.is_lent:
            return
        self.is_lent = True
        self._loop.remove_reader(self._socket)
        self._check_asking(self._times_asked - 1)

    def _check_asking(self, seen: int) -> None:
        """Keep the socket lent as long as somebody asks for what came."""
        if self._times_asked == seen:
            self.is_lent = False
            self._watch = None
            self._loop.add_reader(self._socket, self._readable)
        else:
            self._watch = self._loop.call_later(IDLE_S, self._check_asking, self._times_asked)

    def _readable(self) -> None:
        for data, addr, arrival in self._read():
            if self._user.is_media(data):
                self._user.media_received(data, addr, arrival)
            else:
                self._user.datagram_received(data, addr)

    # In either

    def _read(self) -> Iterator[Datagram]:
        for _ in range(BATCH // AT_ONCE):
            found = self._read_some()
            for datagram in found:
                if self._closed:
                    return  # by whoever got the one before
                yield datagram
            if len(found) < AT_ONCE:
                return

    def _read_some(self) -> list[Datagram]:
        """Return what there is, up to AT_ONCE."""
        with self._lock:
            if self._closed:
                return []
            try:
                return self._reader.read()
            except OSError as error:
                # Such as "connection refused" from an ICMP answer to what was sent before.
                failed = error
        self._call_on_loop(self._user.error_received, failed)
        return []

    @override
    def close(self) -> None:
        """Close at once; `connection_lost` follows on the loop. Idempotent."""
        if self._closed:
            return
        if not self.is_lent:
            self._loop.remove_reader(self._socket)
        if self._watch is not None:
            self._watch.cancel()
        with self._lock:
            self._closed = True
            self._socket.close()
        self._loop.call_soon(self._user.connection_lost, None)

    @override
    def abort(self) -> None:
        """Close at once: nothing waits here anyway."""
        self.close()

    @override
    def is_closing(self) -> bool:
        return self._closed

    @override
    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._names.get(name, default)


def _peername(own: socket.socket) -> Any:
    try:
        return own.getpeername()
    except OSError:
        return None


def open_udp(
    user: UserT, *, local: tuple[str, int] | None = None, remote: tuple[Any, ...] | None = None
) -> tuple[UdpTransport, UserT]:
    """Open a socket bound to `local` or connected to `remote`, both with an address and no name.

    Raises:
        OSError: the address is not ours, or not reachable.
    """
    address = remote or local or ("0.0.0.0", 0)
    version = ipaddress.ip_address(address[0].partition("%")[0]).version
    own = socket.socket(
        socket.AF_INET6 if version == 6 else socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK
    )
    try:
        ask_for_times(own)
        if local is not None:
            own.bind(local)
        if remote is not None:
            own.connect(remote)
        return UdpTransport(own, user), user
    except BaseException:
        own.close()
        raise
