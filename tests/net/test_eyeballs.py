"""One way that leads nowhere costs a quarter of a second, and nothing is left of those that lost."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable

import pytest

from tests.net.holes import hole
from voicemeet_edge.net.eyeballs import MAX_ATTEMPTS, connect, race
from voicemeet_edge.net.names import FAMILIES, Names


class Ways:
    """Attempts whose outcomes a test decides, and what became of them."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.two_begun = asyncio.Event()
        self.ended: list[str] = []
        self.discarded: list[str] = []

    def way(
        self, name: str, outcome: Exception | asyncio.Event | None = None
    ) -> Callable[[], Awaitable[str]]:
        async def attempt() -> str:
            self.begun.append(name)
            if len(self.begun) == 2:
                self.two_begun.set()
            try:
                if isinstance(outcome, asyncio.Event):
                    await outcome.wait()
                elif outcome is not None:
                    raise outcome
                return name
            finally:
                self.ended.append(name)

        return attempt


async def test_the_first_that_succeeds_wins_and_the_rest_never_begin() -> None:
    ways = Ways()
    assert await race([ways.way("a"), ways.way("b")], discard=ways.discarded.append) == "a"
    assert ways.begun == ["a"]


async def test_a_way_that_hangs_is_passed_by_and_cancelled() -> None:
    ways, never = Ways(), asyncio.Event()
    attempts = [ways.way("a", never), ways.way("b", OSError("no")), ways.way("c")]
    assert await race(attempts, discard=ways.discarded.append, delay_s=0.01) == "c"
    await asyncio.sleep(0)
    assert ways.ended == ["b", "c", "a"]


async def test_a_failure_begins_the_next_at_once_and_the_first_failure_is_told() -> None:
    ways = Ways()
    attempts = [ways.way("a", OSError("first")), ways.way("b", OSError("second"))]
    with pytest.raises(OSError, match="first"):
        await race(attempts, discard=ways.discarded.append, delay_s=3600)
    assert ways.begun == ["a", "b"]


async def test_what_the_server_decided_is_not_asked_again() -> None:
    ways, never = Ways(), asyncio.Event()
    attempts = [ways.way("a", never), ways.way("b", ValueError("refused")), ways.way("c")]
    with pytest.raises(ValueError, match="refused"):
        await race(attempts, discard=ways.discarded.append, decisive=(ValueError,), delay_s=0.01)
    assert ways.begun == ["a", "b"]


async def test_one_that_comes_too_late_is_discarded() -> None:
    ways, both = Ways(), asyncio.Event()
    running = asyncio.ensure_future(
        race([ways.way("a", both), ways.way("b", both)], discard=ways.discarded.append, delay_s=0.01)
    )
    await ways.two_begun.wait()
    both.set()
    assert await running == "a"
    await asyncio.sleep(0)
    assert ways.discarded == ["b"]


async def test_giving_up_cancels_all() -> None:
    ways, never = Ways(), asyncio.Event()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(
            race([ways.way("a", never), ways.way("b", never)], discard=ways.discarded.append, delay_s=0.01),
            0.1,
        )
    await asyncio.sleep(0)
    assert sorted(ways.ended) == ["a", "b"]


async def test_no_way_at_all_and_too_many() -> None:
    ways = Ways()
    with pytest.raises(OSError, match="no address"):
        await race([], discard=ways.discarded.append)
    with pytest.raises(OSError, match="0"):
        await race([ways.way(str(n), OSError(str(n))) for n in range(50)], discard=ways.discarded.append)
    assert len(ways.begun) == MAX_ATTEMPTS


def names(*addresses: str) -> Names:
    return Names(lambda _host, family: list(addresses) if family == FAMILIES[1] else [])


async def test_the_second_address_is_reached_when_the_first_is_dead() -> None:
    server = await asyncio.start_server(lambda _reader, writer: writer.close(), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server:
        with hole(port):
            known = names("127.0.0.9", "127.0.0.1")
            for _ in range(2):  # the second time it comes first
                one = await connect("hub.test", port, names=known)
                assert one.getpeername() == ("127.0.0.1", port)
                assert not one.getblocking()
                one.close()
            assert await known.resolve("hub.test") == ["127.0.0.1", "127.0.0.9"]


async def test_nobody_there() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        with pytest.raises(ConnectionRefusedError):
            await connect("127.0.0.1", taken.getsockname()[1])


async def test_a_kernel_that_cannot_send_at_once_connects_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(socket, "TCP_NODELAY", 9999)  # an option that no kernel has
    with socket.create_server(("127.0.0.1", 0)) as there:
        one = await connect("127.0.0.1", there.getsockname()[1])
        assert one.getpeername() == there.getsockname()
        one.close()
