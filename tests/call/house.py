"""A house in memory: visitors, desks, the hub's matcher, and a network that delivers as the dice fall.

All cores (`GroupRing`, `Conversation`, `CallMachine`, `Matcher`) are the real ones; only carrying is ours.
"""

from __future__ import annotations

import itertools
import random
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from tests.call.ends import MATCHED
from voicemeet_edge.backend.verbs import Desks, DeskState, MatchedReply, RingingReply, Role
from voicemeet_edge.call import actions as calls
from voicemeet_edge.call.commands import Command, Leave, MakeAnswer, MakeOffer, Publish, TakeAnswer, Tell
from voicemeet_edge.call.conversation import Conversation, Manner
from voicemeet_edge.call.machine import CallMachine, Event, State
from voicemeet_edge.call.negotiation import Kind
from voicemeet_edge.call.ring import Begin, Choose, End, GroupRing, Queued, RingAnew, RingCommand
from voicemeet_edge.errors import IllegalEventError
from voicemeet_edge.hub.matching import CallPlace, Matcher, MatchOptions, Seeker
from voicemeet_edge.reasons import EndReason
from voicemeet_edge.secret import Secret
from voicemeet_edge.settings import CallSettings
from voicemeet_edge.signaling.channel import ChannelState
from voicemeet_edge.signaling.messages import Slot
from voicemeet_edge.signaling.sealed import NoSeal
from voicemeet_edge.webrtc.options import Fingerprints

PRINTS = {"a": b"a" * 32, "b": b"b" * 32}


@dataclass
class Leg:
    """One end of one call."""

    core: Conversation
    slot: Slot
    inbox: deque[Publish] = field(default_factory=deque)
    left: Leave | None = None
    answer_taken: bool = False
    connected: bool = False


class House:
    """The world; `step` lets one thing happen."""

    def __init__(self, seed: int, desks: int, visitors: int = 1) -> None:
        self.dice = random.Random(seed)
        self.now = 1000.0
        numbers = itertools.count()
        self.matcher = Matcher(MatchOptions(), new_call_id=lambda: f"call-{next(numbers)}", coin=lambda: True)
        self.legs: dict[tuple[str, Slot], Leg] = {}
        self.visitors = [Visitor(self, f"door{number}") for number in range(visitors)]
        self.desks = [Desk(self, f"desk{number}") for number in range(desks)]

    def leg(self, matched: CallPlace, kind: Kind, manner: Manner) -> Leg:
        call_id, slot = matched.match.call_id, matched.slot
        reply = replace(MATCHED, call_id=call_id, slot=slot, token=Secret("t"))
        leg = Leg(Conversation(reply, kind, NoSeal(), PRINTS[slot].hex(), manner), slot)
        self.legs[call_id, slot] = leg
        return leg

    def other(self, call_id: str, slot: Slot) -> Leg | None:
        """The other end, once it has joined."""
        return self.legs.get((call_id, "b" if slot == "a" else "a"))

    def step(self) -> bool:
        """Let one of the things that can happen now happen; False when only time can pass."""
        able: list[Callable[[], object]] = []
        for party in (*self.visitors, *self.desks):
            able += party.able()
        if not able:
            return False
        self.dice.choice(able)()
        return True

    def pass_time(self) -> None:
        """Let time pass to the next deadline of anybody, or a little."""
        times = [party.deadline for party in (*self.visitors, *self.desks)]
        due = min((time for time in times if time is not None), default=self.now + 1.0)
        self.now = max(self.now + 0.001, min(due, self.now + 3.0))
        for party in (*self.visitors, *self.desks):
            party.wake()


class Party:
    """What visitor and desk have in common: legs, and somebody who does what the cores ask."""

    def __init__(self, house: House) -> None:
        self.house = house
        self.mine: dict[str, Leg] = {}

    def begin(self, matched: CallPlace, kind: Kind, manner: Manner) -> None:
        call_id = matched.match.call_id
        leg = self.mine[call_id] = self.house.leg(matched, kind, manner)
        self.obey(call_id, leg.core.start(self.house.now))
        self.obey(call_id, leg.core.channel_changed(ChannelState.JOINED, self.house.now))

    def obey(self, call_id: str, commands: Sequence[Command]) -> None:
        leg, now = self.mine[call_id], self.house.now
        for command in commands:
            match command:
                case Publish():
                    other = self.house.other(call_id, leg.slot)
                    if other is not None:  # Realtime has no memory: who is not there never hears it
                        other.inbox.append(command)
                case Tell():
                    self.told(call_id, command)
                case MakeOffer(attempt):
                    self.obey(call_id, leg.core.described(attempt, "offer", now))
                case MakeAnswer(_, attempt):
                    self.obey(call_id, leg.core.described(attempt, "answer", now))
                case TakeAnswer():
                    leg.answer_taken = True
                case Leave():
                    leg.left = command
                    if command.bye is not None and (other := self.house.other(call_id, leg.slot)):
                        other.inbox.append(command.bye)
                    self.ended(call_id)
                case _:
                    pass

    def legs_able(self) -> list[Callable[[], object]]:
        able: list[Callable[[], object]] = []
        for call_id, leg in self.mine.items():
            if leg.left is None and leg.inbox:
                able.append(partial(self.hear, call_id))
            if leg.left is None and not leg.connected and self.can_connect(call_id, leg):
                able.append(partial(self.connect, call_id))
        return able

    def can_connect(self, call_id: str, leg: Leg) -> bool:
        offerer = self.house.legs.get((call_id, "a"))
        other = self.house.other(call_id, leg.slot)
        if offerer is None or other is None or not offerer.answer_taken:
            return False
        return other.left is None or other.connected

    def hear(self, call_id: str) -> None:
        leg = self.mine[call_id]
        message = leg.inbox.popleft()
        self.obey(call_id, leg.core.receive(message.event, message.payload, self.house.now))

    def connect(self, call_id: str) -> None:
        leg = self.mine[call_id]
        leg.connected = True
        ours, theirs = PRINTS[leg.slot], PRINTS["b" if leg.slot == "a" else "a"]
        self.obey(call_id, leg.core.connected(0, Fingerprints(ours, theirs), self.house.now))

    def wake_legs(self) -> None:
        for call_id, leg in list(self.mine.items()):
            due = self.leg_deadline(leg)
            if due is not None and due <= self.house.now:
                self.obey(call_id, leg.core.handle_timer(self.house.now))

    def legs_deadline(self) -> float | None:
        times = [self.leg_deadline(leg) for leg in self.mine.values()]
        return min((time for time in times if time is not None), default=None)

    @staticmethod
    def leg_deadline(leg: Leg) -> float | None:
        """When its core wants to be woken; a path that stands is none of this test's business."""
        return leg.core.deadline if leg.left is None and not leg.connected else None

    def able(self) -> list[Callable[[], object]]:
        """What can happen to it now."""
        raise NotImplementedError

    @property
    def deadline(self) -> float | None:
        """When it wants to be woken."""
        raise NotImplementedError

    def wake(self) -> None:
        """Time has passed."""
        raise NotImplementedError

    def told(self, call_id: str, tell: Tell) -> None:
        """A leg has news."""
        raise NotImplementedError

    def ended(self, call_id: str) -> None:
        """A leg has said goodbye."""


class Visitor(Party):
    """A door: presses call, and rings."""

    def __init__(self, house: House, name: str) -> None:
        super().__init__(house)
        self.name = name
        self.machine = CallMachine(CallSettings(role=Role.CALLER))
        self.machine.start(house.now)
        self.ring: GroupRing | None = None
        self.round = 0
        self.asks_at = 0.0
        self.is_asking = False
        self.queued: list[int] = []
        self.reason: EndReason | None = None

    @property
    def ticket(self) -> str:
        return f"{self.name} {self.round}"

    def press(self) -> None:
        self.execute(self.machine.handle(Event.CALL_PRESSED, self.house.now))

    def execute(self, actions: Sequence[calls.Action]) -> None:
        for action in actions:
            if isinstance(action, calls.Seek):
                self.ring = GroupRing(30.0, 45.0, self.house.now)
                self.search()
            elif isinstance(action, calls.Hangup) and self.ring is not None:
                self.reason = action.reason
                self.stop_search()
                self.do(self.ring.end(action.reason))

    def search(self) -> None:
        self.round += 1
        self.is_asking, self.asks_at = True, self.house.now

    def stop_search(self) -> None:
        if self.is_asking:
            self.is_asking = False
            self.house.matcher.leave(self.name, self.ticket, self.house.now)

    def ask(self) -> None:
        assert self.ring is not None
        seeker = Seeker(self.name, self.ticket, "p", Role.CALLER, ring=True, again=self.ring.again)
        found = self.house.matcher.ring(seeker, self.house.now)
        self.asks_at = self.house.now + 3.0
        self.known = {leg.match.call_id: leg for leg in found.calls}
        replies = tuple(replace(MATCHED, call_id=call_id) for call_id in self.known)
        reply = RingingReply(3.0, Secret("w"), replies, found.place, Desks(found.busy, found.away))
        self.do(self.ring.found(reply, self.house.now))

    def do(self, commands: Sequence[RingCommand]) -> None:
        for command in commands:
            match command:
                case Begin():
                    matched: MatchedReply = command.matched
                    self.begin(self.known[matched.call_id], Kind.CALLING, Manner(is_eager=command.is_eager))
                case End():
                    leg = self.mine[command.call_id]
                    self.obey(command.call_id, leg.core.end(command.reason, self.house.now))
                case Choose():
                    self.stop_search()
                case RingAnew():
                    self.stop_search()
                    self.search()
                case Queued():
                    self.queued.append(command.place)
                case Tell():
                    self.tell_machine(command)
                case _:
                    self.asks_at = self.house.now

    def tell_machine(self, tell: Tell) -> None:
        try:
            actions = self.machine.handle(tell.event, self.house.now, tell.reason)
        except IllegalEventError:
            return
        self.execute(actions)

    def told(self, call_id: str, tell: Tell) -> None:
        assert self.ring is not None
        self.do(self.ring.told(call_id, tell, self.house.now))

    def ended(self, call_id: str) -> None:
        assert self.ring is not None
        self.do(self.ring.over(call_id, EndReason.FAILED, self.house.now))

    def able(self) -> list[Callable[[], object]]:
        asks = [self.ask] if self.is_asking and self.asks_at <= self.house.now else []
        return [*asks, *self.legs_able()]

    @property
    def deadline(self) -> float | None:
        times = [self.machine.deadline, self.legs_deadline(), self.asks_at if self.is_asking else None]
        times.append(self.ring.deadline if self.ring is not None else None)
        return min((time for time in times if time is not None), default=None)

    def wake(self) -> None:
        self.wake_legs()
        if self.ring is not None and (due := self.ring.deadline) is not None and due <= self.house.now:
            self.do(self.ring.handle_timer(self.house.now))
        if self.machine.deadline is not None and self.machine.deadline <= self.house.now:
            self.execute(self.machine.handle_timer(self.house.now))

    @property
    def is_home(self) -> bool:
        """Its call is over and everything is freed."""
        return self.reason is not None and all(leg.left is not None for leg in self.mine.values())

    @property
    def talks_in(self) -> str | None:
        """The call it talks in."""
        return self.ring.chosen if self.ring is not None and self.machine.state is State.TALKING else None


class Desk(Party):
    """A desk page as far as signaling goes: it stays in the queue while somebody is arriving."""

    def __init__(self, house: House, name: str) -> None:
        super().__init__(house)
        self.name = name
        self.tickets = 0
        self.asks_at = house.now
        self.state = DeskState.FREE
        self.ringing: str | None = None
        self.accepted: str | None = None
        self.talking: str | None = None
        self.is_dead = False
        self.elsewhere = 0
        self.will: Callable[[], object] = self.house.dice.choice(
            (self.answer, self.answer, self.answer, self.decline, self.die, self.answer_and_die, self.ignore)
        )

    def ask(self) -> None:
        seeker = Seeker(self.name, f"{self.name} {self.tickets}", "p", Role.ANSWERER, state=self.state)
        found = self.house.matcher.request(seeker, self.house.now)
        self.asks_at = self.house.now + 3.0
        if isinstance(found, CallPlace):
            self.tickets += 1
            self.asks_at = self.house.now
            self.begin(found, Kind.CALLED, Manner())
            if self.ringing is not None:
                self.end(found.match.call_id, EndReason.BUSY)

    def told(self, call_id: str, tell: Tell) -> None:
        match tell.event:
            case Event.MATCHED_CALLED if self.ringing is not None:
                self.end(call_id, EndReason.BUSY)
            case Event.MATCHED_CALLED:
                self.ringing, self.state, self.asks_at = call_id, DeskState.BUSY, self.house.now
            case Event.CONNECTED:
                self.talking = call_id
            case Event.PEER_BYE | Event.FAILED:
                self.elsewhere += tell.reason is EndReason.ANSWERED_ELSEWHERE
                self.end(call_id, tell.reason)
            case _:
                pass

    def end(self, call_id: str, reason: EndReason) -> None:
        self.obey(call_id, self.mine[call_id].core.end(reason, self.house.now))

    def ended(self, call_id: str) -> None:
        if call_id == self.ringing:
            self.ringing = self.accepted = self.talking = None
            self.state, self.asks_at = DeskState.FREE, self.house.now

    def answer(self) -> None:
        assert self.ringing is not None
        self.accepted = self.ringing
        self.obey(self.ringing, self.mine[self.ringing].core.accept(self.house.now))

    def answer_and_die(self) -> None:
        self.answer()
        self.die()

    def decline(self) -> None:
        assert self.ringing is not None
        self.end(self.ringing, EndReason.DECLINED)

    def die(self) -> None:
        self.is_dead = True

    def ignore(self) -> None:
        """Nobody sits there."""

    def able(self) -> list[Callable[[], object]]:
        if self.is_dead:
            return []
        able = self.legs_able()
        if self.asks_at <= self.house.now:
            able.append(self.ask)
        if self.ringing is not None and self.accepted is None and self.will != self.ignore:
            able.append(self.will)
        return able

    @property
    def deadline(self) -> float | None:
        times = [self.legs_deadline(), self.asks_at]
        return None if self.is_dead else min(time for time in times if time is not None)

    def wake(self) -> None:
        if not self.is_dead:
            self.wake_legs()
