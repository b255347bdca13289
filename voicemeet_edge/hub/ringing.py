"""What a caller that rings all desks has found so far: a call for each desk, and no desk twice.

Pure, a part of `Matcher`; the one rule: the backend only makes pairs. Which of its calls becomes the
conversation is the caller's to decide.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import field
from typing import TYPE_CHECKING

from voicemeet_edge.backend.verbs import MAX_LEGS, DeskState
from voicemeet_edge.records import dataclass

if TYPE_CHECKING:
    from voicemeet_edge.hub.matching import CallPlace, QueueEntry

MAX_COUNTED = 100  # of a line, of desks: more than that need not be told apart, and counting takes time


@dataclass(slots=True, eq=False)
class Leg:
    """One desk of a ringing ticket."""

    matched: CallPlace
    desk: QueueEntry
    kept_until: float
    collected: bool = False
    """The caller has heard of it."""


@dataclass(frozen=True, slots=True)
class Ringing:
    """How the ringing of a ticket stands."""

    poll_after_s: float
    calls: tuple[CallPlace, ...]
    place: int
    busy: int
    away: int


@dataclass(slots=True, eq=False)
class TicketCalls:
    """The calls of one ringing ticket."""

    legs: dict[str, Leg] = field(default_factory=dict)
    rung: dict[str, str] = field(default_factory=dict)
    """Desks by device, each with its call: none is found twice."""
    is_full: bool = False
    """Its address has all the calls it may have: it finds no more for now."""

    def may_find(self, desk: str) -> bool:
        """Say whether this ticket wants (another) desk."""
        return not self.is_full and desk not in self.rung and len(self.rung) < MAX_LEGS

    def add(self, leg: Leg) -> None:
        """A desk was found."""
        call_id = leg.matched.match.call_id
        self.legs[call_id] = leg
        self.rung[leg.desk.device] = call_id

    def drop(self, call_id: str) -> None:
        """Forget a call, so that its desk may be found again."""
        if self.legs.pop(call_id, None) is not None:
            self.rung = {desk: call for desk, call in self.rung.items() if call != call_id}

    def collect(self, now: float) -> tuple[CallPlace, ...]:
        """Return the calls that are still told of; the caller hears of them now."""
        for leg in self.legs.values():
            leg.collected = True
        return tuple(leg.matched for leg in self.legs.values() if leg.kept_until > now)


def count_states(desks: Iterable[QueueEntry], ring: TicketCalls) -> dict[DeskState, int]:
    """Count the desks that are on duty, take no call just now, and were not rung by this ticket."""
    counts = {DeskState.BUSY: 0, DeskState.AWAY: 0}
    for desk, _ in zip(desks, range(MAX_COUNTED), strict=False):
        if desk.device not in ring.rung and desk.state in counts:
            counts[desk.state] += 1
    return counts


def may_ring(one: QueueEntry, other: QueueEntry) -> bool:
    """Say whether a ringing one of the two has not found the other yet."""
    if one.ring is not None:
        return one.ring.may_find(other.device)
    return other.ring is None or other.ring.may_find(one.device)
