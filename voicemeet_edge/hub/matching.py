"""Who talks to whom: waiting tickets, atomic pairing; the one rule: nobody is ever in two calls.

Pure: `request`, `leave` and `expire` take what happened and `now`, and answer at once. As one Python
object used from one loop it is atomic by nature. A caller meets an answerer, `either` meets `either`;
flagged parties meet only flagged ones; strangers who just met are kept apart while others are there.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

from ..backend.verbs import Role, Slot
from .refusal import RefusedError

MAX_RECENT_PARTNERS = 8  # per device: with more, a small pool would have nobody left to meet
MAX_REMEMBERED_DEVICES = 20_000  # devices with recent partners in RAM, about 10 MB; the oldest go first
MAX_KEPT_MATCHES = 40_000  # matched tickets kept for re-polls, about 20 MB; the oldest go first

_MEETS = {Role.CALLER: Role.ANSWERER, Role.ANSWERER: Role.CALLER, Role.EITHER: Role.EITHER}


@dataclass(frozen=True, slots=True)
class MatchOptions:
    """How the matcher behaves; all times in seconds."""

    poll_after_s: float = 3.0
    waiter_timeout_s: float = 20.0
    kept_match_s: float = 60.0
    avoid_repeat_s: float = 600.0
    repeat_after_s: float = 6.0
    max_waiting: int = 2_000
    max_waiting_total: int = 10_000


@dataclass(frozen=True, slots=True)
class Match:
    """One call: slot a offers. The devices are hashes and stay in RAM."""

    call_id: str
    device_a: str
    device_b: str
    role_a: Role
    role_b: Role
    offerer: Slot = "a"


@dataclass(frozen=True, slots=True)
class Waiting:
    """Nobody yet; ask again after `poll_after_s`."""

    poll_after_s: float


@dataclass(frozen=True, slots=True)
class Matched:
    """This ticket's place in a call."""

    match: Match
    slot: Slot

    @property
    def peer_role(self) -> Role:
        """The role with which the other party asked."""
        return self.match.role_b if self.slot == "a" else self.match.role_a


@dataclass(slots=True, eq=False)
class _Entry:
    device: str
    ticket: str
    pool: str
    role: Role
    flagged: bool
    since: float
    seen: float
    matched: Matched | None = None
    partner: _Entry | None = None
    collected: bool = False
    kept_until: float = 0.0

    @property
    def queue(self) -> tuple[str, bool, Role]:
        return self.pool, self.flagged, self.role


@dataclass(slots=True)
class MatchCounters:
    """What happened so far, for the hub's own health; counts only."""

    made: int = 0
    left: int = 0
    expired: int = 0
    returned: int = 0
    repeated: int = 0


@dataclass(slots=True)
class _Recent:
    partners: OrderedDict[str, float] = field(default_factory=OrderedDict)


class Matcher:
    """The waiting parties of all pools."""

    def __init__(
        self, options: MatchOptions, *, new_call_id: Callable[[], str], coin: Callable[[], bool]
    ) -> None:
        """Take the source of call ids (128 random bits) and a fair coin."""
        self._options = options
        self._new_call_id = new_call_id
        self._coin = coin
        self._tickets: dict[str, _Entry] = {}
        self._devices: dict[str, _Entry] = {}
        self._queues: dict[tuple[str, bool, Role], OrderedDict[str, _Entry]] = {}
        self._pools: dict[str, int] = {}
        self._kept: OrderedDict[str, _Entry] = OrderedDict()
        self._recent: OrderedDict[str, _Recent] = OrderedDict()
        self._waiting = 0
        self._wakes: list[str] = []
        self.counters = MatchCounters()

    def request(
        self, device: str, ticket: str, pool: str, role: Role, *, flagged: bool, now: float
    ) -> Waiting | Matched:
        """Find a partner for the ticket, or say again what was found; RefusedError when it cannot be."""
        entry = self._tickets.get(ticket)
        if entry is not None and self._is_stale(entry, now):
            self._remove(entry)
            self.counters.expired += 1
            entry = None
        if entry is None:
            earlier = self._devices.get(device)
            if earlier is not None:
                # A device has one search at a time: a new ticket means that it gave the old one up.
                self._withdraw(earlier, now)
            entry = _Entry(device, ticket, pool, role, flagged, since=now, seen=now)
        elif entry.device != device or entry.pool != pool or entry.role is not role:
            raise RefusedError(409, "ticket_taken", "this ticket is in use for something else")
        entry.seen = now
        if entry.matched is not None:
            entry.collected = True
            return entry.matched
        if entry.flagged is not flagged:
            self._dequeue(entry)
            entry.flagged = flagged
        return self._search(entry, now)

    def leave(self, device: str, ticket: str, now: float) -> None:
        """Give a ticket up; a partner who has not yet heard of the match goes back to waiting."""
        entry = self._tickets.get(ticket)
        if entry is not None and entry.device == device:
            self._withdraw(entry, now)
            self.counters.left += 1

    def expire(self, now: float) -> None:
        """Forget waiters not seen for too long, old matches and old acquaintances."""
        for queue in list(self._queues.values()):
            for entry in [entry for entry in queue.values() if self._is_stale(entry, now)]:
                self._remove(entry)
                self.counters.expired += 1
        while self._kept:
            entry = next(iter(self._kept.values()))
            if entry.kept_until > now and len(self._kept) <= MAX_KEPT_MATCHES:
                break
            self._remove(entry)

    def take_wakes(self) -> list[str]:
        """Return the tickets whose search was decided by somebody else's request since last asked."""
        wakes, self._wakes = self._wakes, []
        return wakes

    @property
    def waiting(self) -> int:
        """How many tickets wait now, in all pools."""
        return self._waiting

    def _is_stale(self, entry: _Entry, now: float) -> bool:
        if entry.matched is not None:
            return entry.kept_until <= now
        return now - entry.seen > self._options.waiter_timeout_s

    def _search(self, entry: _Entry, now: float) -> Waiting | Matched:
        partner = self._find(entry, now)
        if partner is None:
            self._enqueue(entry)
            return Waiting(self._options.poll_after_s)
        matched = self._pair(entry, partner, now)
        entry.collected = True
        return matched

    def _find(self, entry: _Entry, now: float) -> _Entry | None:
        """Return the longest waiting party that may be met; at most a few are passed over."""
        queue = self._queues.get((entry.pool, entry.flagged, _MEETS[entry.role]))
        if not queue:
            return None
        recent = self._recent_partners(entry, now)
        fallback: _Entry | None = None
        stale: list[_Entry] = []
        found: _Entry | None = None
        for candidate in queue.values():
            if candidate is entry:
                continue
            if self._is_stale(candidate, now):
                stale.append(candidate)
            elif candidate.device in recent:
                fallback = fallback or candidate
            else:
                found = candidate
                break
        for candidate in stale:
            self._remove(candidate)
            self.counters.expired += 1
        if found is not None or fallback is None:
            return found
        if now - min(entry.since, fallback.since) < self._options.repeat_after_s:
            return None
        self.counters.repeated += 1
        return fallback

    def _recent_partners(self, entry: _Entry, now: float) -> set[str]:
        # An intercom always meets the same desk: only strangers are kept apart.
        if entry.role is not Role.EITHER:
            return set()
        recent = self._recent.get(entry.device)
        if recent is None:
            return set()
        return {device for device, until in recent.partners.items() if until > now}

    def _pair(self, entry: _Entry, partner: _Entry, now: float) -> Matched:
        if entry.role is partner.role:
            first, second = (entry, partner) if self._coin() else (partner, entry)
        else:
            first, second = (entry, partner) if entry.role is Role.CALLER else (partner, entry)
        match = Match(self._new_call_id(), first.device, second.device, first.role, second.role)
        first.matched, second.matched = Matched(match, "a"), Matched(match, "b")
        first.partner, second.partner = second, first
        for side in (entry, partner):
            self._dequeue(side)
            side.kept_until = now + self._options.kept_match_s
            side.collected = False
            self._tickets[side.ticket] = side
            self._devices[side.device] = side
            self._kept[side.ticket] = side
        self._remember(entry.device, partner.device, now)
        self._remember(partner.device, entry.device, now)
        self._wakes.append(partner.ticket)
        self.counters.made += 1
        while len(self._kept) > MAX_KEPT_MATCHES:
            self._remove(next(iter(self._kept.values())))
        mine = entry.matched
        assert mine is not None
        return mine

    def _remember(self, device: str, partner: str, now: float) -> None:
        if self._options.avoid_repeat_s <= 0:
            return
        recent = self._recent.pop(device, None) or _Recent()
        recent.partners.pop(partner, None)
        recent.partners[partner] = now + self._options.avoid_repeat_s
        while len(recent.partners) > MAX_RECENT_PARTNERS:
            recent.partners.popitem(last=False)
        self._recent[device] = recent
        while len(self._recent) > MAX_REMEMBERED_DEVICES:
            self._recent.popitem(last=False)

    def _enqueue(self, entry: _Entry, *, first: bool = False) -> None:
        queue = self._queues.setdefault(entry.queue, OrderedDict())
        if entry.ticket in queue:
            return
        full = self._pools.get(entry.pool, 0) >= self._options.max_waiting
        if not first and (full or self._waiting >= self._options.max_waiting_total):
            if not queue:
                del self._queues[entry.queue]
            self._forget(entry)
            raise RefusedError(503, "pool_full", "too many are waiting here", retry_after_s=10.0)
        queue[entry.ticket] = entry
        if first:
            queue.move_to_end(entry.ticket, last=False)
        self._tickets[entry.ticket] = entry
        self._devices[entry.device] = entry
        self._pools[entry.pool] = self._pools.get(entry.pool, 0) + 1
        self._waiting += 1

    def _dequeue(self, entry: _Entry) -> None:
        queue = self._queues.get(entry.queue)
        if queue is None or queue.pop(entry.ticket, None) is None:
            return
        if not queue:
            del self._queues[entry.queue]
        self._waiting -= 1
        left = self._pools[entry.pool] - 1
        if left:
            self._pools[entry.pool] = left
        else:
            del self._pools[entry.pool]

    def _withdraw(self, entry: _Entry, now: float) -> None:
        partner = entry.partner
        self._remove(entry)
        if partner is None or partner.collected or partner.matched is None:
            return
        if partner.partner is not entry or self._tickets.get(partner.ticket) is not partner:
            return
        # The other side never heard of this call, so for it the search simply goes on, first in line.
        self._kept.pop(partner.ticket, None)
        partner.matched = partner.partner = None
        self.counters.returned += 1
        self._enqueue(partner, first=True)
        other = self._find(partner, now)
        if other is not None:
            self._pair(partner, other, now)
            self._wakes.append(partner.ticket)

    def _remove(self, entry: _Entry) -> None:
        self._dequeue(entry)
        self._kept.pop(entry.ticket, None)
        self._forget(entry)

    def _forget(self, entry: _Entry) -> None:
        if self._tickets.get(entry.ticket) is entry:
            del self._tickets[entry.ticket]
        if self._devices.get(entry.device) is entry:
            del self._devices[entry.device]
        # Two entries that point at each other would wait for the garbage collector.
        entry.partner = None
