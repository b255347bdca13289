"""All that has come to a UDP socket, in one system call: recvmmsg(2), which Python's socket module has not.

Read one by one, each look ends with a call that finds nothing, and in a call every second look finds one
packet. One rule: where there is no recvmmsg the same is read one by one; nobody above sees a difference.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import socket
import struct
import sys
import time
from typing import Any, Protocol

from typing_extensions import override

DATAGRAM_BYTES = 2048  # more than any packet of ours; what is longer is cut, and then fails to verify
AT_ONCE = 8  # datagrams in one call: 160 ms of voice, 17 kB for each socket
MAX_AGE_S = 0.5  # s; an older time stamp is a clock that was set, or a machine that stood still

# Linux' SO_TIMESTAMPNS (asm-generic/socket.h), which Python does not name: when the kernel had the packet.
# Else all would seem to come when they are asked for, each up to 20 ms late.
SO_TIMESTAMPNS = 35
TIMESPEC = struct.Struct("@ll")  # s, nanoseconds; CLOCK_REALTIME; 4 bytes each on a 32-bit ARM
_ANCILLARY_BYTES = socket.CMSG_SPACE(TIMESPEC.size)

# The kernel's structs (linux/socket.h); "0P" is the padding that an array of them has.
_HEADER = struct.Struct("@PIPNPNi0PI0P")  # mmsghdr: a msghdr, and how many bytes came
_PIECE = struct.Struct("@PN")  # iovec
_CONTROL = struct.Struct("@Nii")  # cmsghdr: length, level, type
_IPV4 = struct.Struct("@H2s4s")  # sockaddr_in: family, port, address
_IPV6 = struct.Struct("@H2s4s16sI")  # sockaddr_in6: family, port, flow, address, scope

Datagram = tuple[bytes, tuple[Any, ...], float]
"""Its bytes, where it came from, and when the kernel had it (monotonic)."""


class Reader(Protocol):
    """Reads one socket, which never blocks; by one thread at a time."""

    def read(self) -> list[Datagram]:
        """Return what has come, at most AT_ONCE; fewer are all there were. Raises: OSError."""


def ask_for_times(own: socket.socket) -> None:
    """Let the kernel say when it had a packet; where it cannot, packets count from when they are read."""
    with contextlib.suppress(OSError):
        own.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)


def reader(own: socket.socket) -> Reader:
    """Return the cheapest way to read this socket."""
    return OneByOne(own) if _recvmmsg is None else Together(own)


class OneByOne(Reader):
    """For a system without recvmmsg."""

    def __init__(self, own: socket.socket) -> None:
        self._socket = own
        self._failed: OSError | None = None  # behind a datagram; told when that was taken

    @override
    def read(self) -> list[Datagram]:
        failed, self._failed = self._failed, None
        if failed is not None:
            raise failed
        found: list[Datagram] = []
        while len(found) < AT_ONCE:
            try:
                data, ancillary, _, addr = self._socket.recvmsg(DATAGRAM_BYTES, _ANCILLARY_BYTES)
            except BlockingIOError:
                break
            except OSError as error:
                if not found:
                    raise
                self._failed = error
                break
            found.append((data, addr, time.monotonic() - age_of(ancillary)))
        return found


class Together(Reader):
    """One call for all, into memory that is made once."""

    def __init__(self, own: socket.socket) -> None:
        # Whoever closes the socket sees to it that nobody reads: see UdpTransport.
        self._number = own.fileno()
        pieces = AT_ONCE * _HEADER.size
        self._names = pieces + AT_ONCE * _PIECE.size
        self._controls = self._names + AT_ONCE * _IPV6.size
        self._data = self._controls + AT_ONCE * _ANCILLARY_BYTES
        memory = bytearray(self._data + AT_ONCE * DATAGRAM_BYTES)
        self._pinned = (ctypes.c_char * len(memory)).from_buffer(memory)  # it must not move
        self._memory = memoryview(memory)
        self._at = at = ctypes.addressof(self._pinned)
        for slot in range(AT_ONCE):
            piece = pieces + slot * _PIECE.size
            _PIECE.pack_into(memory, piece, at + self._data + slot * DATAGRAM_BYTES, DATAGRAM_BYTES)
            name = at + self._names + slot * _IPV6.size
            control = at + self._controls + slot * _ANCILLARY_BYTES
            _HEADER.pack_into(
                *(memory, slot * _HEADER.size, name, _IPV6.size),
                *(at + piece, 1, control, _ANCILLARY_BYTES, 0, 0),
            )
        self._headers = bytes(memory[:pieces])
        """As each call must find them: it writes into them what it found."""
        self._last_name = b""
        self._last_addr: tuple[Any, ...] = ()

    @override
    def read(self) -> list[Datagram]:
        assert _recvmmsg is not None
        count = _recvmmsg(self._number, self._at, AT_ONCE, 0, None)
        if count < 0:
            number = ctypes.get_errno()
            if number == errno.EAGAIN:
                return []
            raise OSError(number, os.strerror(number))
        found, memory, size = [], self._memory, _HEADER.size
        now, clock = time.monotonic(), time.time()
        for slot in range(count):
            _, name_bytes, _, _, _, control_bytes, _, length = _HEADER.unpack_from(memory, slot * size)
            start = self._names + slot * _IPV6.size
            name = memory[start : start + name_bytes]
            if name != self._last_name:
                self._last_name, self._last_addr = name.tobytes(), address_of(name.tobytes())
            age = self._age(slot, clock) if control_bytes == _ANCILLARY_BYTES else 0.0
            start = self._data + slot * DATAGRAM_BYTES
            found.append((memory[start : start + length].tobytes(), self._last_addr, now - age))
        memory[: count * size] = self._headers[: count * size]
        return found

    def _age(self, slot: int, clock: float) -> float:
        """Return how many seconds ago the kernel received it; nothing else was asked for."""
        start = self._controls + slot * _ANCILLARY_BYTES + _CONTROL.size
        return _age(TIMESPEC.unpack_from(self._memory, start), clock)


def address_of(name: bytes) -> tuple[Any, ...]:
    """Return a socket's address as Python has it."""
    if len(name) == _IPV6.size:
        _, port, flow, address, scope = _IPV6.unpack(name)
        host = socket.inet_ntop(socket.AF_INET6, address)
        return host, int.from_bytes(port, "big"), int.from_bytes(flow, "big"), scope
    _, port, address = _IPV4.unpack_from(name)
    return socket.inet_ntoa(address), int.from_bytes(port, "big")


def age_of(ancillary: list[tuple[int, int, bytes]]) -> float:
    """Return how many seconds ago the kernel received it, as its time stamp says."""
    if not ancillary or len(ancillary[0][2]) != TIMESPEC.size:
        return 0.0  # nothing else was asked for, so nothing else can be in its place
    return _age(TIMESPEC.unpack(ancillary[0][2]), time.time())


def _age(stamp: tuple[Any, ...], clock: float) -> float:
    seconds, nanoseconds = stamp
    age: float = clock - seconds - nanoseconds * 1e-9
    return age if 0.0 <= age <= MAX_AGE_S else 0.0


def _find_recvmmsg() -> Any | None:
    """Return the C library's function; None where there is none, or the kernel does not let us."""
    if not sys.platform.startswith("linux"):
        return None
    # Sockets here never block. So the lock of Python's interpreter is kept: given away and taken again it
    # may cost a wait for another thread, which is longer than the call.
    try:
        function = ctypes.PyDLL(None, use_errno=True).recvmmsg
    except (OSError, AttributeError):
        return None
    function.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_uint, ctypes.c_int, ctypes.c_void_p)
    function.restype = ctypes.c_int
    function(-1, None, 0, 0, None)
    return function if ctypes.get_errno() == errno.EBADF else None


_recvmmsg = _find_recvmmsg()
