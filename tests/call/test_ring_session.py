"""A real door, real sessions as desks and a real hub, all sealed: ringing, opening, being called."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.test_app import running
from voicemeet_edge.backend.admission import admission_key, make_proof
from voicemeet_edge.backend.client import Backend
from voicemeet_edge.backend.verbs import DeskState, ListedDoor, MatchedReply, MatchRequest, Role, WaitingReply
from voicemeet_edge.call import keys
from voicemeet_edge.call.commands import Tell
from voicemeet_edge.call.machine import Event, State
from voicemeet_edge.call.negotiation import Kind
from voicemeet_edge.call.observed import DoorOpened, Observed, Said, StateChanged
from voicemeet_edge.call.search import Search, SearchTarget
from voicemeet_edge.call.session import CallSession, News, SessionParts
from voicemeet_edge.call.signs import Lamp, Prompt
from voicemeet_edge.choices import IcePolicy
from voicemeet_edge.demo.lab import LOOPBACK, LabCall, device_settings, hub_settings
from voicemeet_edge.hub.app import HubInfo, running_hub
from voicemeet_edge.hub.pass_desk import make_pass
from voicemeet_edge.hub.store import Store
from voicemeet_edge.panel.interface import ButtonEvent
from voicemeet_edge.reasons import EndReason
from voicemeet_edge.secret import Secret
from voicemeet_edge.settings import Settings
from voicemeet_edge.signaling.messages import Door, DoorState, Hello, Message, Open
from voicemeet_edge.signaling.sealed import make_envelope
from voicemeet_edge.signaling.socket import RealtimeSocket
from voicemeet_edge.testing.panel import FakePanel
from voicemeet_edge.testing.signals import speech_like
from voicemeet_edge.testing.sound import VirtualCard
from voicemeet_edge.testing.waiting import until
from voicemeet_edge.webrtc.options import PeerOptions
from voicemeet_edge.webrtc.peer import new_certificate

POOL = "frontdesk"
KEY = bytes(range(32))


class Tokens:
    """A device token that was made already."""

    def __init__(self, token: Secret) -> None:
        self.current = token

    async def get(self) -> Secret:
        return self.current


@dataclass
class Desk:
    """A desk page as far as a call goes."""

    backend: Backend
    token: Secret
    socket: RealtimeSocket
    key: bytes | None = KEY
    told: list[Tell] = field(default_factory=list)
    heard: list[Message] = field(default_factory=list)
    session: CallSession | None = None
    running: asyncio.Task[None] | None = None

    def request(self, *, state: DeskState = DeskState.FREE, door: str = "") -> MatchRequest:
        ticket = secrets.token_urlsafe(16)
        proof = make_proof(admission_key(KEY, POOL), self.token, POOL, Role.ANSWERER, ticket)
        return MatchRequest(ticket, POOL, Role.ANSWERER, proof, state=state, door=door)

    async def on_duty(self) -> None:
        """Wait for a call, and let it ring."""
        target = SearchTarget(POOL, Role.ANSWERER, admission_key(KEY, POOL))
        search = Search(self.backend, Tokens(self.token), self.socket, target)  # type: ignore[arg-type]
        self.talk(await search.find(), Kind.CALLED)

    def talk(self, matched: MatchedReply, kind: Kind, *, announce: bool = False) -> None:
        options = PeerOptions(policy=IcePolicy.DIRECT, addresses=(LOOPBACK,), ipv6=False)
        envelope = make_envelope([self.key] if self.key else [], matched.call_id, matched.slot)
        parts = SessionParts(self.backend, self.socket, envelope, options, new_certificate(), bytes(100))
        self.session = CallSession(matched, kind, parts, on_news=self.news, on_rtp=lambda _: None)
        negotiation = self.session._conversation._negotiation
        receive, hello = negotiation.receive, negotiation._hello

        def hear(message: Message) -> object:
            self.heard.append(message)
            return receive(message)

        def say_hello(*, reply: bool) -> object:
            send = hello(reply=reply)
            said = send.message
            assert isinstance(said, Hello)
            return type(send)(Hello(said.slot, said.seq, reply, said.nonce, said.commitment, announce=True))

        negotiation.receive = hear  # type: ignore[assignment, method-assign]
        if announce:
            negotiation._hello = say_hello  # type: ignore[assignment, method-assign]
        self.running = asyncio.create_task(self.session.run())

    def news(self, news: News) -> None:
        if isinstance(news, Tell):
            self.told.append(news)
            if news.event in (Event.PEER_BYE, Event.FAILED) and self.session is not None:
                self.session.end(news.reason)

    def heard_events(self) -> list[Event]:
        return [tell.event for tell in self.told]

    def say_open(self, request: str, challenge: str = "") -> None:
        assert self.session is not None
        core = self.session._conversation
        message = Open("b", core._negotiation._next_seq(), request, challenge)
        self.session._execute([core._sealed(message)])

    def doors(self, state: DoorState) -> list[Door]:
        return [one for one in self.heard if isinstance(one, Door) and one.state is state]


@dataclass
class House:
    """A hub, a door and desks of one closed pool."""

    info: HubInfo
    stack: AsyncExitStack
    door_pass: Secret
    desk_pass: Secret
    directory: Path
    key: bytes | None = KEY
    panel: FakePanel = field(default_factory=FakePanel)
    card: VirtualCard = field(default_factory=lambda: VirtualCard(speech_like(4.0)))
    seen: list[Observed] = field(default_factory=list)

    async def door(self, **rules: object) -> None:
        table = device_settings(self.info, LabCall(POOL, "caller", "direct"), {})
        table["backend"]["pass"] = self.door_pass.reveal()
        table["call"] |= {"name": "Side entrance", **rules}
        if self.key is not None:
            table["security"] = {"intercom_keys": [keys.to_text(self.key).reveal()]}
        table["panel"] = {"factory": "gpiod", "relay_line": "GPIO16", "relay_s": 0.5}
        self.panel.has_door = True
        self.stack.callback(self.card.close)
        backend = Backend(self.info.url, self.info.apikey)
        await enrolled(backend, self.door_pass)  # a door that is refused waits a minute
        await backend.close()
        settings = Settings.from_dict(table)
        await self.stack.enter_async_context(
            running(self.panel, self.card, settings, observe=self.seen.append)
        )
        await self.panel.wait_for(Lamp.READY)

    async def desk(self) -> Desk:
        backend = Backend(self.info.url, self.info.apikey)
        self.stack.push_async_callback(backend.close)
        token = (await enrolled(backend, self.desk_pass)) or Secret("")
        socket = RealtimeSocket(self.info.url, self.info.apikey, device_token=lambda: token)
        serving = asyncio.create_task(socket.run())
        desk = Desk(backend, token, socket, self.key)

        async def stop() -> None:
            for task in (desk.running, serving):
                if task is not None:
                    task.cancel()
                    await asyncio.gather(task, return_exceptions=True)

        self.stack.push_async_callback(stop)
        return desk

    def states(self) -> list[State]:
        return [event.state for event in self.seen if isinstance(event, StateChanged)]


async def enrolled(backend: Backend, shown: Secret) -> Secret:
    return (await backend.session(shown_pass=shown)).device_token


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with AsyncExitStack() as stack:
        settings = hub_settings(tmp_path, turn="off", open_pools=())
        info = await stack.enter_async_context(running_hub(settings))
        store = Store(settings.state_dir / "hub.db")
        await store.open()
        stack.push_async_callback(store.close)
        shown = [await make_pass(store, POOL, role, "one") for role in (Role.CALLER, Role.ANSWERER)]
        yield House(info, stack, shown[0], shown[1], tmp_path)


async def test_all_desks_ring_two_answer_at_once_and_one_has_the_call(house: House) -> None:
    await house.door()
    desks = [await house.desk() for _ in range(3)]
    duty = [asyncio.create_task(desk.on_duty()) for desk in desks]
    await until(lambda: house.info.waiting() == 3)
    house.panel.press()
    await asyncio.gather(*duty)
    await until(lambda: all(Event.MATCHED_CALLED in desk.heard_events() for desk in desks))
    names = {one.name for desk in desks for one in desk.heard if isinstance(one, Hello)}
    assert names == {"Side entrance"}, "sealed, each under its own keys"
    for desk in desks[:2]:
        assert desk.session is not None
        desk.session.accept()
    await house.panel.wait_for(Lamp.MICROPHONE_OPEN)
    await until(lambda: sum(Event.CONNECTED in desk.heard_events() for desk in desks) == 1)
    late = Tell(Event.PEER_BYE, EndReason.ANSWERED_ELSEWHERE)
    await until(lambda: sum(late in desk.told for desk in desks) == 2)
    assert house.states().count(State.TALKING) == 1


async def test_without_a_key_the_name_passes_the_hub_and_stays_nowhere(house: House) -> None:
    house.key = None
    await house.door()
    desk = await house.desk()
    listed = await doors_of(desk)
    assert [door.label for door in listed] == ["Side entrance"]
    duty = asyncio.create_task(desk.on_duty())
    await until(lambda: house.info.waiting() == 1)
    house.panel.press()
    await duty
    await until(lambda: any(isinstance(one, Hello) and one.name == "Side entrance" for one in desk.heard))
    files = [path for path in (house.directory / "hub").rglob("*") if path.is_file()]
    assert any(path.name.startswith("hub.db") for path in files)
    assert not [path.name for path in files if b"Side entrance" in path.read_bytes()]


async def test_a_decline_passes_on_and_the_last_one_is_told_to_the_visitor(house: House) -> None:
    await house.door()
    desks = [await house.desk() for _ in range(2)]
    duty = [asyncio.create_task(desk.on_duty()) for desk in desks]
    await until(lambda: house.info.waiting() == 2)
    house.panel.press()
    await asyncio.gather(*duty)
    for desk in desks:
        await until(lambda desk=desk: Event.MATCHED_CALLED in desk.heard_events())  # type: ignore[misc]
        assert house.states()[-1] is State.SEEKING
        assert desk.session is not None
        desk.session.end(EndReason.DECLINED)
    await until(lambda: Said(Prompt.DECLINED, 0) in house.seen)
    await until(lambda: house.states()[-1] is State.IDLE)


async def test_who_finds_nobody_or_waits_in_line_is_told(house: House) -> None:
    await house.door(nobody_timeout_s=5)
    desk = await house.desk()
    busy = desk.request(state=DeskState.BUSY)
    assert isinstance(await desk.backend.search(desk.token, busy), WaitingReply)
    house.panel.press()
    await until(lambda: Said(Prompt.QUEUED, 1) in house.seen)
    waiting = await desk.backend.search(desk.token, busy)
    assert isinstance(waiting, WaitingReply)
    assert (waiting.callers, waiting.doors) == (1, 1)
    await desk.backend.leave(desk.token, busy.ticket)
    await until(lambda: Said(Prompt.NOBODY, 0) in house.seen)


async def test_a_desk_opens_the_door_and_it_is_shown_and_heard(house: House) -> None:
    await house.door()
    desk = await house.desk()
    duty = asyncio.create_task(desk.on_duty())
    await until(lambda: house.info.waiting() == 1)
    house.panel.press()
    await duty
    await until(lambda: Event.MATCHED_CALLED in desk.heard_events())
    request = secrets.token_hex(16)
    desk.say_open(request)  # not while it only rings
    await until(lambda: bool(desk.doors(DoorState.REFUSED)))
    assert desk.session is not None
    desk.session.accept()
    await house.panel.wait_for(Lamp.MICROPHONE_OPEN)
    await until(lambda: bool(desk.doors(DoorState.READY)))
    assert house.panel.opened == []
    request = secrets.token_hex(16)
    desk.say_open(request)
    await until(lambda: bool(desk.doors(DoorState.CHALLENGE)))
    desk.say_open(request, desk.doors(DoorState.CHALLENGE)[0].challenge)
    await until(lambda: bool(desk.doors(DoorState.OPEN)))
    assert house.panel.opened == [0.5]
    assert Lamp.DOOR_OPEN in house.panel.shown
    assert any(isinstance(event, DoorOpened) for event in house.seen)
    await until(lambda: bool(desk.doors(DoorState.CLOSED)))
    await house.panel.wait_for(Lamp.MICROPHONE_OPEN)


async def doors_of(desk: Desk) -> tuple[ListedDoor, ...]:
    """The list of doors, as soon as there is one."""
    async with asyncio.timeout(20):
        while not (listed := (await desk.backend.doors(desk.token, POOL)).doors):  # noqa: ASYNC110 - asked
            await asyncio.sleep(0.05)
    return listed


async def call_door(house: House, desk: Desk, *, announce: bool) -> None:
    await until(lambda: house.info.waiting() == 0)
    listed = await doors_of(desk)
    matched = await desk.backend.search(desk.token, desk.request(door=listed[0].door))
    assert isinstance(matched, MatchedReply)
    desk.talk(matched, Kind.CALLING, announce=announce)


async def test_a_desk_calls_the_door_and_a_person_there_opens_the_microphone(house: House) -> None:
    await house.door()
    desk = await house.desk()
    await call_door(house, desk, announce=False)
    await house.panel.wait_for(Lamp.RINGING)
    assert not house.card.open_captures
    house.panel.press()
    await house.panel.wait_for(Lamp.MICROPHONE_OPEN)
    await until(lambda: Event.CONNECTED in desk.heard_events())


async def test_an_announcement_is_heard_and_opens_no_microphone(house: House) -> None:
    await house.door()
    desk = await house.desk()
    await call_door(house, desk, announce=True)
    await until(lambda: Event.CONNECTED in desk.heard_events())
    assert house.states() == [State.LISTENING]
    assert house.panel.lamp is Lamp.ANNOUNCEMENT
    desk.say_open(secrets.token_hex(16))
    await until(lambda: bool(desk.doors(DoorState.REFUSED)))
    assert not house.card.open_captures
    assert Lamp.MICROPHONE_OPEN not in house.panel.shown
    house.panel.press(ButtonEvent.CALL_PRESSED)
    await until(lambda: house.states()[-1] is State.IDLE)


async def test_a_door_that_talks_says_busy_to_a_desk_that_calls(house: House) -> None:
    await house.door()
    first, second = await house.desk(), await house.desk()
    duty = asyncio.create_task(first.on_duty())
    await until(lambda: house.info.waiting() == 1)
    house.panel.press()
    await duty
    await until(lambda: Event.MATCHED_CALLED in first.heard_events())
    assert first.session is not None
    first.session.accept()
    await house.panel.wait_for(Lamp.MICROPHONE_OPEN)
    await call_door(house, second, announce=False)
    await until(lambda: Tell(Event.PEER_BYE, EndReason.BUSY) in second.told)
    assert house.panel.lamp is Lamp.MICROPHONE_OPEN
