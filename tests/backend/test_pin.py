"""The pin is checked inside the handshake: with a wrong one the server never sees a byte of ours."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from websockets.asyncio.client import connect

from voicemeet_edge.backend.pin import PinMismatchError, certificate_pin, normalize_pin, tls_context
from voicemeet_edge.hub.tls import make_self_signed

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Server:
    """A TLS server that keeps what it was sent."""

    def __init__(self, port: int, pin: str) -> None:
        self.port = port
        self.pin = pin
        self.received = bytearray()


@contextlib.asynccontextmanager
async def tls_server(directory: Path) -> AsyncIterator[Server]:
    pem = directory / "both.pem"
    pem.write_bytes(make_self_signed(["hub.example"]))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    text = pem.read_text()
    der = ssl.PEM_cert_to_DER_cert(text[text.index("-----BEGIN CERTIFICATE") :])
    server = Server(0, certificate_pin(der))

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            data = await reader.read(4096)
            server.received += data
            if data:
                writer.write(ANSWER)
                await writer.drain()
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()

    listener = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    server.port = listener.sockets[0].getsockname()[1]
    async with listener:
        yield server


def get(port: int, context: ssl.SSLContext) -> bytes:
    connection = http.client.HTTPSConnection("127.0.0.1", port, context=context, timeout=10)
    try:
        connection.request("GET", "/secret")
        return connection.getresponse().read()
    finally:
        connection.close()


async def test_right_pin_opens_http_client(tmp_path: Path) -> None:
    async with tls_server(tmp_path) as server:
        assert await asyncio.to_thread(get, server.port, tls_context(server.pin)) == b"ok"
        assert b"/secret" in server.received


async def test_wrong_pin_stops_http_client_before_a_byte(tmp_path: Path) -> None:
    async with tls_server(tmp_path) as server:
        with pytest.raises(PinMismatchError):
            await asyncio.to_thread(get, server.port, tls_context("0" * 64))
    assert not server.received


async def test_wrong_pin_stops_asyncio_before_a_byte(tmp_path: Path) -> None:
    async with tls_server(tmp_path) as server:
        with pytest.raises(ssl.SSLCertVerificationError):
            await asyncio.open_connection("127.0.0.1", server.port, ssl=tls_context("0" * 64))
    assert not server.received


async def test_wrong_pin_stops_websockets_before_a_byte(tmp_path: Path) -> None:
    async with tls_server(tmp_path) as server:
        with pytest.raises(ssl.SSLCertVerificationError):
            await connect(f"wss://127.0.0.1:{server.port}/?apikey=x", ssl=tls_context("0" * 64), proxy=None)
    assert not server.received


async def test_right_pin_opens_asyncio(tmp_path: Path) -> None:
    async with tls_server(tmp_path) as server:
        context = tls_context(server.pin)
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port, ssl=context)
        writer.write(b"hello")
        assert await reader.read(len(ANSWER)) == ANSWER
        writer.close()
        await writer.wait_closed()


async def test_without_a_pin_a_self_signed_certificate_is_refused(tmp_path: Path) -> None:
    async with tls_server(tmp_path) as server:
        with pytest.raises(ssl.SSLCertVerificationError):
            await asyncio.to_thread(get, server.port, tls_context())
    assert not server.received


def test_pins_are_forgiving_in_form_only() -> None:
    assert normalize_pin(" AB:" + "cd" * 31 + "\n") == "ab" + "cd" * 31
    for bad in ("", "ab", "g" * 64, "a" * 63):
        with pytest.raises(ValueError, match="64 hex digits"):
            normalize_pin(bad)
