"""The calls that live now; the one rule: in RAM only, bounded, gone soon after the call.

Who talks to whom is needed for three things: that a report counts, that one address does not hold too
many calls, and that who never speaks is asked last. It is never written down; a restart of the hub
forgets it, and running calls go on without it. Pure; times are the hub's own (`hub/clock.py`).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Collection
from dataclasses import field

from voicemeet_edge.backend.verbs import Slot
from voicemeet_edge.hub.limits import SITE_SHARES, site_key
from voicemeet_edge.hub.matching import Match
from voicemeet_edge.hub.risk import Score
from voicemeet_edge.hub.turn.provider import Grant
from voicemeet_edge.records import dataclass

MAX_CALLS = 20_000  # calls remembered, about 20 MB; more than any one hub carries at once
ARRIVE_S = 30.0  # s a slot that is not in its topic counts as on its way, or as reconnecting
SPEAK_S = 10.0  # s after its match in which a slot says hello, or is asked last from then on
GOODBYE_S = 15.0  # s after one side said that the call is over until nothing of it is relayed any more
TALK_S = 5.0  # s both must have been there, offer and answer said, before a report of the call counts


@dataclass(slots=True)
class Side:
    """One slot of a call: what was seen of it."""

    device: str
    pass_id: str = ""
    reported_from: str = ""
    address: str = ""
    """Whose share it draws from; "" for one with a pass, and until it has heard of the match."""
    collected: bool = False
    present: bool = False
    spoke: bool = False
    ended: bool = False
    ended_at: float = 0.0
    away_since: float = 0.0
    grant: Grant | None = None
    reported: list[tuple[str, Score]] | None = None
    """What its report about the other side changed; None before it reported."""


@dataclass(slots=True)
class Call:
    """One call: until when it may last, and what was said about it."""

    match: Match
    opened_at: float
    until: float
    sides: dict[Slot, Side] = field(default_factory=dict)
    said: set[str] = field(default_factory=set)
    talk_since: float | None = None
    talked_s: float = 0.0

    def side(self, slot: Slot) -> Side:
        """Return what is known of a slot."""
        return self.sides[slot]

    def has_talked(self, now: float) -> bool:
        """Say whether the two were together long enough, as far as a carrier can see."""
        return self.talked_s + (now - self.talk_since if self.talk_since is not None else 0.0) >= TALK_S

    def joined(self, slot: Slot, now: float) -> None:
        """A slot is in the call's topic."""
        self.sides[slot].present = True
        self._watch(now)

    def left(self, slot: Slot, now: float) -> None:
        """A slot is out of the call's topic."""
        side = self.sides[slot]
        side.present, side.away_since = False, now
        self._watch(now)

    def heard(self, slot: Slot, event: str, now: float) -> None:
        """A slot said something; of a sealed message, too, the name can be seen."""
        self.sides[slot].spoke = True
        if event in ("offer", "answer"):
            self.said.add(event)
            self._watch(now)

    def _watch(self, now: float) -> None:
        together = len(self.said) == 2 and all(side.present for side in self.sides.values())
        if together and self.talk_since is None:
            self.talk_since = now
        elif not together and self.talk_since is not None:
            self.talked_s += now - self.talk_since
            self.talk_since = None

    def is_held_by(self, slot: Slot, now: float) -> bool:
        """Say whether this slot still takes a place among its address's calls."""
        side = self.sides[slot]
        if side.ended or now >= self.until:
            return False
        return side.present or now - max(self.opened_at, side.away_since) < ARRIVE_S


class Calls:
    """All calls younger than their longest life and the grace for reports."""

    def __init__(self, *, max_call_s: float, grace_s: float) -> None:
        self._max_call_s = max_call_s
        self._grace_s = grace_s
        self._calls: OrderedDict[str, Call] = OrderedDict()
        self._by_address: dict[str, dict[tuple[str, Slot], Call]] = {}
        self._by_site: dict[str, set[str]] = {}  # which addresses of an IPv6 /48 hold calls
        self._unjudged: OrderedDict[str, Call] = OrderedDict()
        self._held = 0
        self._pruned_at = 0.0
        self._live: OrderedDict[str, Call] = OrderedDict()
        self._counting: dict[tuple[str, Slot], Call] = {}

    def open(self, match: Match, now: float) -> Call:
        """Return the call of a match, remembered from its first asking on."""
        call = self._calls.get(match.call_id)
        if call is None:
            call = Call(match, now, now + self._max_call_s)
            call.sides = {"a": Side(match.device_a, match.pass_a), "b": Side(match.device_b, match.pass_b)}
            self._calls[match.call_id] = self._unjudged[match.call_id] = self._live[match.call_id] = call
            while len(self._calls) > MAX_CALLS:
                self._forget(next(iter(self._calls)))
        return call

    def collect(self, call: Call, slot: Slot, address: str) -> None:
        """A slot has heard of its match; `address` is whose share it draws from, "" for nobody's."""
        side = call.sides[slot]
        side.collected, side.address = True, address
        held = self._by_address.setdefault(address, {}) if address else None
        if held is not None and (call.match.call_id, slot) not in held:
            held[call.match.call_id, slot] = call
            self._held += 1
            if site := site_key(address):
                self._by_site.setdefault(site, set()).add(address)

    def is_full(self, address: str, most: int, now: float) -> bool:
        """Say whether an address holds this many live calls, or the IPv6 /48 around it its larger share."""
        neighbours = self._by_site.get(site_key(address), ())
        return self._hold({address}, most, now) or self._hold(neighbours, most * SITE_SHARES, now)

    def _hold(self, addresses: Collection[str], most: int, now: float) -> bool:
        def held() -> int:
            return sum(len(self._by_address.get(address, ())) for address in addresses)

        if held() >= most:
            for address in list(addresses):
                self._prune(address, now)
        return held() >= most

    def are_strangers_many(self, most: int, now: float) -> bool:
        """Say whether all addresses together hold this many live calls, each side counted."""
        # Looked through once a second at most: a flood must not make each request dear.
        if self._held >= most and now - self._pruned_at >= 1.0:
            self._pruned_at = now
            for address in list(self._by_address):
                self._prune(address, now)
        return self._held >= most

    def _prune(self, address: str, now: float) -> None:
        held = self._by_address.get(address, {})
        for key in [key for key, call in held.items() if not call.is_held_by(key[1], now)]:
            self._release(address, key)

    def _release(self, address: str, key: tuple[str, Slot]) -> None:
        held = self._by_address.get(address)
        if held is not None and held.pop(key, None) is not None:
            self._held -= 1
            if not held:
                del self._by_address[address]
                self._leave_site(address)

    def _leave_site(self, address: str) -> None:
        site = site_key(address)
        neighbours = self._by_site.get(site)
        if neighbours is not None:
            neighbours.discard(address)
            if not neighbours:
                del self._by_site[site]

    def over(self, now: float) -> list[tuple[Call, Slot]]:
        """Return, once each, the sides whose call is over: ended a while ago, or nobody is there any more."""
        found: list[tuple[Call, Slot]] = []
        for call_id, call in list(self._live.items()):
            ended = [side.ended_at for side in call.sides.values() if side.ended]
            is_over = bool(ended) and now - min(ended) > GOODBYE_S
            if is_over or not any(call.is_held_by(slot, now) for slot in call.sides):
                del self._live[call_id]
                found += [(call, slot) for slot in call.sides]
        return found

    def get(self, call_id: str) -> Call | None:
        """Return a call that is still remembered."""
        return self._calls.get(call_id)

    def silent(self, now: float) -> list[Side]:
        """Return, once each, the sides that heard of a match and then never said a word.

        Who rings many desks has no word for those it need not wait for any more; one word to one is enough.
        """
        found: list[Side] = []
        spoke: set[str] | None = None  # who rings and said a word; gathered when it matters
        while self._unjudged:
            call_id, call = next(iter(self._unjudged.items()))
            if now - call.opened_at < SPEAK_S:
                break
            del self._unjudged[call_id]
            silent = [side for side in call.sides.values() if side.collected and not side.spoke]
            if call.match.rings and call.side("a") in silent:
                spoke = self._ringing_that_spoke() if spoke is None else spoke
                silent = [side for side in silent if side is not call.side("a") or side.device not in spoke]
            found += silent
        return found

    def _ringing_that_spoke(self) -> set[str]:
        sides = (call.side("a") for call in self._calls.values() if call.match.rings)
        return {side.device for side in sides if side.spoke}

    def count_later(self, call: Call, slot: Slot) -> None:
        """A slot reported before the call had lasted long enough for that to mean anything."""
        self._counting[call.match.call_id, slot] = call

    def now_counting(self, now: float) -> list[tuple[Call, Slot]]:
        """Return, once each, those of `count_later` whose call has by now lasted long enough."""
        ripe = [(key, call) for key, call in self._counting.items() if call.has_talked(now)]
        for key, _ in ripe:
            del self._counting[key]
        return [(call, key[1]) for key, call in ripe]

    def expire(self, now: float) -> None:
        """Forget calls that ended so long ago that nobody may report them any more."""
        while self._calls:
            call_id, call = next(iter(self._calls.items()))
            if call.until + self._grace_s > now:
                break
            self._forget(call_id)

    def _forget(self, call_id: str) -> None:
        call = self._calls.pop(call_id)
        self._unjudged.pop(call_id, None)
        self._live.pop(call_id, None)
        for slot, side in call.sides.items():
            self._counting.pop((call_id, slot), None)
            self._release(side.address, (call_id, slot))

    def __len__(self) -> int:
        return len(self._calls)


class CallSight:
    """What the carrier of the signaling sees of the calls, written into them."""

    def __init__(self, calls: Calls, clock: Callable[[], float]) -> None:
        self._calls = calls
        self._clock = clock

    def joined(self, call_id: str, slot: Slot) -> None:
        """A slot is on its call's topic."""
        if (call := self._calls.get(call_id)) is not None:
            call.joined(slot, self._clock())

    def left(self, call_id: str, slot: Slot) -> None:
        """A slot is no longer on its call's topic."""
        if (call := self._calls.get(call_id)) is not None:
            call.left(slot, self._clock())

    def heard(self, call_id: str, slot: Slot, event: str) -> None:
        """A slot sent a message of this name."""
        if (call := self._calls.get(call_id)) is not None:
            call.heard(slot, event, self._clock())
