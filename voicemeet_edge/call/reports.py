"""Reports on their way: held in RAM, sent again until there is a receipt or a refusal.

One rule: a report the person filed is never lost silently; its owner is told of every outcome.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from voicemeet_edge.backend.client import Backend
from voicemeet_edge.call.machine import ReportState
from voicemeet_edge.errors import BackendError
from voicemeet_edge.secret import Secret
from voicemeet_edge.signaling.reconnect import Backoff
from voicemeet_edge.timeouts import timeout

logger = logging.getLogger(__name__)

MAX_HELD = 16  # reports; one a call, and calls need the network that reports wait for
HOLD_S = 3600.0  # seconds; the backend takes a call's token that long after the call


@dataclass(frozen=True)
class _Held:
    token: Secret
    reason: str
    until: float


class ReportOutbox:
    """Send reports one after the other, oldest first."""

    def __init__(self, backend: Backend, on_change: Callable[[ReportState], None]) -> None:
        self._backend = backend
        self._on_change = on_change
        self._held: deque[_Held] = deque()
        self._wake = asyncio.Event()
        self.receipts = 0
        """How many receipts came back since the start."""

    def __len__(self) -> int:
        return len(self._held)

    def file(self, call_token: Secret, reason: str) -> None:
        """Take a report; the outcome comes by `on_change`."""
        if len(self._held) >= MAX_HELD:
            self._on_change(ReportState.FAILED)
            return
        self._held.append(_Held(call_token, reason, time.monotonic() + HOLD_S))
        self._wake.set()

    def network_back(self) -> None:
        """Something saw the network return: do not wait any longer."""
        self._wake.set()

    async def run(self) -> None:
        """Work for ever; cancel to stop."""
        backoff = Backoff()
        while True:
            while not self._held:  # the network coming back wakes us too
                self._wake.clear()
                await self._wake.wait()
                backoff = Backoff()
            self._wake.clear()
            wait_s = await self._send(self._held[0], backoff)
            if wait_s is None:
                self._held.popleft()
                continue
            try:
                async with timeout(wait_s):
                    await self._wake.wait()
            except TimeoutError:
                pass

    async def _send(self, held: _Held, backoff: Backoff) -> float | None:
        """Try once; None when this report is settled, else the seconds to wait."""
        try:
            await self._backend.report(held.token, held.reason)
        except BackendError as error:
            if not error.retryable or time.monotonic() >= held.until:
                logger.warning("report: refused: %s", error.code)
                self._on_change(ReportState.FAILED)
                return None
            logger.info("report: waiting for the network") if backoff.failures == 0 else None
            self._on_change(ReportState.WAITING)
            wait_s = backoff.failed(asyncio.get_running_loop().time())
            return error.retry_after_s if error.retry_after_s is not None else wait_s
        self.receipts += 1
        logger.info("report: receipt received")
        self._on_change(ReportState.SENT)
        return None
