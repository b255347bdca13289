"""The hub's proof of life: its loop turns and its database answers.

One rule: it is the work itself that is tried, a question through the store's own thread, and not a timer.
coturn is no part of it: a hub without one still brings direct calls together, and starts it again by itself.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

from voicemeet_edge.errors import EnvironmentFault

logger = logging.getLogger(__name__)

BEAT_S = 5.0  # s between two questions
LIMIT_S = 30.0  # s without an answer after which the hub counts as hung; a slow card writes for seconds


class Pulse:
    """Ask again and again; `is_alive` says whether the last answer is recent."""

    def __init__(self, ask: Callable[[], Awaitable[object]]) -> None:
        self._ask = ask
        self._answered_at = time.monotonic()

    def is_alive(self) -> bool:
        """Say whether an answer came within `LIMIT_S`."""
        return time.monotonic() - self._answered_at < LIMIT_S

    async def run(self) -> None:
        """Ask until cancelled."""
        while True:
            try:
                await self._ask()
            except EnvironmentFault as error:  # it answers, if only with a refusal; a full disk is no hang
                logger.debug("the store answers: %s", error.code)
            self._answered_at = time.monotonic()
            await asyncio.sleep(BEAT_S)
