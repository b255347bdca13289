"""Ends allocations through coturn's command line, which listens on loopback with a password.

One rule: best effort within a second or two; a relay that cannot be asked is bounded by its quotas.
"""

from __future__ import annotations

import asyncio
import logging
import re

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

    def __init__(self, port: int, password: Secret) -> None:
        self._port = port
        self._password = password

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
