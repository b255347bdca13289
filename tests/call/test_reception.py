"""A device on duty at a real hub, with callers that come and say nothing, and one that says hello."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from tests.test_app import running
from voicemeet_edge.backend.client import Backend
from voicemeet_edge.backend.verbs import Desks, MatchedReply, MatchRequest, RingingReply, Role
from voicemeet_edge.call.machine import REPEAT_PRESS_S
from voicemeet_edge.call.reception import MAX_ARRIVING, Reception
from voicemeet_edge.call.signs import Lamp
from voicemeet_edge.demo.lab import LabCall, device_settings, hub_settings
from voicemeet_edge.hub.admission import EVERY_POOL
from voicemeet_edge.hub.app import HubInfo, running_hub
from voicemeet_edge.hub.pass_desk import make_pass, open_store
from voicemeet_edge.secret import Secret
from voicemeet_edge.settings import Settings
from voicemeet_edge.testing.panel import FakePanel
from voicemeet_edge.testing.signals import speech_like
from voicemeet_edge.testing.sound import VirtualCard

pytestmark = pytest.mark.timeout(60)

POOL = "lobby"


class House:
    """A hub, and who is at it."""

    def __init__(self, info: HubInfo, stack: AsyncExitStack) -> None:
        self.info = info
        self._stack = stack

    async def device(self, role: str, shown_pass: Secret | None = None) -> FakePanel:
        """Run a device that is ready."""
        table = device_settings(self.info, LabCall(pool=POOL, role=role, policy="direct"), {})
        if shown_pass is not None:
            table["backend"]["pass"] = shown_pass.reveal()
        panel, card = FakePanel(), VirtualCard(speech_like(4.0))
        self._stack.callback(card.close)
        await self._stack.enter_async_context(running(panel, card, Settings.from_dict(table)))
        await panel.wait_for(Lamp.READY)
        return panel

    async def ghost(self) -> None:
        """Be matched with a desk as a caller, and say nothing."""
        client = Backend(self.info.url, self.info.apikey)
        self._stack.push_async_callback(client.close)
        token, ticket = (await client.session()).device_token, secrets.token_urlsafe(16)
        while not isinstance(  # noqa: ASYNC110 - the desk is about to look on, and nobody tells
            await client.match(token, ticket, POOL, Role.CALLER), MatchedReply
        ):
            await asyncio.sleep(0.1)


@asynccontextmanager
async def house(directory: Path, open_pools: tuple[str, ...] = (EVERY_POOL,)) -> AsyncIterator[House]:
    async with AsyncExitStack() as stack:
        settings = hub_settings(directory, turn="off", open_pools=open_pools)
        info = await stack.enter_async_context(running_hub(settings))
        yield House(info, stack)


async def test_callers_that_say_nothing_do_not_keep_a_device_from_one_that_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Fails when a device waits for whom it was matched with before it looks on (call/reception.py).
    monkeypatch.setattr("voicemeet_edge.call.conversation.CALLER_TIMEOUT_S", 1000.0)
    async with house(tmp_path) as there:
        desk = await there.device("answerer")
        for _ in range(MAX_ARRIVING - 1):
            await there.ghost()
        visitor = await there.device("caller")
        visitor.press()
        await desk.wait_for(Lamp.RINGING)
        desk.press()
        for panel in (desk, visitor):
            await panel.wait_for(Lamp.MICROPHONE_OPEN)
        await asyncio.sleep(REPEAT_PRESS_S)  # a press any sooner would be a bounce of the first
        visitor.press()
        for panel in (desk, visitor):
            await panel.wait_for(Lamp.READY)


async def test_a_device_is_on_duty_again_when_nobody_it_was_matched_with_came(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = asyncio.Event()
    wait_for_callers = Reception.run

    async def run(self: Reception) -> None:
        await wait_for_callers(self)
        gone.set()

    monkeypatch.setattr(Reception, "run", run)
    async with house(tmp_path) as there:
        desk = await there.device("answerer")
        with monkeypatch.context() as impatient:
            impatient.setattr("voicemeet_edge.call.conversation.CALLER_TIMEOUT_S", 0.1)
            await there.ghost()
            await gone.wait()
        visitor = await there.device("caller")
        visitor.press()
        await desk.wait_for(Lamp.RINGING)


async def test_a_device_in_a_call_is_told_as_busy_and_then_as_free(tmp_path: Path) -> None:
    # Fails when a device leaves the pool for its call: the next visitor would hear that nobody is on duty.
    async with house(tmp_path, open_pools=()) as there:
        async with open_store(tmp_path / "hub") as store:
            passes = [await make_pass(store, POOL, role, "one") for role in (Role.ANSWERER, Role.CALLER)]
        desk = await there.device("answerer", passes[0])
        visitor = await there.device("caller", passes[1])
        client = Backend(there.info.url, there.info.apikey)
        token = (await client.session(shown_pass=passes[1])).device_token

        async def rings_until(expected: Callable[[RingingReply], bool]) -> None:
            """Ring as another visitor, from the button on, until this is what the hub says of it.

            As another one each time: a desk looks on until it has seen who came, so the hub may have given
            one visitor a call with it before it is told as busy, and a ticket keeps its call.
            """
            while True:
                wanted = MatchRequest(secrets.token_urlsafe(16), POOL, Role.CALLER, ring=True)
                reply = await client.ring(token, wanted)
                await client.leave(token, wanted.ticket)
                if expected(reply):
                    return
                await asyncio.sleep(0.05)

        busy = Desks(busy=1, away=0)
        visitor.press()
        await desk.wait_for(Lamp.RINGING)
        await rings_until(lambda reply: reply.desks == busy and not reply.calls)
        desk.press()
        for panel in (desk, visitor):
            await panel.wait_for(Lamp.MICROPHONE_OPEN)
        await rings_until(lambda reply: reply.desks == busy and not reply.calls)
        await asyncio.sleep(REPEAT_PRESS_S)  # a press any sooner would be a bounce of the first
        visitor.press()
        for panel in (desk, visitor):
            await panel.wait_for(Lamp.READY)
        await rings_until(lambda reply: len(reply.calls) == 1)
        await client.close()
