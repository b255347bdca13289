"""Sends the reports of `Outbox` and tells their owner of every outcome.

One rule: nothing is decided here; reports are in RAM only, and gone with the power.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

from voicemeet_edge.backend.client import Backend
from voicemeet_edge.call.machine import ReportState
from voicemeet_edge.call.outbox import HeldReport, Outbox
from voicemeet_edge.errors import BackendError, is_retryable
from voicemeet_edge.secret import Secret
from voicemeet_edge.timeouts import timeout

logger = logging.getLogger(__name__)


class ReportSender:
    """Send reports one after the other, oldest first."""

    def __init__(self, backend: Backend, on_change: Callable[[ReportState], None]) -> None:
        self._backend = backend
        self._on_change = on_change
        self._outbox = Outbox()
        self._wake = asyncio.Event()
        self._said = ReportState.NONE

    def file(self, call_token: Secret, reason: str) -> None:
        """Take a report; the outcome comes by `on_change`."""
        outcome = self._outbox.file(call_token, reason, time.monotonic())
        self._wake.set()
        if outcome is not None:
            self._on_change(outcome)

    def network_back(self) -> None:
        """Something saw the network return: do not wait any longer."""
        self._outbox.network_back(time.monotonic())
        self._wake.set()

    async def run(self) -> None:
        """Work for ever; cancel to stop."""
        while True:
            self._wake.clear()
            report = self._outbox.next_report(time.monotonic())
            if report is not None:
                outcome = await self._send(report)
                # A night without network must not fill the journal: what is said already is not said again.
                logger.log(
                    logging.DEBUG if outcome is self._said else logging.INFO, "report: %s", outcome.value
                )
                self._said = outcome if outcome is ReportState.WAITING else ReportState.NONE
                self._on_change(outcome)
                continue
            deadline = self._outbox.deadline
            try:
                async with timeout(None if deadline is None else deadline - time.monotonic()):
                    await self._wake.wait()
            except TimeoutError:
                pass  # the deadline itself

    async def _send(self, report: HeldReport) -> ReportState:
        try:
            await self._backend.report(report.token, report.reason)
        except BackendError as error:
            logger.log(
                logging.DEBUG if is_retryable(error) else logging.WARNING,
                "report: the backend refused it: %s",
                error.code,
            )
            return self._outbox.refused(
                time.monotonic(), is_retryable=is_retryable(error), asked_s=error.retry_after_s
            )
        return self._outbox.sent()
