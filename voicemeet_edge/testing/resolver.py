"""A name server that knows one name, and can be slow, deaf or dead (RFC 1035); for tests and benches."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import struct
from typing import Any

HEADER = struct.Struct("!HHHHHH")
A, ANSWER_FLAGS, TTL_S = 1, 0x8580, 1
MAX_QUESTION = 300  # bytes; a name has at most 255


class NameServer(asyncio.DatagramProtocol):
    """Answers every question for IPv4 with one address, and every other with nothing."""

    def __init__(self, address: str) -> None:
        self._address = ipaddress.IPv4Address(address).packed
        self._transport: asyncio.DatagramTransport | None = None
        self.delay_s: float | None = 0.0
        """How long it thinks; None: it never answers."""

    @classmethod
    async def start(cls, address: str, bound: socket.socket) -> NameServer:
        """Answer on this bound UDP socket until `close`."""
        loop = asyncio.get_running_loop()
        _, server = await loop.create_datagram_endpoint(lambda: cls(address), sock=bound)
        return server

    def connection_made(self, transport: Any) -> None:
        """Keep the transport."""
        self._transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        """Take a question."""
        if self.delay_s is None or not HEADER.size + 5 <= len(data) <= MAX_QUESTION:
            return
        asyncio.get_running_loop().call_later(self.delay_s, self._answer, data, addr)

    def _answer(self, question: bytes, addr: Any) -> None:
        end = question.index(b"\0", HEADER.size) + 5
        kind = int.from_bytes(question[end - 4 : end - 2], "big")
        found = b""
        if kind == A:
            found = b"\xc0\x0c" + struct.pack("!HHIH", A, 1, TTL_S, 4) + self._address
        number = int.from_bytes(question[:2], "big")
        head = HEADER.pack(number, ANSWER_FLAGS, 1, bool(found), 0, 0)
        if self._transport is not None:
            self._transport.sendto(head + question[HEADER.size : end] + found, addr)

    def close(self) -> None:
        """Stop answering."""
        if self._transport is not None:
            self._transport.close()
