"""Reports on their way, as values: which is sent next and when, and what became of each.

One rule: a report the person filed is never lost silently: each ends as SENT or FAILED. Told the time
(seconds, monotonic); call/reports.py sends.
"""

from __future__ import annotations

from collections import deque

from voicemeet_edge.call.machine import ReportState
from voicemeet_edge.records import dataclass
from voicemeet_edge.secret import Secret
from voicemeet_edge.signaling.reconnect import Backoff

MAX_HELD = 16  # reports; one a call, and calls need the network that reports wait for
HOLD_S = 3600.0  # s; the backend takes a call's token that long after the call


@dataclass(frozen=True)
class HeldReport:
    """A report that has no receipt yet."""

    token: Secret
    reason: str
    until: float
    """When there is no use in sending it any more, seconds, monotonic."""


class Outbox:
    """The reports of one device, oldest first, one at a time."""

    def __init__(self) -> None:
        self._held: deque[HeldReport] = deque()
        self._backoff = Backoff()
        self._due_at = float("-inf")
        self._is_hinted = False  # something happened while one was being sent

    def __len__(self) -> int:
        return len(self._held)

    @property
    def deadline(self) -> float | None:
        """When `next_report` has something to send; None while nothing is held."""
        return self._due_at if self._held else None

    def file(self, token: Secret, reason: str, now: float) -> ReportState | None:
        """Take a report, to be sent at once; FAILED when too many are held already."""
        if len(self._held) >= MAX_HELD:
            return ReportState.FAILED
        if not self._held:
            self._backoff = Backoff()
        self._held.append(HeldReport(token, reason, now + HOLD_S))
        self.network_back(now)
        return None

    def network_back(self, now: float) -> None:
        """Something saw the network return: wait no longer."""
        self._due_at = min(self._due_at, now)
        self._is_hinted = True

    def next_report(self, now: float) -> HeldReport | None:
        """Return the report to send now; then tell `sent` or `refused`."""
        if not self._held or now < self._due_at:
            return None
        self._is_hinted = False
        return self._held[0]

    def sent(self) -> ReportState:
        """The report is filed: there is a receipt."""
        self._held.popleft()
        return ReportState.SENT

    def refused(self, now: float, *, is_retryable: bool, asked_s: float | None = None) -> ReportState:
        """The report was not taken; `asked_s`: how long the backend wants us to wait."""
        if not is_retryable or now >= self._held[0].until:
            self._held.popleft()
            return ReportState.FAILED
        wait_s = self._backoff.failed(now, asked_s=asked_s)
        self._due_at = now if self._is_hinted else now + wait_s
        return ReportState.WAITING
