"""Opening the door: what was asked for just now opens it, and nothing else ever does."""

from __future__ import annotations

import random
import secrets
from collections.abc import Iterable

from tests.call.ends import KEY, OTHER_KEY, Call, End
from voicemeet_edge.call.commands import Publish
from voicemeet_edge.call.conversation import Manner
from voicemeet_edge.call.door_lock import FRESH_S, MAX_OPENINGS, MAX_REQUESTS, DoorAnswer, DoorLock, Unlock
from voicemeet_edge.call.negotiation import Kind
from voicemeet_edge.signaling.messages import Door, DoorState, Message, Open, parse, serialize

OPEN_S = 3.0
CHALLENGE = DoorState.CHALLENGE


def new() -> str:
    return secrets.token_hex(16)


def lock(open_s: float = OPEN_S) -> DoorLock:
    return DoorLock(open_s)


def ask(door: DoorLock, request: str, challenge: str = "", *, now: float = 0.0) -> DoorAnswer | Unlock | None:
    return door.receive(Open("b", 1, request, challenge), now, is_talking=True)


def challenged(door: DoorLock, request: str, now: float = 0.0) -> str:
    answer = ask(door, request, now=now)
    assert isinstance(answer, DoorAnswer)
    assert answer.state is CHALLENGE
    return answer.challenge


def denied(answer: DoorAnswer | Unlock | None) -> str:
    assert isinstance(answer, DoorAnswer)
    assert answer.state is DoorState.REFUSED
    return answer.reason


def test_a_fresh_request_opens_once_and_says_when_it_is_closed() -> None:
    door, request = lock(), new()
    challenge = challenged(door, request)
    assert ask(door, request, challenge, now=1.0) == Unlock(request, OPEN_S)
    assert door.unlocked(request, 1.1, is_open=True) == DoorAnswer(DoorState.OPEN, request, seconds=OPEN_S)
    assert door.deadline == 1.1 + OPEN_S
    assert door.handle_timer(2.0) == []
    assert denied(ask(door, request, challenge, now=2.0)) == "already_open"
    assert door.handle_timer(4.1) == [DoorAnswer(DoorState.CLOSED, request)]
    assert denied(ask(door, request, challenge, now=5.0)) == "stale", "a challenge is good once"
    assert ask(door, request, now=5.0) is None, "and so is a request"


def test_what_is_late_or_not_for_this_request_opens_nothing() -> None:
    door, one, two = lock(), new(), new()
    late = challenged(door, one)
    assert denied(ask(door, one, late, now=FRESH_S)) == "stale"
    assert denied(ask(door, two, challenged(door, new(), 10.0), now=10.0)) == "stale"
    old = challenged(door, two, 20.0)
    newer = new()
    good = challenged(door, newer, 20.0)
    assert denied(ask(door, two, old, now=20.1)) == "stale", "a newer request took its place"
    assert denied(ask(door, newer, good, now=20.1)) == "stale", "a wrong try costs the challenge"
    assert denied(ask(door, new(), new(), now=30.0)) == "stale"


def test_without_a_lock_or_outside_talk_it_stays_closed() -> None:
    assert denied(ask(lock(0.0), new())) == "not_allowed"
    assert denied(lock().receive(Open("b", 1, new()), 0.0, is_talking=False)) == "not_talking"


def test_a_lock_that_does_not_switch_is_said_and_may_be_tried_again() -> None:
    door, request = lock(), new()
    ask(door, request, challenged(door, request))
    assert denied(door.unlocked(request, 0.1, is_open=False)) == "broken"
    again = new()
    assert isinstance(ask(door, again, challenged(door, again, 0.2), now=0.2), Unlock)


def test_openings_and_requests_are_bounded() -> None:
    door = lock()
    for number in range(MAX_OPENINGS):
        request, now = new(), number * 10.0
        assert isinstance(ask(door, request, challenged(door, request, now), now=now), Unlock)
        door.unlocked(request, now, is_open=True)
        door.handle_timer(now + OPEN_S)
    request = new()
    assert denied(ask(door, request, challenged(door, request, 500.0), now=500.0)) == "too_often"
    for _ in range(MAX_REQUESTS):
        last = ask(door, new(), now=600.0)
    assert denied(last) == "too_often"


# -- through the whole core, sealed ----------------------------------------------------------


class Lobby:
    """A door and a desk that talk, and everything either of them ever said."""

    def __init__(self, *, keys: tuple[bytes, ...] = (KEY,), open_s: float = OPEN_S) -> None:
        self.door = End("a", Kind.CALLING, keys=keys, manner=Manner("Side entrance", open_s))
        self.desk = End("b", Kind.CALLED, keys=keys)
        self.call = Call(self.door, self.desk)
        self.call.deliver()
        self.desk.take(self.desk.core.accept(self.desk.now))
        self.call.deliver()
        self.call.connect()
        self.seq = 1000

    def say(self, message: Message) -> Publish:
        """What the desk's page would say, sealed as its own."""
        event, payload = serialize(message)
        return Publish(event, self.desk.core._envelope.seal(event, payload))

    def open(self, request: str, challenge: str = "") -> Publish:
        self.seq += 1
        return self.say(Open("b", self.seq, request, challenge))

    def hear(self, messages: Iterable[Publish]) -> list[Unlock]:
        return [
            command
            for message in messages
            for command in self.door.hear(message)
            if isinstance(command, Unlock)
        ]

    def said(self) -> list[Door]:
        """What the door said since last asked, as the desk opens it."""
        said, self.door.said = self.door.said, []
        heard = [parse(one.event, self.desk.core._envelope.open(one.event, one.payload)) for one in said]
        return [message for message in heard if isinstance(message, Door)]


def test_a_verified_desk_opens_the_door_while_they_talk() -> None:
    lobby = Lobby()
    request = new()
    assert lobby.hear([lobby.open(request)]) == []
    [asked] = lobby.said()
    assert asked.state is CHALLENGE
    assert lobby.hear([lobby.open(request, asked.challenge)]) == [Unlock(request, OPEN_S)]
    lobby.door.take(lobby.door.core.unlocked(request, lobby.door.now, is_open=True))
    lobby.door.until(lobby.door.now + OPEN_S)
    assert [door.state for door in lobby.said()][:2] == [DoorState.OPEN, DoorState.CLOSED]


def test_without_a_key_or_a_lock_nothing_is_even_answered() -> None:
    unsealed = Lobby(keys=())
    assert unsealed.hear([unsealed.open(new())]) == []
    assert unsealed.said() == []
    locked = Lobby(open_s=0.0)
    assert locked.hear([locked.open(new())]) == []
    assert [door.reason for door in locked.said()] == ["not_allowed"]


def test_a_thousand_forged_replayed_reordered_and_stale_requests_open_nothing() -> None:
    dice, lobby = random.Random(7), Lobby()
    stranger = Lobby(keys=(OTHER_KEY,))
    recorded: list[Publish] = []
    opened = 0
    for number in range(1_000):
        lobby.door.now += 0.5
        lobby.desk.now = lobby.door.now
        lobby.door.core.traffic(lobby.door.now, lobby.door.now, lobby.door.now)
        if number % 50 == 49:
            lobby = Lobby()  # the next call, under the same id: what was recorded before is replayed into it
        request = new()
        match number % 5:
            case 0:  # forged: another key, another call, bits turned, our own words sent back
                asks = [stranger.open(request), Publish("open", lobby.open(request).payload | {"seq": 7})]
                asks += lobby.door.said[-1:]
                tampered = lobby.open(request).payload
                sealed = str(tampered["sealed"])
                asks.append(Publish("open", {**tampered, "sealed": sealed[:-4] + sealed[-4:][::-1]}))
                asks.append(Publish("open", {"v": 1, "slot": "b", "seq": 9_000 + number, "request": request}))
            case 1:  # replayed: everything that was ever said, in any order
                asks = dice.sample(recorded, min(len(recorded), 20))
            case 2:  # stale: the challenge is answered too late
                first = lobby.open(request)
                recorded.append(first)
                opened += len(lobby.hear([first]))
                challenges = [door.challenge for door in lobby.said() if door.state is CHALLENGE]
                lobby.door.now += FRESH_S
                asks = [lobby.open(request, challenges[0])] if challenges else []
            case 3:  # reordered: the confirmation comes before the request it belongs to
                confirmed, first = lobby.open(request, new()), lobby.open(request)
                asks = [confirmed, first, confirmed]
            case _:  # under another name, and a challenge guessed
                asks = [Publish("ring", lobby.open(request).payload), lobby.open(request, new())]
        recorded += asks
        del recorded[:-400]
        opened += len(lobby.hear(asks))
        lobby.said()
    assert opened == 0
