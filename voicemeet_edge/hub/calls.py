"""The calls that live now; the one rule: in RAM only, bounded, gone soon after the call.

Who talks to whom is needed for one thing: that a report raises the other party's score. It is never
written down; a restart of the hub forgets it, and running calls go on without it. Pure; unix seconds.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field

from ..backend.verbs import Slot
from .matching import Match
from .risk import Score
from .turn import Grant

MAX_CALLS = 20_000  # calls remembered, about 20 MB; more than any one hub carries at once


@dataclass(slots=True)
class Call:
    """One call: until when it may last, and what was said about it."""

    match: Match
    until: float
    grants: dict[Slot, Grant] = field(default_factory=dict)
    ended: set[Slot] = field(default_factory=set)
    reported: dict[Slot, list[tuple[str, Score]]] = field(default_factory=dict)

    def device(self, slot: Slot) -> str:
        """Return the hash of the device in a slot."""
        return self.match.device_a if slot == "a" else self.match.device_b


class Calls:
    """All calls younger than their longest life and the grace for reports."""

    def __init__(self, *, max_call_s: float, grace_s: float) -> None:
        self._max_call_s = max_call_s
        self._grace_s = grace_s
        self._calls: OrderedDict[str, Call] = OrderedDict()

    def open(self, match: Match, now: float) -> Call:
        """Return the call of a match, remembered from its first asking on."""
        call = self._calls.get(match.call_id)
        if call is None:
            call = self._calls[match.call_id] = Call(match, now + self._max_call_s)
            while len(self._calls) > MAX_CALLS:
                self._calls.popitem(last=False)
        return call

    def get(self, call_id: str) -> Call | None:
        """Return a call that is still remembered."""
        return self._calls.get(call_id)

    def expire(self, now: float) -> None:
        """Forget calls that ended so long ago that nobody may report them any more."""
        while self._calls:
            call_id, call = next(iter(self._calls.items()))
            if call.until + self._grace_s > now:
                break
            del self._calls[call_id]

    def __len__(self) -> int:
        return len(self._calls)
