"""The listener over real sockets: who waits in the line, and who left it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator

import pytest

from voicemeet_edge.hub.connections import Places
from voicemeet_edge.hub.listener import ACCEPT_AT_ONCE, Listener
from voicemeet_edge.testing.waiting import until

LIMIT_S = 20.0  # s, a limit: the machine may stand still


class Echo(asyncio.Protocol):
    """Says what it heard."""

    def __init__(self, made: list[asyncio.BaseTransport]) -> None:
        self._made = made

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._made.append(transport)

    def data_received(self, data: bytes) -> None:
        transport = self._made[-1]
        assert isinstance(transport, asyncio.Transport)
        transport.write(data)


@contextlib.asynccontextmanager
async def listening(
    places: Places, exempt: tuple[str, ...] = ()
) -> AsyncIterator[tuple[Listener, int, list[asyncio.BaseTransport]]]:
    made: list[asyncio.BaseTransport] = []
    with socket.create_server(("127.0.0.1", 0), backlog=256) as door:
        door.setblocking(False)
        listener = Listener(lambda: Echo(made), places, None, exempt)
        running = asyncio.create_task(listener.run([door]))
        try:
            yield listener, door.getsockname()[1], made
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)


async def test_a_kernel_that_cannot_send_at_once_serves_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "TCP_NODELAY", 9999)  # an option that no kernel has
    async with listening(Places(10, per_address=10)) as (_, port, _):
        # Not by asyncio, which asks for it too.
        with socket.create_connection(("127.0.0.1", port), LIMIT_S) as line:
            line.sendall(b"here")
            assert await asyncio.to_thread(line.recv, 4) == b"here"


async def test_who_gave_up_in_the_line_is_not_answered_and_the_next_one_is() -> None:
    async with listening(Places(10, per_address=1)) as (listener, port, made):
        _, first = await asyncio.open_connection("127.0.0.1", port)
        await until(lambda: len(made) == 1)
        _, gave_up = await asyncio.open_connection("127.0.0.1", port)
        gave_up.write(b"a hello that nobody waits for any more")
        gave_up.close()
        await gave_up.wait_closed()
        reader, last = await asyncio.open_connection("127.0.0.1", port)
        await until(lambda: listener.connections.waiting == 2)
        first.close()
        last.write(b"here")
        assert await asyncio.wait_for(reader.readexactly(4), LIMIT_S) == b"here"
        assert len(made) == 2
        last.close()


async def test_a_proxy_that_had_to_wait_takes_no_place_of_a_stranger() -> None:
    async with listening(Places(2, per_address=1), ("127.0.0.1",)) as (listener, port, made):
        lines = [socket.create_connection(("127.0.0.1", port)) for _ in range(4)]
        await until(lambda: len(made) == 2)
        for line in lines[:2]:
            line.close()
        await until(lambda: len(made) == 4)
        assert listener.connections.counters.dropped_slow == 0, "nobody had to go for another"
        for line in lines[2:]:
            line.close()


async def test_everybody_who_knocks_at_once_is_taken_in() -> None:
    count = 3 * ACCEPT_AT_ONCE + 1
    async with listening(Places(1000, per_address=1000)) as (listener, port, made):
        lines = [socket.create_connection(("127.0.0.1", port)) for _ in range(count)]
        await until(lambda: len(made) == count)
        assert len(listener.connections) == count
        for line in lines:
            line.close()
        await until(lambda: len(listener.connections) == 0)
