"""One thread that waits for edges on all watched lines and hands each to its handler.

One rule: after `remove` returns, the handler of that request is not running and will not run again.
"""

from __future__ import annotations

import logging
import select
import threading
import time
from collections.abc import Callable

from gpiod import EdgeEvent

from voicemeet_edge.panel.gpiod_api import LineRequest
from voicemeet_edge.threads import named_thread
from voicemeet_edge.wake import Wake

logger = logging.getLogger(__name__)

MAX_EVENTS_PER_READ = 16  # events; the kernel's own buffer for one line
WAIT_LIMIT_MS = 2500  # ms; it proves with each that it lives (system/watchdog.py), and a wake-up may be lost
JOIN_LIMIT_S = 2.0  # s; the thread never does more than one ioctl between two looks at `_stopping`

Handler = Callable[[EdgeEvent], None]


class EdgeReader:
    """Read edge events in a thread of its own; starts with the first request, ends with `close`."""

    def __init__(self) -> None:
        # Re-entrant, since a handler may remove its own request.
        self._lock = threading.RLock()
        self._watched: dict[int, tuple[LineRequest, Handler]] = {}
        self._waking = Wake()
        self._thread: threading.Thread | None = None
        self._stopping = False
        self.alive_at: float | None = None
        """When the thread last began to wait (monotonic); moves on every `WAIT_LIMIT_MS`. None: no thread."""

    def add(self, request: LineRequest, handler: Handler) -> None:
        """Call `handler` in the reader's thread for every edge of this request."""
        with self._lock:
            if self._stopping:
                raise RuntimeError("the edge reader is closed")
            self._watched[request.fileno()] = (request, handler)
            if self._thread is None:
                self.alive_at = time.monotonic()
                self._thread = named_thread("gpio-edges", self._run)
                self._thread.start()
        self._wake()

    def remove(self, request: LineRequest) -> None:
        """Stop reading this request; idempotent."""
        with self._lock:
            self._watched = {fd: pair for fd, pair in self._watched.items() if pair[0] is not request}
        self._wake()

    def close(self) -> None:
        """End the thread; idempotent."""
        with self._lock:
            if self._stopping:
                return
            self._stopping = True
            self._watched.clear()
            thread = self._thread
        self._wake()
        if thread is not None and thread is not threading.current_thread():
            thread.join(JOIN_LIMIT_S)
            if thread.is_alive():
                # The thread still polls the descriptor: leaking it beats closing it under the thread.
                logger.warning("The GPIO edge thread did not end in time")
                return
        self._waking.close()

    def _wake(self) -> None:
        try:
            self._waking.set()
        except OSError:  # closed meanwhile
            pass

    def _run(self) -> None:
        while True:
            poller = select.poll()
            poller.register(self._waking, select.POLLIN)
            with self._lock:
                if self._stopping:
                    return
                for fd in self._watched:
                    poller.register(fd, select.POLLIN)
            self.alive_at = time.monotonic()
            for fd, what in poller.poll(WAIT_LIMIT_MS):
                if fd == self._waking.fileno():
                    self._waking.clear()
                else:
                    self._serve(fd, what)

    def _serve(self, fd: int, what: int) -> None:
        """Read and deliver what waits on one descriptor, unless it was removed meanwhile."""
        with self._lock:
            pair = self._watched.get(fd)
            if pair is None:
                return
            request, handler = pair
            try:
                # Asked again under the lock: the number may belong to a newer request by now, and a read
                # with nothing to read would block for ever.
                events = request.read_edge_events(MAX_EVENTS_PER_READ) if request.wait_edge_events(0) else []
            except Exception as error:  # a released request raises its own kind, a lost chip OSError
                logger.warning("A GPIO line can no longer be read: %s", type(error).__name__)
                del self._watched[fd]
                return
            if not events and what & (select.POLLERR | select.POLLHUP | select.POLLNVAL):
                logger.warning("A GPIO line is gone")
                del self._watched[fd]
            for event in events:
                try:
                    handler(event)
                except Exception:  # the top of this thread: one bad handler must not end the others
                    logger.exception("A GPIO edge handler failed")
