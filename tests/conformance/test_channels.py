"""Realtime as both backends have it: private topics, opened by tokens; our client and the official ones."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from tests.conformance.clients import CORNERS, Client, client
from tests.conformance.deployments import Deployment
from voicemeet_edge.backend.verbs import Role
from voicemeet_edge.errors import SignalingError
from voicemeet_edge.secret import Secret
from voicemeet_edge.signaling.channel import ChannelState
from voicemeet_edge.signaling.channel_handle import ChannelHandle
from voicemeet_edge.signaling.socket import RealtimeSocket

pytestmark = pytest.mark.timeout(120)

WAIT_S = 30.0  # s for anything one end is expected to hear

Heard = asyncio.Queue[tuple[str, dict[str, object]]]


def listen(socket: RealtimeSocket, topic: str, token: Secret) -> tuple[ChannelHandle, Heard]:
    """Open a channel; what is heard on it goes into the queue."""
    heard: Heard = asyncio.Queue()
    handle = socket.channel(
        topic,
        token,
        on_broadcast=lambda event, payload: heard.put_nowait((event, payload)),
        on_state=lambda state: None,
    )
    return handle, heard


async def next_of(heard: Heard) -> tuple[str, dict[str, object]]:
    async with asyncio.timeout(WAIT_S):
        return await heard.get()


async def test_a_match_is_pushed_to_who_waits(backend: Deployment) -> None:
    desk, door = await backend.party(), await backend.party()
    waiting = await desk.waits(Role.ANSWERER, "frontdesk")
    channel, heard = listen(await backend.socket(), f"wait:{desk.ticket}", waiting.wait_token)
    await channel.joined(WAIT_S)
    ours = await door.meets(Role.CALLER, "frontdesk")
    event, payload = await next_of(heard)
    assert event == "matched"
    assert set(payload) <= {"id"}  # Postgres' own pushes carry one
    assert (await desk.meets(Role.ANSWERER, "frontdesk")).call_id == ours.call_id


async def test_both_ends_of_a_call_hear_each_other_and_nobody_else_does(backend: Deployment) -> None:
    _, _, ours, theirs = await backend.call()
    _, _, foreign, _ = await backend.call()
    topic = f"call:{ours.call_id}"
    one, heard_one = listen(await backend.socket(), topic, ours.token)
    other, heard_other = listen(await backend.socket(), topic, theirs.token)
    await one.joined(WAIT_S)
    await other.joined(WAIT_S)
    strangers = await backend.socket()
    waiting = await (await backend.party()).waits(Role.CALLER, "lab")
    for token in (foreign.token, backend.apikey, waiting.wait_token):
        stranger, _ = listen(strangers, topic, token)
        with pytest.raises(SignalingError):
            await stranger.joined(WAIT_S)
        assert stranger.state is ChannelState.REFUSED
        await stranger.leave()
    await one.send("hello", {"v": 1, "slot": "a", "seq": 1, "text": "ä€𝄞"}, WAIT_S)
    assert await next_of(heard_other) == ("hello", {"v": 1, "slot": "a", "seq": 1, "text": "ä€𝄞"})
    await other.send("bye", {"v": 1, "slot": "b", "seq": 1}, WAIT_S)
    assert (await next_of(heard_one))[0] == "bye"
    assert heard_other.empty()
    # A fresh token keeps the channel; leaving closes it.
    renewed = await backend.client().renew(ours.token)
    await one.set_token(renewed.token)
    await one.send("still", {"v": 1}, WAIT_S)
    assert (await next_of(heard_other))[0] == "still"
    await one.leave()
    await one.leave()
    assert one.state is ChannelState.CLOSED


async def test_who_waits_may_listen_and_not_speak(backend: Deployment) -> None:
    party = await backend.party()
    waiting = await party.waits(Role.CALLER, "lab")
    topic = f"wait:{party.ticket}"
    socket = await backend.socket()
    channel, heard = listen(socket, topic, waiting.wait_token)
    second, heard_too = listen(await backend.socket(), topic, waiting.wait_token)
    await channel.joined(WAIT_S)
    await second.joined(WAIT_S)
    with pytest.raises((SignalingError, TimeoutError)):
        await channel.send("matched", {}, 2.0)
    assert heard.empty()
    assert heard_too.empty()


@pytest.fixture
async def clients(backend: Deployment) -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        yield stack


async def enter(stack: AsyncExitStack, backend: Deployment, corner: str) -> Client:
    url, key = backend.realtime_url, backend.apikey.reveal()
    return await stack.enter_async_context(client(corner, url, key))


@pytest.mark.parametrize("corner", CORNERS)
async def test_an_official_client_is_pushed_its_match_and_makes_a_whole_call(
    backend: Deployment, clients: AsyncExitStack, corner: str
) -> None:
    desk, door = await backend.party(), await backend.party()
    waiting = await desk.waits(Role.ANSWERER, "frontdesk")
    official = await enter(clients, backend, corner)
    await official.do("set_auth", token=waiting.wait_token.reveal())
    state = await official.subscribe("wait", f"wait:{desk.ticket}", private=True)
    assert state["status"] == "SUBSCRIBED"
    ours = await door.meets(Role.CALLER, "frontdesk")
    await official.broadcast("matched")
    theirs = await desk.meets(Role.ANSWERER, "frontdesk")

    # The other end is the other official client, or this one's twin.
    other = await enter(clients, backend, CORNERS[(CORNERS.index(corner) + 1) % len(CORNERS)])
    topic = f"call:{ours.call_id}"
    for end, token in ((official, theirs.token), (other, ours.token)):
        await end.do("set_auth", token=token.reveal())
        assert (await end.subscribe("call", topic, private=True))["status"] == "SUBSCRIBED"
    script: list[tuple[Client, Client, str, dict[str, object]]] = [
        (other, official, "hello", {"slot": "a", "reply": True}),
        (official, other, "hello", {"slot": "b", "reply": False}),
        (official, other, "ring", {"slot": "b"}),
        (official, other, "accept", {"slot": "b"}),
        (other, official, "offer", {"slot": "a", "sdp": "v=0\r\n" + "a=x\r\n" * 500, "attempt": 0}),
        (official, other, "answer", {"slot": "b", "sdp": "v=0\r\n", "attempt": 0}),
        (other, official, "bye", {"slot": "a", "reason": "hung_up"}),
    ]
    for seq, (speaker, listener, event, fields) in enumerate(script, 1):
        payload = {"v": 1, "seq": seq, **fields}
        assert await speaker.do("send", name="call", event=event, payload=payload) == "ok"
        await listener.broadcast(event, seq=seq)
    for end in (official, other):
        await end.do("unsubscribe", name="call")
    await door.client.ended(ours.token, 1)
    await desk.client.ended(theirs.token, 1)


@pytest.mark.parametrize("corner", CORNERS)
async def test_an_official_client_without_the_token_is_refused(
    backend: Deployment, clients: AsyncExitStack, corner: str
) -> None:
    _, _, ours, _ = await backend.call()
    stranger = await enter(clients, backend, corner)
    state = await stranger.subscribe("call", f"call:{ours.call_id}", private=True)
    assert state["status"] == "CHANNEL_ERROR"
    assert "Unauthorized" in state["error"]
    other = await enter(clients, backend, corner)
    public = await other.subscribe("open", f"call:{ours.call_id}", private=False)
    assert public["status"] == "CHANNEL_ERROR"


async def test_a_wrong_key_opens_no_socket(backend: Deployment) -> None:
    socket = RealtimeSocket(backend.url, Secret("sb_publishable_wrong"))
    running = asyncio.create_task(socket.run())
    channel, _ = listen(socket, "call:" + "x" * 32, Secret("x"))
    try:
        with pytest.raises((SignalingError, TimeoutError)):
            await channel.joined(3.0)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
