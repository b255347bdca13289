"""The backend client against real sockets that behave well, badly or not at all."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import threading
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from tests.net.holes import hole
from voicemeet_edge.backend import client
from voicemeet_edge.backend.client import Backend
from voicemeet_edge.backend.verbs import MAX_REPLY_BYTES, Role
from voicemeet_edge.errors import BackendError
from voicemeet_edge.net.names import Names
from voicemeet_edge.secret import Secret
from voicemeet_edge.testing.proxy import FreezingProxy

TICKET = "t" * 22
TOKEN = Secret("device.jwt")
OK = {"ok": True}

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@contextlib.asynccontextmanager
async def backend_at(serve: Serve, timeout_s: float = 20.0) -> AsyncIterator[Backend]:
    handlers: set[asyncio.Task[None]] = set()

    async def guarded(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        handlers.add(task)
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            await serve(reader, writer)
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()

    server = await asyncio.start_server(guarded, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    backend = Backend(f"http://127.0.0.1:{port}", Secret("key"), timeout_s=timeout_s)
    try:
        async with server:
            yield backend
            await backend.close()
            if handlers:
                await asyncio.wait(handlers)
    finally:
        await backend.close()


async def read_request(reader: asyncio.StreamReader) -> tuple[str, dict[str, str], bytes]:
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    first, *lines = head.strip().split("\r\n")
    headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
    return first, headers, await reader.readexactly(int(headers.get("content-length", "0")))


def answer(body: object, status: str = "200 OK", extra: str = "") -> bytes:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(raw)}\r\n{extra}\r\n".encode() + raw


def always(reply: bytes) -> Serve:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await read_request(reader)
            writer.write(reply)

    return serve


async def test_a_verb_is_one_post_with_key_and_token() -> None:
    seen: list[tuple[str, dict[str, str], bytes]] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await read_request(reader))
        writer.write(answer(OK))
        await writer.drain()

    async with backend_at(serve) as backend:
        await backend.leave(TOKEN, TICKET)
    first, headers, body = seen[0]
    assert first == "POST /functions/v1/voicemeet/leave HTTP/1.1"
    assert headers["apikey"] == "key"
    assert headers["authorization"] == "Bearer device.jwt"
    assert json.loads(body) == {"ticket": TICKET}


async def test_connection_is_kept_and_a_stale_one_is_replaced() -> None:
    connections = 0

    async def two_then_gone(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        for _ in range(2):
            await read_request(reader)
            writer.write(answer(OK))
        await writer.drain()

    async with backend_at(two_then_gone) as backend:
        for _ in range(3):
            await backend.leave(TOKEN, TICKET)
    assert connections == 2


@pytest.mark.parametrize(
    ("reply", "code", "status", "retry_after_s", "retryable"),
    [
        (
            answer({"error": {"code": "pool_full", "message": "m", "retry_after_s": 4}}, "503 No"),
            "pool_full",
            503,
            4,
            True,
        ),
        (
            answer({"error": {"code": "refused_risk", "message": "m"}}, "403 No"),
            "refused_risk",
            403,
            None,
            False,
        ),
        (answer(b"<html>", "429 Slow", "Retry-After: 7\r\n"), "http_429", 429, 7, True),
        (answer(b"<html>", "500 Oops"), "http_500", 500, None, True),
        (answer(b"", "302 Found", "Location: http://127.0.0.1:9/\r\n"), "redirect", 302, None, True),
        (answer(b"<html>"), "bad_reply", 502, None, True),
        (answer([1]), "bad_reply", 502, None, True),
        (answer({"ok": "yes"}), "bad_reply", 502, None, True),
        (answer(b"x" * (MAX_REPLY_BYTES + 1)), "reply_too_large", 200, None, True),
        (b"garbage\r\n\r\n", "bad_reply", 0, None, True),
    ],
)
async def test_every_bad_answer_is_a_backend_error(
    reply: bytes, code: str, status: int, retry_after_s: float | None, retryable: bool
) -> None:
    async with backend_at(always(reply)) as backend:
        with pytest.raises(BackendError) as caught:
            await backend.leave(TOKEN, TICKET)
    error = caught.value
    assert (error.code, error.status, error.retry_after_s) == (code, status, retry_after_s)
    assert error.retryable is retryable


async def test_nobody_there_is_retryable_and_names_no_address() -> None:
    backend = Backend("http://127.0.0.1:9", Secret("key"))
    with pytest.raises(BackendError) as caught:
        await backend.session()
    await backend.close()
    assert caught.value.code == "nobody_listens"
    assert caught.value.retryable
    assert "127" not in str(caught.value)


async def test_silence_ends_in_a_timeout() -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with backend_at(silent, timeout_s=0.2) as backend:
        with pytest.raises(BackendError) as caught:
            await backend.session()
    assert caught.value.code == "timeout"


async def test_dripping_answer_ends_in_a_timeout_too() -> None:
    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        while True:
            writer.write(b"H")
            await writer.drain()
            await asyncio.sleep(0.02)

    async with backend_at(drip, timeout_s=0.3) as backend:
        with pytest.raises(BackendError) as caught:
            await backend.session()
    assert caught.value.code == "timeout"


async def test_cancelled_verb_is_not_sent_again_and_frees_the_thread() -> None:
    requests: list[str] = []
    arrived = asyncio.Event()

    async def first_hangs(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            first, _, _ = await read_request(reader)
            requests.append(first.split()[1].rpartition("/")[2])
            if requests[-1] == "match":
                arrived.set()
                await reader.read()
                return
            writer.write(answer(OK))

    async with backend_at(first_hangs) as backend:
        await backend.leave(TOKEN, TICKET)  # so that the match goes over a kept connection
        search = asyncio.create_task(backend.match(TOKEN, TICKET, "public", Role.EITHER))
        await arrived.wait()
        search.cancel()
        with pytest.raises(asyncio.CancelledError):
            await search
        await backend.leave(TOKEN, TICKET)
    assert requests == ["leave", "match", "leave"]


async def test_close_ends_thread_and_connection() -> None:
    async with backend_at(always(answer(OK))) as backend:
        await backend.leave(TOKEN, TICKET)
        thread = next(thread for thread in threading.enumerate() if thread.name.startswith("backend"))
        await backend.close()
        await backend.close()
        with pytest.raises(BackendError) as caught:
            await backend.leave(TOKEN, TICKET)
        assert caught.value.code == "closed"
    await asyncio.to_thread(thread.join, 20)
    assert not thread.is_alive()


@pytest.mark.parametrize("url", ["", "hub.example", "ftp://hub.example", "http://"])
def test_only_http_urls(url: str) -> None:
    with pytest.raises(ValueError, match="URL"):
        Backend(url, Secret("key"))


def hub_test(*addresses: str) -> Names:
    return Names(lambda _host, family: list(addresses) if family == socket.AF_INET else [])


async def test_the_second_address_is_tried_when_the_first_leads_nowhere(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(
        "voicemeet_edge.net.eyeballs.connect.__kwdefaults__", {"names": hub_test("127.0.0.9", "127.0.0.1")}
    )
    async with backend_at(always(answer(OK))) as reachable:
        assert reachable._port is not None
        with hole(reachable._port):
            backend = Backend(f"http://hub.test:{reachable._port}", Secret("key"))
            await backend.leave(TOKEN, TICKET)
            await backend.close()


async def test_a_name_nobody_knows_says_so() -> None:
    backend = Backend("http://no-such-name.invalid", Secret("key"))
    with pytest.raises(BackendError) as caught:
        await backend.session()
    await backend.close()
    assert caught.value.code == "name_unknown"
    assert "no-such-name" not in str(caught.value)


@pytest.mark.parametrize("idle", [True, False])
async def test_a_kept_connection_that_was_forgotten_without_a_word_is_replaced(
    idle: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "PATIENCE_S", 0.3)
    monkeypatch.setattr(client, "IDLE_PATIENCE_S", 0.2)
    asked: list[str] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            first, _, _ = await read_request(reader)
            asked.append(first.split()[1].rpartition("/")[2])
            writer.write(answer(OK))

    async with backend_at(serve) as real:
        assert real._port is not None
        async with FreezingProxy(real._port) as proxy:
            backend = Backend(f"http://127.0.0.1:{proxy.port}", Secret("key"))
            await backend.leave(TOKEN, TICKET)
            assert proxy.freeze(websockets_only=False) == 1
            if idle:
                backend.network_changed()
            await backend.leave(TOKEN, TICKET)
            await backend.close()
    assert asked == ["leave", "leave"]


async def test_giving_up_while_connecting_frees_the_thread() -> None:
    async with backend_at(always(answer(OK))) as real:
        assert real._port is not None
        with hole(real._port):
            backend = Backend(f"http://127.0.0.9:{real._port}", Secret("key"))
            hanging = asyncio.create_task(backend.leave(TOKEN, TICKET))
            await asyncio.sleep(0.1)
            hanging.cancel()
            with pytest.raises(asyncio.CancelledError):
                await hanging
            backend._host = "127.0.0.1"
            await asyncio.wait_for(backend.leave(TOKEN, TICKET), 5.0)
            await backend.close()


async def test_a_request_that_waits_on_a_forgotten_connection_is_sent_again_when_the_network_changes() -> (
    None
):
    asked: list[str] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            first, _, _ = await read_request(reader)
            asked.append(first.split()[1].rpartition("/")[2])
            writer.write(answer(OK))

    async with backend_at(serve) as real:
        assert real._port is not None
        async with FreezingProxy(real._port) as proxy:
            backend = Backend(f"http://127.0.0.1:{proxy.port}", Secret("key"))
            await backend.leave(TOKEN, TICKET)
            proxy.freeze(websockets_only=False)
            waiting = asyncio.create_task(backend.leave(TOKEN, TICKET))
            await asyncio.sleep(0.1)
            backend.network_changed()
            began = asyncio.get_running_loop().time()
            await waiting
            assert asyncio.get_running_loop().time() - began < client.IDLE_PATIENCE_S
            await backend.close()
    assert asked == ["leave", "leave"]
