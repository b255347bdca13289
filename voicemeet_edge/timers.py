"""One timer of the loop, armed at the deadline that a pure core names.

One rule: whoever told a core something sets this again. A core that names a time in the past is called with
the next turn of the loop, never from within `set`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

EARLY = 0.05  # of a beat


def next_beat(every_s: float, now: float | None = None) -> float:
    """Return when to look next (monotonic) at what is looked at each so many seconds; `now`: told or read.

    All that looks comes to beats of one clock: tasks that look together wake the process once.
    """
    # A loop may call up to its clock's resolution too early: that is this beat, and not the one before it.
    now = time.monotonic() if now is None else now
    return ((now + EARLY * every_s) // every_s + 1.0) * every_s


async def sleep_to_beat(every_s: float) -> None:
    """Sleep until the next beat."""
    await asyncio.sleep(next_beat(every_s) - time.monotonic())


class DeadlineTimer:
    """Call `fire(now)` at the deadline; made on the running loop, whose clock is `time.monotonic`.

    `run` belongs into the owner's task group: it raises what `fire` raised, for a core that can no longer be
    called must not be waited for.
    """

    def __init__(self, fire: Callable[[float], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._fire = fire
        self._deadline: float | None = None
        self._handle: asyncio.TimerHandle | None = None
        self._broken: asyncio.Future[None] = self._loop.create_future()

    def set(self, deadline: float | None) -> None:
        """Be called at this time (seconds, monotonic) instead of the one before; None: not at all."""
        if deadline == self._deadline:
            return
        self.cancel()
        if deadline is not None:
            self._deadline = deadline
            self._handle = self._loop.call_at(deadline, self._due)

    def cancel(self) -> None:
        """Be called no more; idempotent."""
        self._deadline = None
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    async def run(self) -> None:
        """Wait until cancelled; raises what `fire` raised."""
        try:
            await self._broken
        finally:
            self.cancel()

    def _due(self) -> None:
        self._deadline = self._handle = None
        try:
            self._fire(self._loop.time())
        except Exception as error:
            if self._broken.done():
                raise
            self._broken.set_exception(error)
