"""The device's status on a Unix socket: whoever may open it asks one word and is answered in JSON lines.

One rule: it only tells. Nothing can be set here, and a slow or silent asker costs a bounded little. What can
be asked for is the device's own test, which nobody notices.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import socket
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

from voicemeet_edge.errors import EnvironmentFault
from voicemeet_edge.system.snapshot import Snapshot
from voicemeet_edge.timeouts import timeout

logger = logging.getLogger(__name__)

SOCKET = Path("/run/voicemeet-edge/status.sock")  # where the unit makes room for it; cli.py says the same
MAX_ASKERS = 8  # at once; more are turned away
MAX_WORD = 64  # bytes of a question
ASK_LIMIT_S = 5.0  # s to ask, and to take each answer
TEST_LIMIT_S = 120.0  # s a client waits for the device's own test, which takes 8 when all is well
WATCH_S = 1.0  # s between two answers to `watch`, when something changed
ALWAYS_MOVING = ("up_s", "health")  # no reason to tell a watcher something
ALWAYS_ANSWERED = ("status", "watch", "metrics")
TURNED_AWAY = "the device did not answer: too many ask at once (`status --watch`), or it stops; try again"
MAX_ANSWER = 262_144  # bytes a client takes of one answer; ours have about 3,000


class StatusServer:
    """Answer `status`, `watch`, `metrics` and `self-test` on a Unix socket.

    Args:
        snapshot: makes what is told.
        metrics: makes the text of the metrics.
        path: where the socket is; its folder must exist.
        test: runs the device's own test.
    """

    def __init__(
        self,
        snapshot: Callable[[], Snapshot],
        metrics: Callable[[], str],
        path: Path,
        *,
        test: Callable[[], Awaitable[dict[str, object]]] | None = None,
    ) -> None:
        self._test = test
        self._snapshot = snapshot
        self._metrics = metrics
        self._path = path
        self._server: asyncio.AbstractServer | None = None
        self._askers: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Begin to listen; without a place for the socket the device does without, and says so."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._path)
        try:
            self._server = await asyncio.start_unix_server(self._take, str(self._path), limit=MAX_WORD)
        except OSError as error:
            logger.info("the status socket cannot be opened: %s", error.strerror)

    async def close(self) -> None:
        """Stop; whoever watches is let go."""
        if self._server is not None:
            self._server.close()
            for asker in list(self._askers):
                asker.cancel()
            await asyncio.gather(*self._askers, return_exceptions=True)
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._path)
            self._server = None

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is None or len(self._askers) >= MAX_ASKERS:
            writer.close()
            return
        self._askers.add(task)
        try:
            async with timeout(ASK_LIMIT_S):
                word = (await reader.readline()).strip()
            await self._answer(word, reader, writer)
        except (OSError, TimeoutError, ValueError) as error:
            logger.debug("an asker went away: %s", type(error).__name__)
        finally:
            self._askers.discard(task)
            writer.close()

    async def _answer(self, word: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if word == b"metrics":
            await _send(writer, self._metrics())
        elif word == b"status":
            await _send(writer, json.dumps(self._snapshot()) + "\n")
        elif word == b"self-test" and self._test is not None:
            await _send(writer, json.dumps(await self._test()) + "\n")
        elif word == b"watch":
            said = ""
            while not writer.is_closing() and not reader.at_eof():  # who has gone says so by that alone
                snapshot = self._snapshot()
                text = json.dumps({key: snapshot[key] for key in snapshot if key not in ALWAYS_MOVING})
                if text != said:
                    said = text
                    await _send(writer, json.dumps(snapshot) + "\n")
                await asyncio.sleep(WATCH_S)


async def _send(writer: asyncio.StreamWriter, text: str) -> None:
    writer.write(text.encode())
    async with timeout(ASK_LIMIT_S):
        await writer.drain()


def ask(word: str, path: Path = SOCKET) -> Iterator[str]:
    """Ask a running device and yield its answers, line by line. Blocks.

    Raises:
        EnvironmentFault: no device runs here, it turned us away, or its socket is not ours to open.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        try:
            limits = {"watch": None, "self-test": TEST_LIMIT_S}
            connection.settimeout(limits.get(word, ASK_LIMIT_S))
            connection.connect(str(path))
            connection.sendall(word.encode() + b"\n")
            with connection.makefile("r", encoding="utf-8") as file:
                told = word not in ALWAYS_ANSWERED
                while line := file.readline(MAX_ANSWER):
                    told = True
                    yield line.rstrip("\n")
            if not told:
                raise EnvironmentFault(TURNED_AWAY, code="no_status")
        except (ConnectionResetError, BrokenPipeError):
            raise EnvironmentFault(TURNED_AWAY, code="no_status") from None
        except PermissionError:
            said = "the status is for root and the device's user: run it with sudo"
            raise EnvironmentFault(said, code="no_status") from None
        except OSError as error:
            reason = error.strerror or "no answer"
            said = f"no device runs here ({path}: {reason}): `sudo systemctl start voicemeet-edge` starts it"
            raise EnvironmentFault(said, code="no_status") from None
