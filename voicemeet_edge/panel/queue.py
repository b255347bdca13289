"""Button events on their way from a panel to the app, bounded.

One rule: the newest events win; what a person did long before the app looked is not done late.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator

from voicemeet_edge.panel.interface import PanelEvent

MAX_WAITING_EVENTS = 16  # events; more presses than a person makes during the longest stall


class ButtonQueue:
    """A queue of one loop and one reader; `put` and `close` only on that loop."""

    def __init__(self) -> None:
        self._events: deque[PanelEvent] = deque(maxlen=MAX_WAITING_EVENTS)
        self._changed = asyncio.Event()
        self._closed = False

    def put(self, event: PanelEvent) -> None:
        """Add an event; drops the oldest when full, and all after `close`."""
        if not self._closed:
            self._events.append(event)
            self._changed.set()

    def close(self) -> None:
        """End the iteration once what waits is taken; idempotent."""
        self._closed = True
        self._changed.set()

    async def events(self) -> AsyncIterator[PanelEvent]:
        """Yield events until closed."""
        while True:
            while self._events:
                yield self._events.popleft()
            if self._closed:
                return
            self._changed.clear()
            await self._changed.wait()
