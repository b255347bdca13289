"""What somebody hears who speaks plain HTTP to a port that speaks https: where to go instead.

The one rule: nothing but the request's head is read, and of that only the first line and the Host.
"""

from __future__ import annotations

import asyncio
import json
import re
import socket
from typing import Final

from voicemeet_edge.timeouts import timeout

TLS_HANDSHAKE: Final = 0x16  # first byte of a TLS connection (RFC 8446 section 5.1)
MAX_HEAD: Final = 4_096  # bytes of the head that are looked at
HEAD_S: Final = 2.0  # s for the head; it comes with the first packet

_HOST: Final = re.compile(rb"^host:[ \t]*([A-Za-z0-9.:\[\]-]{1,255})[ \t]*\r?$", re.IGNORECASE | re.MULTILINE)
_PATH: Final = re.compile(rb"^(GET|HEAD) (/[!-~]{0,1023}) HTTP/1\.[01]\r?$", re.MULTILINE)


async def first_byte(sock: socket.socket) -> int | None:
    """Wait for the first byte of a non-blocking socket and leave it there; None when it was closed."""
    loop = asyncio.get_running_loop()
    readable: asyncio.Future[None] = loop.create_future()
    loop.add_reader(sock, _done, readable)
    try:
        await readable
    finally:
        loop.remove_reader(sock)
    peeked = sock.recv(1, socket.MSG_PEEK)
    return peeked[0] if peeked else None


def _done(readable: asyncio.Future[None]) -> None:
    if not readable.done():
        readable.set_result(None)


async def say_use_https(sock: socket.socket) -> None:
    """Answer a plain request; whoever reads or writes too slowly hears nothing."""
    loop = asyncio.get_running_loop()
    async with timeout(HEAD_S):
        await loop.sock_sendall(sock, answer_to(await loop.sock_recv(sock, MAX_HEAD)))


def answer_to(head: bytes) -> bytes:
    """Return the answer: a browser is sent to https, everything else is told to use it."""
    host, asked = _HOST.search(head), _PATH.match(head)
    if host is not None and asked is not None:
        place = f"https://{host[1].decode()}{asked[2].decode()}"
        body = f"This hub speaks https only. Use {place}\n".encode()
        return _response(
            "308 Permanent Redirect", "text/plain; charset=utf-8", body, f"Location: {place}\r\n"
        )
    error = {"code": "use_https", "message": "this hub speaks https only: use https:// in its address"}
    return _response("426 Upgrade Required", "application/json", json.dumps({"error": error}).encode())


def _response(status: str, kind: str, body: bytes, extra: str = "") -> bytes:
    head = (
        f"HTTP/1.1 {status}\r\n{extra}Content-Type: {kind}\r\nContent-Length: {len(body)}\r\n"
        "Cache-Control: no-store\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + body
