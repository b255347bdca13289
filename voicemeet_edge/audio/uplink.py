"""From the capture thread to the loop: a bounded handover of encoded frames.

One rule: when the loop stands still, new frames push out old ones; nothing piles up and nobody waits.

The loop is woken by an eventfd of this object's own: one number written and one read for each frame, where
call_soon_threadsafe takes a lock, builds a handle, and reads its socket until it is empty.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections import deque
from collections.abc import Callable

IN_FLIGHT_LIMIT = 6  # frames (120 ms); older speech would only add delay when the loop moves again


class Uplink:
    """Hand payloads of one call to `send` on the loop; made and stopped on it."""

    def __init__(self, loop: asyncio.AbstractEventLoop, send: Callable[[bytes, int], None]) -> None:
        self._loop = loop
        self._send = send
        self._frames: deque[tuple[bytes, int]] = deque(maxlen=IN_FLIGHT_LIMIT)
        self._stopped = loop.is_closed()
        self.sent = 0
        self.dropped = 0
        # Closed with the last reference only: a thread may just be writing, and a number used again by
        # another file must not be written to.
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        if not self._stopped:
            loop.add_reader(self._wake, self._drain)

    def put(self, payload: bytes, timestamp: int) -> None:
        """Queue one frame; called by the capture thread."""
        if self._stopped:
            return
        if len(self._frames) == IN_FLIGHT_LIMIT:
            self.dropped += 1
        self._frames.append((payload, timestamp))
        os.eventfd_write(self._wake, 1)

    def stop(self) -> None:
        """Send nothing more; called on the loop."""
        self._stopped = True
        self._frames.clear()
        if not self._loop.is_closed():
            self._loop.remove_reader(self._wake)

    def _drain(self) -> None:
        # Read first: a frame put from here on wakes us again, so none is left lying.
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._wake)
        while self._frames and not self._stopped:
            payload, timestamp = self._frames.popleft()
            self.sent += 1
            self._send(payload, timestamp)

    def __del__(self) -> None:
        if hasattr(self, "_wake"):
            os.close(self._wake)
