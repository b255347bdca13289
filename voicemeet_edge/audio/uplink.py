"""From the capture thread to the loop: a bounded handover of encoded frames.

One rule: when the loop stands still, new frames push out old ones; nothing piles up and nobody waits.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

IN_FLIGHT_LIMIT = 6  # frames (120 ms); older speech would only add delay when the loop moves again


class Uplink:
    """Hand payloads of one call to `send` on the loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, send: Callable[[bytes, int], None]) -> None:
        self._loop = loop
        self._send = send
        self._frames: deque[tuple[bytes, int]] = deque(maxlen=IN_FLIGHT_LIMIT)
        self._woken = False
        self._stopped = False
        self.sent = 0
        self.dropped = 0

    def put(self, payload: bytes, timestamp: int) -> None:
        """Queue one frame; called by the capture thread."""
        if self._stopped:
            return
        if len(self._frames) == IN_FLIGHT_LIMIT:
            self.dropped += 1
        self._frames.append((payload, timestamp))
        if not self._woken:
            self._woken = True
            try:
                self._loop.call_soon_threadsafe(self._drain)
            except RuntimeError:  # the loop is closed: the device is being switched off
                self._stopped = True

    def stop(self) -> None:
        """Send nothing more; called on the loop."""
        self._stopped = True
        self._frames.clear()

    def _drain(self) -> None:
        # Cleared first: a frame put from here on wakes us again, so none is left lying.
        self._woken = False
        while self._frames and not self._stopped:
            payload, timestamp = self._frames.popleft()
            self.sent += 1
            self._send(payload, timestamp)
