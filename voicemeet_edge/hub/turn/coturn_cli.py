"""Ends allocations through coturn's command line, which listens on loopback with a password.

One rule: best effort within a second or two; a relay that cannot be asked is bounded by its quotas. coturn
goes on without a word when it cannot have the port, so no other program gets it: it is held here.
"""

from __future__ import annotations

import asyncio
import logging
import re
import socket

from voicemeet_edge.secret import Secret
from voicemeet_edge.timeouts import timeout

logger = logging.getLogger(__name__)

HOST = "127.0.0.1"
TIMEOUT_S = 3.0  # s for the whole conversation; coturn answers in milliseconds
MAX_ANSWER_BYTES = 256 * 1024  # bytes of one answer; a session's lines have about 500
MAX_SESSIONS = 16  # allocations ended for one slot; its quota is smaller
PROMPT = b"> "
_SESSION = re.compile(rb"id=(\d{1,20}), user <")


class CoturnCli:
    """The command line of one coturn."""

    def __init__(self, password: Secret) -> None:
        self._password = password
        self._holder: socket.socket | None = None
        self._port = 0

    def take_port(self) -> int:
        """Choose a port for the next coturn and hold it until `close`. Raises: OSError, when none is free."""
        self.close()
        # Shared with whoever asks the kernel to share and is the same user, as coturn does and is.
        # Connections go to who listens, and this one never does.
        holder = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            holder.bind((HOST, 0))
        except OSError:
            holder.close()
            raise
        self._holder, self._port = holder, int(holder.getsockname()[1])
        return self._port

    def close(self) -> None:
        """Let go of the port; idempotent."""
        if self._holder is not None:
            self._holder.close()
            self._holder = None

    async def end_allocations(self, user_part: str) -> int:
        """End all allocations whose user name ends in this part; return how many, 0 when coturn is away."""
        try:
            async with timeout(TIMEOUT_S):
                reader, writer = await asyncio.open_connection(HOST, self._port, limit=MAX_ANSWER_BYTES)
                try:
                    return await self._end(reader, writer, user_part)
                finally:
                    writer.close()
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
            logger.debug("coturn's command line: %s", type(error).__name__)
            return 0

    async def _end(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, user_part: str) -> int:
        await reader.readuntil(b"password: ")
        await _say(reader, writer, self._password.reveal())
        answer = await _say(reader, writer, f"psp {user_part}")
        sessions = [match.decode() for match in _SESSION.findall(answer)][:MAX_SESSIONS]
        for session in sessions:
            await _say(reader, writer, f"cs {session}")
        writer.write(b"quit\r\n")
        return len(sessions)


async def _say(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, line: str) -> bytes:
    writer.write(line.encode() + b"\r\n")
    return await reader.readuntil(PROMPT)
