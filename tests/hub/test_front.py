"""What a person meets who types the hub's bare address, http instead of https, or wants its certificate."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

import pytest

from tests.hub.running import RunningHub, loopback, run
from voicemeet_edge.backend.pin import certificate_pin, tls_context


async def plain(hub: RunningHub, head: bytes) -> bytes:
    """Send plain bytes to the port that speaks https, and read to the end."""
    reader, writer = await asyncio.open_connection("127.0.0.1", hub.info.port)
    writer.write(head)
    try:
        async with asyncio.timeout(20):
            return await reader.read()
    finally:
        writer.close()


async def test_the_bare_address_leads_to_the_desk(hub: RunningHub) -> None:
    answer = await hub.get("/")
    assert (answer.status, answer.headers["Location"]) == (302, "/desk/")


async def test_without_tls_there_is_no_certificate(hub: RunningHub) -> None:
    assert (await hub.get("/certificate.pem")).status == 404


async def test_the_certificate_is_the_pinned_one_and_comes_without_its_key(tmp_path: Path) -> None:
    async with run(loopback(tmp_path / "state", tls="self-signed")) as hub:
        url = f"{hub.info.url}/certificate.pem"
        async with hub.http.get(url, ssl=tls_context(hub.info.pin)) as response:
            assert response.status == 200
            pem = await response.text()
    assert certificate_pin(ssl.PEM_cert_to_DER_cert(pem)) == hub.info.pin
    assert "PRIVATE" not in pem


@pytest.mark.parametrize("asked", ["/", "/desk/?pool=lobby"])
async def test_plain_http_is_sent_to_https(tmp_path: Path, asked: str) -> None:
    async with run(loopback(tmp_path / "state", tls="self-signed")) as hub:
        answer = await plain(hub, f"GET {asked} HTTP/1.1\r\nHost: localhost:{hub.info.port}\r\n\r\n".encode())
        assert answer.startswith(b"HTTP/1.1 308 ")
        assert f"Location: https://localhost:{hub.info.port}{asked}\r\n".encode() in answer
        verb = await plain(hub, b"POST /functions/v1/voicemeet/session HTTP/1.1\r\nHost: x\r\n\r\n{}")
        assert verb.startswith(b"HTTP/1.1 426 ")
        assert b"use https" in verb
        # And TLS goes on as before, on the same port.
        async with hub.http.get(f"{hub.info.url}/healthz", ssl=tls_context(hub.info.pin)) as response:
            assert response.status == 200


async def test_who_connects_and_says_nothing_does_not_keep_the_hub(tmp_path: Path) -> None:
    async with run(loopback(tmp_path / "state", tls="self-signed")) as hub:
        _, silent = await asyncio.open_connection("127.0.0.1", hub.info.port)
        gone, writer = await asyncio.open_connection("127.0.0.1", hub.info.port)
        writer.write_eof()
        async with asyncio.timeout(20):
            assert await gone.read() == b""
        async with hub.http.get(f"{hub.info.url}/healthz", ssl=tls_context(hub.info.pin)) as response:
            assert response.status == 200
        for one in (silent, writer):
            one.close()
