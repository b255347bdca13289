"""Who talks to whom: waiting tickets, atomic pairing; the one rule: nobody is ever in two calls.

Pure: `request`, `leave` and `expire` take what happened and `now`, and answer at once. As one Python
object used from one loop it is atomic by nature. A caller meets an answerer, `either` meets `either`;
flagged parties meet only flagged ones; strangers who just met are kept apart while others are there;
who was matched and never spoke is met only when nobody else waits. A caller that rings stays in its queue
and is paired with one desk after the other (`ringing.py`); doors stand by and are found only by name.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Iterator

from voicemeet_edge.backend.verbs import (
    MAX_DOORS,
    MAX_LEGS,
    SELF_TEST_POOL,
    DeskState,
    Role,
    Slot,
    is_self_test,
)
from voicemeet_edge.hub.limits import Held, Turns
from voicemeet_edge.hub.refusal import RefusedError
from voicemeet_edge.hub.ringing import MAX_COUNTED, Leg, Ringing, TicketCalls, count_states, may_ring
from voicemeet_edge.records import dataclass

MAX_RECENT_PARTNERS = 8  # per device: with more, a small pool would have nobody left to meet
MAX_REMEMBERED_DEVICES = 20_000  # devices with recent partners in RAM, about 10 MB; the oldest go first
MAX_KEPT_MATCHES = 40_000  # matched tickets kept for re-polls, about 20 MB; the oldest go first

POLLS_PER_S = 250.0  # polls of all who wait that a hub wants to answer, with room for everything else
MAX_POLL_AFTER_S = 15.0  # s; the push brings the match, a poll only makes up for a lost one
FULL_RETRY_S = 10.0  # s after which somebody may have left a full pool
FULL_APART_S = 0.02  # s between two that ask again for a place in a full pool
CALLS_APART_S = 1.0  # s between two that ask again for a place of one address: calls last minutes

MAX_SELF_TESTS = 1_000  # parties that wait for themselves, in all: each names a pool of its own

MAX_PUT_LAST = 20_000  # devices and addresses known to stay silent, about 4 MB; the oldest go first

STAND_BY_POLL_S = 60.0  # s; a door is told at once when a desk calls it, and asks in case that got lost

_Queue = tuple[str, bool, Role, bool, str]  # pool, flagged, role, put last, what it waits for
_SEEKS, _STANDS_BY = "seeks", "stands by"  # or the state of a desk that takes no call
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
    max_waiting_per_address: int = 16
    put_last_s: float = 600.0


@dataclass(frozen=True, slots=True)
class Seeker:
    """One `match` request: who looks for whom, and where."""

    device: str
    ticket: str
    pool: str
    role: Role
    flagged: bool = False
    address: str = ""
    """Whose share of waiting tickets it draws from; "" for who has a pass."""
    pass_id: str = ""
    ring: bool = False
    again: tuple[str, ...] = ()
    is_full: bool = False
    """Its address has all the calls it may have: who rings finds no more desks."""
    state: DeskState = DeskState.FREE
    label: str = ""
    door: str = ""


@dataclass(frozen=True, slots=True)
class Match:
    """One call: slot a offers. The devices are hashes and stay in RAM."""

    call_id: str
    device_a: str
    device_b: str
    role_a: Role
    role_b: Role
    offerer: Slot = "a"
    pool: str = ""
    pass_a: str = ""
    pass_b: str = ""
    rings: bool = False
    """The caller rings others too, and need not come to this call."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """Nobody yet; ask again after `poll_after_s`."""

    poll_after_s: float
    callers: int = 0
    """For an answerer: how many callers wait whom it has not rung for."""
    doors: int = 0
    """For an answerer: how many doors stand by."""


@dataclass(frozen=True, slots=True)
class CallPlace:
    """This ticket's place in a call."""

    match: Match
    slot: Slot

    @property
    def peer_role(self) -> Role:
        """The role with which the other party asked."""
        return self.match.role_b if self.slot == "a" else self.match.role_a


@dataclass(slots=True, eq=False)
class QueueEntry:
    device: str
    ticket: str
    pool: str
    role: Role
    flagged: bool
    address: str
    pass_id: str
    since: float
    seen: float
    last: bool = False
    matched: CallPlace | None = None
    partner: QueueEntry | None = None
    collected: bool = False
    told_s: float = 0.0
    kept_until: float = 0.0
    state: DeskState = DeskState.FREE
    label: str = ""
    ring: TicketCalls | None = None

    @property
    def queue(self) -> _Queue:
        """Where it waits."""
        purpose = _SEEKS if self.state is DeskState.FREE else self.state.value
        return self.pool, self.flagged, self.role, self.last, _STANDS_BY if self.label else purpose

    @property
    def owner(self) -> str:
        """Who has one ticket of this kind: a device searches once, and stands by once beside it."""
        return f"{self.device} {_STANDS_BY}" if self.label else self.device

    @property
    def door(self) -> str:
        """How a desk asks for this door; says nothing of the device token it is made from."""
        return hashlib.sha256(f"door\n{self.device}".encode()).hexdigest()[:32]


@dataclass(slots=True)
class MatchCounters:
    """What happened so far, for the hub's own health; counts only."""

    made: int = 0
    left: int = 0
    expired: int = 0
    returned: int = 0
    repeated: int = 0


class Matcher:
    """The waiting parties of all pools."""

    def __init__(
        self, options: MatchOptions, *, new_call_id: Callable[[], str], coin: Callable[[], bool]
    ) -> None:
        """Take the source of call ids (128 random bits) and a fair coin."""
        self._options = options
        self._new_call_id = new_call_id
        self._coin = coin
        self._tickets: dict[str, QueueEntry] = {}
        self._devices: dict[str, QueueEntry] = {}
        self._queues: dict[_Queue, OrderedDict[str, QueueEntry]] = {}
        self._pools: dict[str, int] = {}
        self._kept: OrderedDict[str, QueueEntry] = OrderedDict()
        self._recent: OrderedDict[str, OrderedDict[str, float]] = OrderedDict()
        self._last: OrderedDict[str, float] = OrderedDict()
        self._held = Held()
        self._turns = Turns()
        self._waiting = 0
        self._standing = 0
        self._wakes: list[str] = []
        self.counters = MatchCounters()

    def request(self, seeker: Seeker, now: float) -> Waiting | CallPlace:
        """Find a partner for the ticket, or say again what was found; RefusedError when it cannot be."""
        entry = self._entry(seeker, now)
        if entry.matched is not None:
            entry.collected = True
            return entry.matched
        return self._call_door(entry, seeker.door, now) if seeker.door else self._search(entry, now)

    def ring(self, seeker: Seeker, now: float) -> Ringing:
        """Pair the ticket with every free desk, and say how it stands; RefusedError when it cannot be."""
        entry = self._entry(seeker, now)
        ring = entry.ring
        assert ring is not None
        ring.is_full = seeker.is_full
        for call_id in seeker.again:
            ring.drop(call_id)
        self._enqueue(entry, now)
        entry.told_s = self.poll_after_s
        while (desk := self._find(entry, now)) is not None:
            self._pair(entry, desk, now)
        counts = count_states(self._desks_off(entry), ring)
        return Ringing(
            entry.told_s,
            ring.collect(now),
            self._place(entry),
            counts[DeskState.BUSY],
            counts[DeskState.AWAY],
        )

    def doors(self, pool: str) -> tuple[int, list[tuple[str, str]]]:
        """Return how many doors stand by in a pool, and handle and label of the first of them."""
        entries = list(self._waiting_in(pool, Role.CALLER, _STANDS_BY))
        return len(entries), [(entry.door, entry.label) for entry in entries[:MAX_DOORS]]

    def _entry(self, seeker: Seeker, now: float) -> QueueEntry:
        """Return the ticket of this request, made if need be, and as the request describes it."""
        entry = self._tickets.get(seeker.ticket)
        if entry is not None and self._is_stale(entry, now):
            self._remove(entry)
            self.counters.expired += 1
            entry = None
        if entry is None:
            entry = self._begin(seeker, now)
        elif (
            entry.device != seeker.device
            or entry.pool != seeker.pool
            or entry.role is not seeker.role
            or (entry.ring is not None) is not seeker.ring
            or bool(entry.label) is not bool(seeker.label)
        ):
            raise RefusedError(409, "ticket_taken", "this ticket is in use for something else")
        entry.seen = now
        if entry.matched is None and (entry.flagged, entry.state) != (seeker.flagged, seeker.state):
            self._dequeue(entry)
            entry.flagged, entry.state = seeker.flagged, seeker.state
        return entry

    def _begin(self, seeker: Seeker, now: float) -> QueueEntry:
        entry = QueueEntry(
            seeker.device,
            seeker.ticket,
            seeker.pool,
            seeker.role,
            seeker.flagged,
            seeker.address,
            seeker.pass_id,
            now,
            now,
            state=seeker.state,
            label=seeker.label,
            ring=TicketCalls() if seeker.ring else None,
        )
        earlier = self._devices.get(entry.owner)
        if earlier is not None and not (earlier.matched is not None and earlier.collected):
            # A device has one search at a time: a new ticket means that it gave the old one up. A call
            # that it has heard of is no search: a desk looks on while its caller is only arriving.
            self._withdraw(earlier, now)
        entry.last = self._is_last(entry, now)
        return entry

    def too_many(self, address: str, message: str, now: float) -> RefusedError:
        """Return the refusal of one search too many of an address; the refused come back in turns."""
        retry_s = self._turns.book(f"address {address}", FULL_RETRY_S, CALLS_APART_S, now)
        return RefusedError(429, "too_many_calls", message, retry_after_s=round(retry_s, 1))

    def is_new(self, ticket: str) -> bool:
        """Say whether this ticket would begin a search."""
        return ticket not in self._tickets

    def put_last(self, device: str, address: str, now: float) -> None:
        """Let a party that was matched and never spoke wait behind everybody for a while.

        With an address (a stranger's) everybody there waits with it: a new device token costs nothing.
        """
        key = address or device
        self._last.pop(key, None)
        self._last[key] = now + self._options.put_last_s
        while len(self._last) > MAX_PUT_LAST:
            self._last.popitem(last=False)

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
        return list(dict.fromkeys(wakes))

    @property
    def waiting(self) -> int:
        """How many tickets wait now, in all pools, without the doors that stand by."""
        return self._waiting

    @property
    def poll_after_s(self) -> float:
        """When a waiting party may ask again: later the more of them wait, so that polls keep one rate."""
        return max(self._options.poll_after_s, min(MAX_POLL_AFTER_S, self._waiting / POLLS_PER_S))

    def _is_stale(self, entry: QueueEntry, now: float) -> bool:
        if entry.matched is not None:
            return entry.kept_until <= now
        # Who was told to come later is waited for longer.
        later_s = max(0.0, entry.told_s - self._options.poll_after_s)
        return now - entry.seen > self._options.waiter_timeout_s + 3 * later_s

    def _is_last(self, entry: QueueEntry, now: float) -> bool:
        return any(self._last.get(key, 0.0) > now for key in (entry.device, entry.address) if key)

    def _search(self, entry: QueueEntry, now: float) -> Waiting | CallPlace:
        partner = self._find(entry, now)
        if partner is None:
            self._enqueue(entry, now)
            entry.told_s = STAND_BY_POLL_S if entry.label else self.poll_after_s
            if entry.role is not Role.ANSWERER:
                return Waiting(entry.told_s)
            doors = len(self._queues.get((entry.pool, False, Role.CALLER, False, _STANDS_BY), ()))
            return Waiting(entry.told_s, self._callers_for(entry), doors)
        self._pair(entry, partner, now)
        entry.collected = True
        assert entry.matched is not None
        return entry.matched

    def _call_door(self, entry: QueueEntry, door: str, now: float) -> CallPlace:
        for found in self._waiting_in(entry.pool, Role.CALLER, _STANDS_BY):
            if found.door == door and not self._is_stale(found, now):
                self._pair(entry, found, now)
                entry.collected = True
                assert entry.matched is not None
                return entry.matched
        self._forget(entry)
        raise RefusedError(404, "door_away", "this door is not on line")

    def _waiting_in(self, pool: str, role: Role, purpose: str) -> Iterator[QueueEntry]:
        for last in (False, True):
            yield from self._queues.get((pool, False, role, last, purpose), {}).values()

    def _desks_off(self, caller: QueueEntry) -> Iterator[QueueEntry]:
        """The desks on duty that take no call just now."""
        for state in (DeskState.BUSY, DeskState.AWAY):
            yield from self._waiting_in(caller.pool, Role.ANSWERER, state.value)

    def _place(self, entry: QueueEntry) -> int:
        ahead = zip(self._waiting_in(entry.pool, Role.CALLER, _SEEKS), range(1, MAX_COUNTED), strict=False)
        return next((place for other, place in ahead if other is entry), MAX_COUNTED)

    def _callers_for(self, desk: QueueEntry) -> int:
        waiting = zip(self._waiting_in(desk.pool, Role.CALLER, _SEEKS), range(MAX_COUNTED), strict=False)
        return sum(other.ring is None or desk.device not in other.ring.rung for other, _ in waiting)

    def _tell_desks(self, caller: QueueEntry) -> None:
        """Let desks that take no call hear that the line has changed."""
        if caller.role is Role.CALLER and not caller.label:
            off = zip(self._desks_off(caller), range(MAX_LEGS), strict=False)
            self._wakes += [desk.ticket for desk, _ in off]

    def _find(self, entry: QueueEntry, now: float) -> QueueEntry | None:
        """Return the longest waiting party that may be met, the silent ones last."""
        if entry.label or entry.state is not DeskState.FREE:
            return None
        fallbacks: list[QueueEntry] = []
        for last in (False, True):
            queue = self._queues.get((entry.pool, entry.flagged, _MEETS[entry.role], last, _SEEKS))
            found, fallback = self._first(queue, entry, now) if queue else (None, None)
            if found is not None:
                return found
            fallbacks += [fallback] if fallback is not None else []
        for fallback in fallbacks:
            if now - min(entry.since, fallback.since) >= self._options.repeat_after_s:
                self.counters.repeated += 1
                return fallback
        return None

    def _first(
        self, queue: OrderedDict[str, QueueEntry], entry: QueueEntry, now: float
    ) -> tuple[QueueEntry | None, QueueEntry | None]:
        """Return the first of a queue that may be met, and the first that was met lately."""
        recent = self._recent_partners(entry, now)
        fallback: QueueEntry | None = None
        stale: list[QueueEntry] = []
        found: QueueEntry | None = None
        for candidate in queue.values():
            if candidate is entry or not may_ring(entry, candidate):
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
        return found, fallback

    def _recent_partners(self, entry: QueueEntry, now: float) -> set[str]:
        # An intercom always meets the same desk: only strangers are kept apart.
        if entry.role is not Role.EITHER:
            return set()
        recent = self._recent.get(entry.device)
        if recent is None:
            return set()
        return {device for device, until in recent.items() if until > now}

    def _pair(self, entry: QueueEntry, partner: QueueEntry, now: float) -> None:
        if entry.role is partner.role:
            first, second = (entry, partner) if self._coin() else (partner, entry)
        else:
            first, second = (entry, partner) if entry.role is Role.CALLER else (partner, entry)
        match = Match(
            self._new_call_id(),
            first.device,
            second.device,
            first.role,
            second.role,
            pool=first.pool,
            pass_a=first.pass_id,
            pass_b=second.pass_id,
            rings=first.ring is not None,
        )
        self._settle(first, second, CallPlace(match, "a"), now)
        self._settle(second, first, CallPlace(match, "b"), now)
        self._remember(entry.device, partner.device, now)
        self._remember(partner.device, entry.device, now)
        self._wakes.append(partner.ticket)
        self.counters.made += 1
        while len(self._kept) > MAX_KEPT_MATCHES:
            self._remove(next(iter(self._kept.values())))

    def _settle(self, side: QueueEntry, partner: QueueEntry, matched: CallPlace, now: float) -> None:
        """Give a ticket its place in a call; one that rings goes on waiting for more."""
        kept_until = now + self._options.kept_match_s
        if side.ring is not None:
            side.ring.add(Leg(matched, partner, kept_until))
            return
        self._dequeue(side)
        side.matched, side.partner = matched, partner
        side.kept_until = kept_until
        side.collected = False
        self._tickets[side.ticket] = side
        self._devices[side.owner] = side
        self._kept[side.ticket] = side

    def _remember(self, device: str, partner: str, now: float) -> None:
        if self._options.avoid_repeat_s <= 0:
            return
        recent = self._recent.pop(device, None) or OrderedDict()
        recent.pop(partner, None)
        recent[partner] = now + self._options.avoid_repeat_s
        while len(recent) > MAX_RECENT_PARTNERS:
            recent.popitem(last=False)
        self._recent[device] = recent
        while len(self._recent) > MAX_REMEMBERED_DEVICES:
            self._recent.popitem(last=False)

    def _enqueue(self, entry: QueueEntry, now: float, *, first: bool = False) -> None:
        queue = self._queues.setdefault(entry.queue, OrderedDict())
        if entry.ticket in queue:
            return
        if not first and self._is_full(entry):
            if not queue:
                del self._queues[entry.queue]
            self._forget(entry)
            retry_s = self._turns.book(f"pool {_counted_in(entry.pool)}", FULL_RETRY_S, FULL_APART_S, now)
            raise RefusedError(503, "pool_full", "too many are waiting here", retry_after_s=round(retry_s, 1))
        if not first and self._held.is_full(entry.address, self._options.max_waiting_per_address):
            if not queue:
                del self._queues[entry.queue]
            self._forget(entry)
            raise self.too_many(entry.address, "too many searches from this address at once", now)
        self._held.count(entry.address, 1)
        queue[entry.ticket] = entry
        if first:
            queue.move_to_end(entry.ticket, last=False)
        self._tickets[entry.ticket] = entry
        self._devices[entry.owner] = entry
        self._count(entry, 1)
        self._tell_desks(entry)

    def _dequeue(self, entry: QueueEntry) -> None:
        queue = self._queues.get(entry.queue)
        if queue is None or queue.pop(entry.ticket, None) is None:
            return
        if not queue:
            del self._queues[entry.queue]
        self._count(entry, -1)
        self._tell_desks(entry)
        self._held.count(entry.address, -1)

    def _is_full(self, entry: QueueEntry) -> bool:
        """Say whether there is no place for it: doors that stand by take none of who waits."""
        most = self._options.max_waiting_total
        if entry.label:
            return self._standing >= most
        pool = _counted_in(entry.pool)
        most_here = MAX_SELF_TESTS if pool == SELF_TEST_POOL else self._options.max_waiting
        return self._pools.get(pool, 0) >= most_here or self._waiting >= most

    def _count(self, entry: QueueEntry, change: int) -> None:
        if entry.label:
            self._standing += change
            return
        self._waiting += change
        pool = _counted_in(entry.pool)
        self._pools[pool] = self._pools.get(pool, 0) + change
        if not self._pools[pool]:
            del self._pools[pool]

    def _withdraw(self, entry: QueueEntry, now: float) -> None:
        partners = [entry.partner] if entry.partner is not None else []
        if entry.ring is not None:
            partners = [leg.desk for leg in entry.ring.legs.values()]
        if entry.partner is not None and entry.partner.ring is not None and entry.matched is not None:
            self._unring(entry.partner.ring, entry.matched.match.call_id)
        self._remove(entry)
        for partner in partners:
            self._return(partner, entry, now)

    def _unring(self, ring: TicketCalls, call_id: str) -> None:
        """A desk gave its call up; if the caller has not heard of it, it never was."""
        leg = ring.legs.get(call_id)
        if leg is not None and not leg.collected:
            ring.drop(call_id)

    def _return(self, partner: QueueEntry, gone: QueueEntry, now: float) -> None:
        """Let whoever has not heard of a call that is given up wait on."""
        if partner.collected or partner.matched is None:
            return
        if partner.partner is not gone or self._tickets.get(partner.ticket) is not partner:
            return
        # The other side never heard of this call, so for it the search simply goes on, first in line.
        self._kept.pop(partner.ticket, None)
        partner.matched = partner.partner = None
        self.counters.returned += 1
        self._enqueue(partner, now, first=True)
        other = self._find(partner, now)
        if other is not None:
            self._pair(partner, other, now)
            self._wakes.append(partner.ticket)

    def _remove(self, entry: QueueEntry) -> None:
        self._dequeue(entry)
        self._kept.pop(entry.ticket, None)
        self._forget(entry)

    def _forget(self, entry: QueueEntry) -> None:
        if self._tickets.get(entry.ticket) is entry:
            del self._tickets[entry.ticket]
        if self._devices.get(entry.owner) is entry:
            del self._devices[entry.owner]
        # Entries that point at each other would wait for the garbage collector.
        entry.partner = None
        if entry.ring is not None:
            entry.ring.legs.clear()


def _counted_in(pool: str) -> str:
    """Return the pool whose places are taken: all self-tests share some, or they would take everybody's."""
    return SELF_TEST_POOL if is_self_test(pool) else pool
