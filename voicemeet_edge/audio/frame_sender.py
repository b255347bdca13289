"""From the capture thread to the network: sent in that thread where the path allows it, else on the loop.

One rule: when the loop stands still, new frames push out old ones; nothing piles up and nobody waits.

The loop is woken by a descriptor of this object's own: one number written and one read for each frame, where
call_soon_threadsafe takes a lock, builds a handle, and reads its socket until it is empty.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque

from voicemeet_edge.voice.packet import VoiceLink
from voicemeet_edge.wake import Wake

IN_FLIGHT_LIMIT = 6  # frames (120 ms); older speech would only add delay when the loop moves again


class FrameSender:
    """Hand payloads of one call to its link; made and stopped on the loop."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        link: VoiceLink,
        *,
        red: bool = False,
    ) -> None:
        """Prepare to send through `link`; on the loop, except while the link takes it from any thread."""
        self._loop = loop
        self._link = link
        self._red = red
        self._frames: deque[tuple[bytes, int]] = deque(maxlen=IN_FLIGHT_LIMIT)
        self._stopped = loop.is_closed()
        # Held while a frame leaves: once `stop` returns, not one more does.
        self._leaving = threading.Lock()
        self.sent = 0
        self.dropped = 0
        # Closed with the last reference only: a thread may just be writing, and a number used again by
        # another file must not be written to.
        self._wake = Wake()
        if not self._stopped:
            loop.add_reader(self._wake, self._drain)

    def put(self, payload: bytes, timestamp: int) -> None:
        """Send or queue one frame; called by the capture thread."""
        # Frames that still wait go first.
        if not self._frames and self._link.sends_in_any_thread:
            with self._leaving:
                if not self._stopped:
                    self.sent += 1
                    self._link.send(payload, timestamp, red=self._red)
            return
        if self._stopped:
            return
        if len(self._frames) == IN_FLIGHT_LIMIT:
            self.dropped += 1
        self._frames.append((payload, timestamp))
        self._wake.set()

    def stop(self) -> None:
        """Send nothing more; called on the loop."""
        with self._leaving:
            self._stopped = True
        self._frames.clear()
        if not self._loop.is_closed():
            self._loop.remove_reader(self._wake)

    def _drain(self) -> None:
        # Read first: a frame put from here on wakes us again, so none is left lying.
        self._wake.clear()
        while self._frames and not self._stopped:
            payload, timestamp = self._frames.popleft()
            self.sent += 1
            self._link.send(payload, timestamp, red=self._red)

    def __del__(self) -> None:
        if hasattr(self, "_wake"):
            self._wake.close()
