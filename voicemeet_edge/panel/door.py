"""The door release: a relay on a line of its own, held by a process that lets go by itself.

One rule: this process never drives the line, except to its rest when it starts. See panel/door_keeper.py.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
from collections.abc import Callable, Sequence
from typing import Protocol

from typing_extensions import override

from voicemeet_edge.panel.door_keeper import MAX_OPEN_S, OPENED
from voicemeet_edge.timeouts import timeout

logger = logging.getLogger(__name__)

START_LIMIT_S = 10.0  # s for the keeper to have the line; it starts an interpreter, on a Zero 2 W a slow one
END_LIMIT_S = 5.0  # s for it to go once it was told
KEEPER = "voicemeet_edge.panel.door_keeper"
MAX_WORDS = 200  # characters of its last words in our log


class DoorOpener(Protocol):
    """Something that can be opened for some seconds."""

    async def open(self, seconds: float) -> bool:
        """Open; False when it could not be. Returns once it is open, and does not wait for its end."""

    async def close(self) -> None:
        """Let go at once; idempotent."""


class NoDoor(DoorOpener):
    """No relay."""

    @override
    async def open(self, seconds: float) -> bool:
        """Nothing to open."""
        return False

    @override
    async def close(self) -> None:
        """Nothing to let go."""


def _keeper_command() -> tuple[str, ...]:
    """What starts the keeper: alone, without the environment, and from where this program was loaded."""
    start = f"import sys; sys.path[:] = {sys.path!r}; from {KEEPER} import main; main()"
    return (sys.executable, "-I", "-S", "-c", start)


class DoorRelease(DoorOpener):
    """The relay on one line of a GPIO chip.

    Args:
        find: returns the line's chip and offset; asked each time, since chips come and go.
        low: the relay is drawn by a low line.
        command: what runs the keeper, when not the one of this package; for tests.
    """

    def __init__(
        self,
        find: Callable[[], tuple[str, int]],
        *,
        low: bool,
        command: Sequence[str] = (),
    ) -> None:
        self._find = find
        self._low = low
        self._command = tuple(command) or _keeper_command()
        self._keeper: asyncio.subprocess.Process | None = None
        self._waiting: asyncio.Task[None] | None = None
        self._lock = asyncio.Lock()

    @property
    def is_open(self) -> bool:
        """It is held just now."""
        return self._waiting is not None and not self._waiting.done()

    @override
    async def open(self, seconds: float) -> bool:
        """Open for so long, MAX_OPEN_S at most; asked again meanwhile, the time is not prolonged."""
        async with self._lock:
            if self.is_open:
                return True
            await self._end()  # of one that was given up while it opened
            try:
                async with timeout(START_LIMIT_S):
                    return await self._start(min(seconds, MAX_OPEN_S))
            except TimeoutError:
                logger.warning("The door cannot be opened: its keeper did not start in time")
            except asyncio.CancelledError:
                if self._keeper is not None and self._keeper.stdin is not None:
                    self._keeper.stdin.close()  # whoever asked is gone, and nobody would hear that it opened
                raise
            except Exception as error:  # of the pin factory in use, each with errors of its own
                logger.warning("The door cannot be opened: %s", type(error).__name__)
            await self._end()
            return False

    async def wait_shut(self) -> None:
        """Wait until it is not open, by its own clock."""
        if self._waiting is not None:
            await asyncio.shield(self._waiting)

    @override
    async def close(self) -> None:
        """Let go at once; idempotent."""
        async with self._lock:
            await self._end()

    async def _start(self, seconds: float) -> bool:
        chip, offset = self._find()
        keeper = self._keeper = await asyncio.create_subprocess_exec(
            *self._command,
            chip,
            str(offset),
            f"{seconds:g}",
            "low" if self._low else "high",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        assert keeper.stdout is not None
        assert keeper.stderr is not None
        if await keeper.stdout.readline() != OPENED:
            words = (await keeper.stderr.read(MAX_WORDS)).decode(errors="replace").strip()
            logger.warning("The door cannot be opened: %s", words or "its keeper ended")
            await self._end()
            return False
        logger.info("The door is open")
        self._waiting = asyncio.create_task(self._wait(keeper))
        return True

    async def _wait(self, keeper: asyncio.subprocess.Process) -> None:
        """Note the end of the keeper, by its own clock."""
        status = await keeper.wait()
        if self._keeper is keeper:
            self._keeper = None
        if status == 0:
            logger.info("The door release has let go")
        else:
            logger.error("The keeper of the door ended with %d: the door may be open", status)

    async def _end(self) -> None:
        keeper, waiting = self._keeper, self._waiting
        if keeper is not None:
            assert keeper.stdin is not None
            keeper.stdin.close()  # which it takes as the order to let go
            try:
                async with timeout(END_LIMIT_S):
                    await keeper.wait()
            except TimeoutError:
                keeper.terminate()
                with contextlib.suppress(TimeoutError):
                    async with timeout(END_LIMIT_S):
                        await keeper.wait()
            if keeper.returncode is None:
                # Not killed: it alone can bring the line to rest, and what hung it may pass.
                logger.error("The keeper of the door does not end: the door may be open")
                return
        if waiting is not None:
            await waiting
        self._keeper = self._waiting = None
