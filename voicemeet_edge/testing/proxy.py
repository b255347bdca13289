"""Between client and server: a TCP proxy that forgets connections without a word, as NATs and roaming do."""

from __future__ import annotations

import asyncio
import contextlib
from types import TracebackType
from typing import Self

CHUNK_BYTES = 65536


class FreezingProxy:
    """Passes bytes both ways; `freeze` lets nothing more through the connections of this moment."""

    def __init__(self, port: int, host: str = "127.0.0.1", *, listen: str = "127.0.0.1") -> None:
        """Lead to a server at this place."""
        self._target = (host, port)
        self._listen = listen
        self._sockets: set[object] = set()
        self._others: set[object] = set()
        self._frozen: set[object] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self.port = 0
        """Where clients reach it."""

    def freeze(self, *, websockets_only: bool = True) -> int:
        """Forget the connections there are, WebSockets or all; new ones pass. Returns how many that were."""
        chosen = self._sockets if websockets_only else self._sockets | self._others
        self._frozen |= chosen
        return len(chosen)

    def lead_to(self, port: int, host: str = "127.0.0.1") -> None:
        """Lead new connections to a server at another place, as a name does that moved."""
        self._target = (host, port)

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, self._listen, 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._server is not None:
            self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        me = object()
        there: asyncio.StreamWriter | None = None
        kind = self._others
        try:
            first = await reader.read(CHUNK_BYTES)
            kind = self._sockets if b"upgrade: websocket" in first.lower() else self._others
            kind.add(me)
            back, there = await asyncio.open_connection(*self._target)
            there.write(first)
            await asyncio.gather(self._pump(me, reader, there), self._pump(me, back, writer))
        except OSError:
            pass
        finally:
            kind.discard(me)
            self._tasks.discard(task)
            for one in (writer, there):
                if one is not None:
                    one.transport.abort()

    async def _pump(self, me: object, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        while data := await source.read(CHUNK_BYTES):
            if me not in self._frozen:
                sink.write(data)
                await sink.drain()
        if me in self._frozen:
            await asyncio.Event().wait()  # not even the end is told
        with contextlib.suppress(OSError):
            sink.write_eof()
