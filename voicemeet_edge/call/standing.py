"""A door that can be called: it stands by with one ticket after the other, whatever else the device does.

One rule: it only says who calls. That it rings, and that only a person opens the microphone, is the
call machine's business.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from voicemeet_edge.backend.verbs import MatchedReply
from voicemeet_edge.call.search import Search
from voicemeet_edge.errors import BackendError

logger = logging.getLogger(__name__)

REFUSED_S = 60.0  # s until a backend that refused us is asked again: somebody may make a pass meanwhile
APART_S = 1.0  # s between two calls: each costs a certificate, and whoever matches us may be hostile


class StandingBy:
    """Stands by until cancelled, which leaves the pool."""

    def __init__(self, new_search: Callable[[], Search], on_called: Callable[[MatchedReply], None]) -> None:
        self._new_search = new_search
        self._on_called = on_called

    async def run(self) -> None:
        """Stand by for ever."""
        refused = ""
        while True:
            try:
                self._on_called(await self._new_search().find())
                refused = ""
            except BackendError as error:
                level = logging.DEBUG if error.code == refused else logging.INFO
                refused = error.code
                logger.log(level, "no desk can call this door: %s (%s)", error, error.code)
                await asyncio.sleep(REFUSED_S)
            await asyncio.sleep(APART_S)
