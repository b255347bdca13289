"""The desk page from the desk's own machine: its own files, its own origin, a pinned way to the hub."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import aiohttp
import pytest

from tests.desk.conftest import Desks
from tests.hub.running import loopback, run
from voicemeet_edge.backend.verbs import REALTIME_PATH, VERB_PATH
from voicemeet_edge.choices import Language
from voicemeet_edge.hub import own_desk
from voicemeet_edge.hub.own_desk import running_desk
from voicemeet_edge.hub.settings import MatchSettings
from voicemeet_edge.languages.catalogue import text
from voicemeet_edge.testing.browser import Browser

pytestmark = [pytest.mark.system, pytest.mark.timeout(180)]


async def test_an_own_desk_is_called_over_a_hub_with_a_certificate_of_its_own(
    desks: Desks, tmp_path: Path
) -> None:
    settings = loopback(tmp_path / "tls", tls="self-signed", match=MatchSettings(open_pools=("*",)))
    async with run(settings) as hub, running_desk(hub.info.url, hub.info.pin) as address:
        desk = await desks.stack.enter_async_context(Browser(address))
        caller = await desks.stack.enter_async_context(Browser(f"{address}?role=caller"))
        for page in (desk, caller):
            await page.wait_for("window.voicemeet !== undefined")
            await page.click("#start")
            await page.wait_for("voicemeet.state === 'ready'")
        await caller.click("#call")
        await desk.wait_for("voicemeet.state === 'ringing'")
        await desk.press("Enter")
        await caller.wait_for("voicemeet.state === 'talking'")
        # Nothing the hub serves was asked for: the page's files are this installation's.
        loaded = await desk.evaluate("performance.getEntriesByType('resource').map((entry) => entry.name)")
        assert all(str(name).startswith(address.removesuffix("desk/")) for name in loaded)


async def test_an_own_desk_ends_soon_though_a_page_is_open(tmp_path: Path) -> None:
    # Fails without its shutdown timeout: the page holds a socket, for which aiohttp waits a minute.
    async with contextlib.AsyncExitStack() as stack:
        hub = await stack.enter_async_context(run(loopback(tmp_path / "tls", tls="self-signed")))
        http = await stack.enter_async_context(aiohttp.ClientSession())
        async with contextlib.AsyncExitStack() as desk:
            address = await desk.enter_async_context(running_desk(hub.info.url, hub.info.pin))
            socket_url = address.removesuffix("/desk/") + REALTIME_PATH
            query = {"apikey": hub.info.apikey.reveal(), "vsn": "2.0.0"}
            await stack.enter_async_context(http.ws_connect(socket_url, params=query))
            async with asyncio.timeout(30):
                await desk.aclose()


async def test_an_own_desk_speaks_to_no_other_hub_and_to_no_other_page(tmp_path: Path) -> None:
    # Fails without the pin, and without _only_here (hub/own_desk.py).
    async with (
        run(loopback(tmp_path / "tls", tls="self-signed")) as hub,
        running_desk(hub.info.url, "ab" * 32) as address,
        aiohttp.ClientSession() as http,
    ):
        async with http.get(f"{address}config.json") as answer:
            assert answer.status == 502
            assert (await answer.json())["error"]["code"] == "pin_mismatch"
        for headers in ({"Host": "evil.example"}, {"Origin": "https://evil.example"}):
            async with http.get(address, headers=headers) as answer:
                assert answer.status in (421, 403)


async def test_an_own_desk_says_why_the_hub_is_not_reached(desks: Desks) -> None:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))  # and does not listen
        port = one.getsockname()[1]
        async with running_desk(f"https://127.0.0.1:{port}", "ab" * 32) as address:
            desk = await desks.stack.enter_async_context(Browser(address))
            await desk.wait_for("window.voicemeet !== undefined")
            await desk.click("#start")
            await desk.wait_for("voicemeet.state === 'offline'")
            said = await desk.evaluate("document.body.innerText")
    assert text(Language.EN, "offline.nobody_listens") in str(said)


@contextlib.asynccontextmanager
async def hub_that(answers: Callable[[asyncio.StreamWriter], Awaitable[None]]) -> AsyncIterator[str]:
    """Be a hub that takes a request, and answers as it likes."""
    async with contextlib.AsyncExitStack() as stack:

        async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            stack.push_async_callback(writer.wait_closed)
            stack.callback(writer.close)
            await reader.readuntil(b"\r\n\r\n")
            await answers(writer)

        async with await asyncio.start_server(take, "127.0.0.1", 0) as server:
            yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def test_an_answer_that_comes_in_pieces_is_carried_whole() -> None:
    body = json.dumps({"apikey": "key", "pools": ["p" * 40] * 40}).encode()

    async def in_pieces(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(body))
        for at in range(0, len(body), 1000):
            writer.write(body[at : at + 1000])
            await asyncio.sleep(0.1)

    async with hub_that(in_pieces) as url, running_desk(url) as address, aiohttp.ClientSession() as http:
        async with http.get(f"{address}config.json") as answer:
            assert (answer.status, (await answer.json())["apikey"]) == (200, "key")
        verb = address.removesuffix("/desk/") + f"{VERB_PATH}/match"
        async with http.post(verb, json={}) as answer:
            assert await answer.read() == body


async def test_a_hub_that_takes_a_socket_and_says_nothing_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    # Fails without a limit: each try of the page holds one of its few places, until none is left.
    monkeypatch.setattr(own_desk, "HUB_TIMEOUT_S", 0.5)

    async def nothing(_writer: asyncio.StreamWriter) -> None:
        pass

    async with hub_that(nothing) as url, running_desk(url) as address, aiohttp.ClientSession() as http:
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            async with asyncio.timeout(20):
                await http.ws_connect(address.removesuffix("/desk/") + REALTIME_PATH)
        assert refused.value.status == 502


@pytest.mark.parametrize(
    ("url", "code"),
    [("https://no-such-name.invalid", "name_unknown"), ("https://127.0.0.1:1", "nobody_listens")],
)
async def test_the_pages_own_server_names_the_reason(url: str, code: str) -> None:
    async with (
        running_desk(url) as address,
        aiohttp.ClientSession() as http,
        http.get(f"{address}config.json") as answer,
    ):
        assert (await answer.json())["error"]["code"] == code
