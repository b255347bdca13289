"""A load that costs little itself: bare HTTP/1.1 on kept connections, and what each process of the path used.

A full HTTP client in Python takes as long for a request as the whole function; on the same cores it would be
the measure. One rule: nothing here knows what is asked.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

TICKS_PER_S = os.sysconf("SC_CLK_TCK")
HEAD_END = b"\r\n\r\n"
LENGTH = b"content-length:"


class Line(asyncio.Protocol):
    """One kept connection; one request at a time."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._received = bytearray()
        self._answer: asyncio.Future[tuple[int, bytes]] | None = None

    @classmethod
    async def open(cls, port: int) -> Line:
        """Connect to a port of loopback."""
        _, line = await asyncio.get_running_loop().create_connection(cls, "127.0.0.1", port)
        return line

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the way out."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        """Whoever waits hears of it."""
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(ConnectionError("the other side closed"))

    def data_received(self, data: bytes) -> None:
        """Complete the answer, once the whole body is there."""
        self._received += data
        head = self._received.find(HEAD_END)
        if head < 0 or self._answer is None:
            return
        names = self._received[:head].lower()
        at = names.index(LENGTH) + len(LENGTH)
        end = head + len(HEAD_END) + int(names[at:].split(b"\r\n", 1)[0])
        if len(self._received) < end:
            return
        status, body = int(self._received[9:12]), bytes(self._received[head + len(HEAD_END) : end])
        del self._received[:end]
        self._answer.set_result((status, body))

    async def ask(self, request: bytes) -> tuple[int, bytes]:
        """Send one request; the status and the body of its answer."""
        assert self._transport is not None
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return await self._answer

    def close(self) -> None:
        """Hang up."""
        if self._transport is not None:
            self._transport.close()


class Pushed(asyncio.Protocol):
    """Takes what the function pushes to Realtime: 202 for each request, and nothing is read."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the way out."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """A request begins with its method, and no body of ours has that word."""
        self._transport.write(b"HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n" * data.count(b"POST /"))


def request(path: str, headers: dict[str, str], body: bytes) -> bytes:
    """Return a POST as it goes over the wire."""
    lines = [f"POST {path} HTTP/1.1", "host: 127.0.0.1", f"content-length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode() + HEAD_END + body


async def load(
    lines: Sequence[Line], make: Callable[[int], bytes], *, per_s: float, seconds: float
) -> tuple[float, np.ndarray[tuple[int], np.dtype[np.float64]], int]:
    """Ask on all lines: `make(n)` is the n-th request, `per_s` how many (0: as fast as it goes).

    Returns answers per second, the time of each in ms from when it was *due* (so a server that stands still
    is seen, however few requests it was standing still for), and how many were not answered with 200.
    """
    times: list[float] = []
    begun, number, failed = time.perf_counter(), 0, 0
    gap = len(lines) / per_s if per_s else 0.0

    async def one(line: Line, first_s: float) -> None:
        nonlocal number, failed
        due = begun + first_s
        while (now := time.perf_counter()) - begun < seconds:
            if gap and due > now:
                await asyncio.sleep(due - now)
            elif not gap:
                due = now
            number += 1
            status, _ = await line.ask(make(number))
            failed += status != 200
            times.append((time.perf_counter() - due) * 1000)
            due += gap

    await asyncio.gather(*(one(line, gap * place / len(lines)) for place, line in enumerate(lines)))
    return len(times) / (time.perf_counter() - begun), np.array(times), failed


def cpu_s(pid: int) -> float:
    """Return the CPU seconds of a process and all its children so far."""
    total = 0.0
    with contextlib.suppress(OSError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        total = (int(fields[11]) + int(fields[12])) / TICKS_PER_S
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                total += cpu_s(int(child))
    return total
