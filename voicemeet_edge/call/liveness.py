"""When a call's path is dead, when a new connection is asked for, and which of two is used.

One rule: the connection in use is given up only when a new one is up, so that a short outage heals by
itself and a changed address by a new connection, whichever is first. One that the peer closed, after
which it says nothing, has ended the call: a page that crashed, a device that started again. Told the time
(seconds, monotonic); no clock, no task, no connection: those are named by the attempt they were made for.

    nothing ──connected──► up ──nothing heard──► lost ──heard, or a new one connected──► up
       └────failed────► the call fails            └── asks for a new connection every 3 s

While there is nothing to send a frame of silence goes out now and then: that is how each side knows that
the other still hears it, and how a healed path is noticed.
"""

from __future__ import annotations

from math import inf

from voicemeet_edge.call.commands import DropConnection, SendSilence, Tell, UseConnection
from voicemeet_edge.call.machine import Event
from voicemeet_edge.reasons import EndReason
from voicemeet_edge.records import dataclass

SILENT_S = 1.6  # s without a packet: a call must notice within 2 s, and a Wi-Fi scan takes 1
FIRST_PACKET_S = 8.0  # s the peer may take to open its microphone (a browser asks its person)
BYE_GRACE_S = 1.0  # s a goodbye may come after the connection was closed; signaling is slower
GONE_S = 3.0  # s after that closing; who is still there has said something by then: an offer, an answer
QUIET_S = 0.2  # s; nothing sent for so long: silence is sent
STALL_S = 0.3  # s; called so late, it was we who stood still, and the peer's silence proves nothing yet
RESTART_EVERY_S = 3.0  # s one new connection gets before the next is tried

# Somebody sits between: this end was shown a false certificate, or the other end one instead of ours. The
# next attempt would only hide it.
_FALSE_CERTIFICATE = frozenset({EndReason.FINGERPRINT_MISMATCH, EndReason.CERTIFICATE_REFUSED})


@dataclass(frozen=True, slots=True)
class RestartPath:
    """A new connection should be negotiated now."""


LivenessCommand = Tell | UseConnection | DropConnection | SendSilence | RestartPath


class Liveness:
    """All connections of one call, at most two at a time; see the module's docstring."""

    def __init__(self) -> None:
        self.is_up = False
        """A connection was up once; from then on the call outlives a failed one."""
        self.is_lost = False
        """Nothing arrives any more: `heard` must be told at once, not with the next timer."""
        self.pending: int | None = None
        """The attempt that is being built."""
        self._current: int | None = None
        self._pinned = b""  # the peer's fingerprint in the first connection
        self._up_at = 0.0
        self._heard_at = 0.0
        self._given_up_at = inf  # the connection in use was closed or failed: it counts as dead from here on
        self._gone_at = inf  # the peer closed the connection in use: gone, unless it says something by then
        self._sent_at = 0.0
        self._restart_at = 0.0

    @property
    def deadline(self) -> float | None:
        """The time at which `handle_timer` wants to be called; None before the first connection."""
        if not self.is_up:
            return None
        looks_at = self._restart_at if self.is_lost else self._dead_at
        return min(looks_at, self._sent_at + QUIET_S, self._gone_at)

    @property
    def _dead_at(self) -> float:
        """By when the next packet must have come."""
        first = self._heard_at <= self._up_at
        patience = self._up_at + FIRST_PACKET_S if first else self._heard_at + SILENT_S
        return min(patience, self._given_up_at)

    def building(self, attempt: int, now: float) -> list[LivenessCommand]:
        """A connection is being built for this attempt; one that was not ready by now is dropped for it."""
        old, self.pending = self.pending, attempt
        self._restart_at = now + RESTART_EVERY_S
        return [DropConnection(old)] if old is not None else []

    def connected(self, attempt: int, fingerprint: bytes, now: float) -> list[LivenessCommand]:
        """The connection of this attempt is up, with a peer of this certificate's fingerprint."""
        if attempt != self.pending:
            return []
        self.pending = None
        if self.is_up and fingerprint != self._pinned:
            # Same call, other certificate: the check words would no longer say who this is.
            return [DropConnection(attempt), Tell(Event.FAILED, EndReason.FINGERPRINT_CHANGED)]
        is_news = not self.is_up or self.is_lost
        self.is_up, self.is_lost = True, False
        self._pinned = fingerprint
        self._current = attempt
        self._up_at = now
        self._given_up_at = inf
        self._gone_at = inf
        self._sent_at = now - QUIET_S
        used: list[LivenessCommand] = [UseConnection(attempt)]
        return [*used, Tell(Event.CONNECTED)] if is_news else used

    def failed(self, attempt: int, reason: EndReason, now: float) -> list[LivenessCommand]:
        """The connection of this attempt will not (or no longer) work."""
        if attempt not in (self.pending, self._current):
            return []
        if attempt == self._current and reason not in _FALSE_CERTIFICATE:
            self._given_up_at = now
            return []
        if attempt == self.pending:
            self.pending = None
        drop: list[LivenessCommand] = [DropConnection(attempt)]
        if not self.is_up or reason in _FALSE_CERTIFICATE:
            drop.append(Tell(Event.FAILED, reason))
        return drop

    def closed_by_peer(self, attempt: int, now: float) -> list[LivenessCommand]:
        """The peer closed the connection of this attempt."""
        if not self.is_up or attempt != self._current:
            return self.failed(attempt, EndReason.PEER_CLOSED, now)
        # Most often its bye is on the way, or a new connection takes this one's place.
        self._gone_at = now + GONE_S
        self._given_up_at = min(self._given_up_at, now + BYE_GRACE_S)
        return []

    def spoken_to(self) -> None:
        """The peer said something by signaling: it is there, and closed its connection to make a new one."""
        self._gone_at = inf

    def heard(self, at: float) -> list[LivenessCommand]:
        """A packet came over the connection in use; told at once while lost, else before `handle_timer`."""
        is_new, self._heard_at = at > self._heard_at, max(self._heard_at, at)
        if not self.is_lost or not is_new or at >= self._given_up_at:
            return []
        self.is_lost = False
        return [Tell(Event.CONNECTED)]

    def sent(self, at: float) -> None:
        """A frame was sent; told before `handle_timer`."""
        self._sent_at = max(self._sent_at, at)

    def handle_timer(self, now: float) -> list[LivenessCommand]:
        """Do what is due at `now`; harmless when nothing is."""
        commands: list[LivenessCommand] = []
        if not self.is_up:
            return commands
        if not self.is_lost and now > self._dead_at + STALL_S and now < self._given_up_at:
            self._heard_at = now + STALL_S - SILENT_S  # what waits in the sockets is taken in first
        if not self.is_lost and now >= self._dead_at:
            self.is_lost = True
            self._restart_at = now
            commands.append(Tell(Event.PATH_LOST))
        if now >= self._gone_at:
            self._gone_at = inf
            self._restart_at = now + RESTART_EVERY_S
            commands.append(Tell(Event.FAILED, EndReason.PEER_CLOSED))
        elif self.is_lost and now >= self._restart_at:
            self._restart_at = now + RESTART_EVERY_S
            commands.append(RestartPath())
        if now >= self._sent_at + QUIET_S:
            self._sent_at = now
            commands.append(SendSilence())
        return commands
