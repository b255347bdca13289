"""Keeps the book of passes as the database has it; the one rule: nobody is refused by an old book.

The command line writes beside the running hub. What it took back counts within `PASSES_INTERVAL_S`; what it
gave counts at once, because a link is opened as soon as it is printed.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import TypeVar

from voicemeet_edge.hub.admission import Admission
from voicemeet_edge.hub.refusal import RefusedError
from voicemeet_edge.hub.store import Store, StoreError

logger = logging.getLogger(__name__)

PASSES_INTERVAL_S = 1.0  # s until what was taken back on the command line counts

_Result = TypeVar("_Result")


class PassReading:
    """Reads passes and admission keys into an `Admission`."""

    def __init__(self, store: Store, admission: Admission) -> None:
        self._store = store
        self._admission = admission
        self._version = -1
        # A book is read in several steps: an older one must not be put into the place of a newer.
        self._lock = asyncio.Lock()
        self._looks = 0  # begun until now

    async def run(self) -> None:
        """Look again and again; runs until cancelled."""
        while True:
            await self._look()
            await asyncio.sleep(PASSES_INTERVAL_S)

    async def anew(self) -> None:
        """Let what this hub itself has just written count."""
        async with self._lock:
            self._admission.book = await self._store.pass_book()

    async def heeding(self, check: Callable[[], _Result]) -> _Result:
        """Return what `check` says; a refusal stands only if the database, asked now, knows no better."""
        before = self._admission.book
        try:
            return check()
        except RefusedError:
            await self._look(self._looks)
            if self._admission.book is before:
                raise
        return check()

    async def _look(self, earlier: int | None = None) -> None:
        """Read the book if another process has written since.

        A look that began after `earlier` ones serves this caller, too: many strangers who are refused in one
        moment cost one look.
        """
        async with self._lock:
            if earlier is not None and self._looks > earlier:
                return
            self._looks += 1
            try:
                latest = await self._store.version()
                if latest != self._version:
                    self._admission.book = await self._store.pass_book()
                    self._version = latest
            except StoreError as error:
                logger.error("passes could not be read: %s", error)
