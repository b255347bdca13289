"""What only the hub has: public topics, presence, REST from clients, and its own counters looked into.

The official Realtime clients, unchanged, against the hub and with each other and our own. What every backend
has to do is in the other files here.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from tests.conformance.clients import CORNERS, WAIT_S, Client, client
from tests.signaling.realtime_hub import TestHub, call_token, hub, token
from voicemeet_edge.secret import Secret
from voicemeet_edge.signaling.socket import RealtimeSocket
from voicemeet_edge.testing.waiting import until

pytestmark = pytest.mark.timeout(180)

JS2, JS1, PY = "js-2.0.0", "js-1.0.0", "python-1.0.0"


class Room:
    """A hub, and clients that come and end with the test."""

    def __init__(self, server: TestHub, stack: AsyncExitStack) -> None:
        self.server = server
        self._stack = stack

    async def enter(self, corner: str, key: str = "") -> Client:
        """Start a client."""
        return await self._stack.enter_async_context(client(corner, self.server.url, key or token()))


@pytest.fixture
async def room() -> AsyncIterator[Room]:
    async with hub() as server, AsyncExitStack() as stack:
        yield Room(server, stack)


@pytest.mark.parametrize("corner", CORNERS)
async def test_join_ack_self_and_leave(corner: str, room: Room) -> None:
    one = await room.enter(corner)
    assert (await one.subscribe("echo", "lobby", echo=True))["status"] == "SUBSCRIBED"
    assert await one.do("send", name="echo", event="hi", payload={"n": 1, "text": "ä€𝄞"}) == "ok"
    assert (await one.broadcast("hi"))["payload"]["text"] == "ä€𝄞"
    assert (await one.subscribe("mute", "hall"))["status"] == "SUBSCRIBED"
    assert await one.do("send", name="mute", event="unheard", payload={}) == "ok"
    assert await one.do("send", name="echo", event="marker", payload={}) == "ok"
    await one.broadcast("marker")
    assert "unheard" not in one.broadcasts()
    await one.do("unsubscribe", name="echo")
    await one.event(lambda e: e["event"] == "status" and e["status"] == "CLOSED")
    assert room.server.realtime.stats().channels == 1


@pytest.mark.parametrize("corner", CORNERS)
async def test_a_private_channel_opens_for_its_token_only(corner: str, room: Room) -> None:
    stranger = await room.enter(corner)
    state = await stranger.subscribe("call", "call:c1", private=True)
    assert state["status"] == "CHANNEL_ERROR"
    assert "Unauthorized" in state["error"]
    party = await room.enter(corner)
    await party.do("set_auth", token=call_token("c1", "a"))
    assert (await party.subscribe("call", "call:c1", private=True))["status"] == "SUBSCRIBED"
    await room.server.realtime.broadcast("call:c1", "ring", {"n": 1})
    await party.broadcast("ring")
    assert stranger.broadcasts() == []


@pytest.mark.parametrize("corner", CORNERS)
async def test_an_expired_token_closes_the_channel(corner: str, room: Room) -> None:
    party = await room.enter(corner)
    await party.do("set_auth", token=call_token("c1", "a", life_s=3))
    assert (await party.subscribe("call", "call:c1", private=True))["status"] == "SUBSCRIBED"
    await party.event(lambda e: e["event"] == "status" and e["status"] == "CLOSED")
    assert room.server.realtime.stats().counters["expired"] == 1


@pytest.mark.parametrize("corner", CORNERS)
async def test_a_refreshed_token_keeps_the_channel_open(corner: str, room: Room) -> None:
    party, other = await room.enter(corner), await room.enter(JS2)
    await party.do("set_auth", token=call_token("c1", "a", life_s=4))
    assert (await party.subscribe("call", "call:c1", private=True))["status"] == "SUBSCRIBED"
    await party.do("set_auth", token=call_token("c1", "a"))
    # The witness' token ends after the party's first one did.
    await other.do("set_auth", token=call_token("c1", "b", life_s=6))
    assert (await other.subscribe("call", "call:c1", private=True))["status"] == "SUBSCRIBED"
    await other.event(lambda e: e["event"] == "status" and e["status"] == "CLOSED")
    assert await party.do("send", name="call", event="still", payload={}) == "ok"


@pytest.mark.parametrize("corner", CORNERS)
async def test_a_second_join_closes_the_first(corner: str, room: Room) -> None:
    one = await room.enter(corner)
    assert (await one.subscribe("first", "lobby"))["status"] == "SUBSCRIBED"
    await one.do("join_again", topic="lobby")
    await one.event(lambda e: e["event"] == "status" and e["status"] == "CLOSED")
    assert room.server.realtime.stats().channels == 1


@pytest.mark.parametrize("corner", CORNERS)
async def test_presence_comes_changes_and_goes(corner: str, room: Room) -> None:
    watcher, guest = await room.enter(corner), await room.enter(JS1 if corner != JS1 else JS2)
    assert (await watcher.subscribe("p", "party", presence=True, key="w"))["status"] == "SUBSCRIBED"
    assert (await guest.subscribe("p", "party", presence=True, key="g"))["status"] == "SUBSCRIBED"
    await guest.do("track", name="p", payload={"mood": "shy"})

    def shows(mood: str | None) -> object:
        def match(event: dict[str, object]) -> bool:
            state = event.get("state")
            if event["event"] != "presence" or not isinstance(state, dict):
                return False
            moods = [meta.get("mood") for meta in state.get("g", [])]
            return moods == ([] if mood is None else [mood])

        return match

    await watcher.event(shows("shy"))  # type: ignore[arg-type]
    await guest.do("track", name="p", payload={"mood": "merry"})
    await watcher.event(shows("merry"))  # type: ignore[arg-type]
    watcher.events.clear()
    await guest.do("untrack", name="p")
    await watcher.event(shows(None))  # type: ignore[arg-type]


async def test_every_corner_hears_every_other(room: Room) -> None:
    key = token()
    clients = {corner: await room.enter(corner) for corner in CORNERS}
    for one in clients.values():
        assert (await one.subscribe("c", "crossing"))["status"] == "SUBSCRIBED"
    heard: asyncio.Queue[str] = asyncio.Queue()
    socket = RealtimeSocket(room.server.base, Secret(key))
    ours = socket.channel(
        "crossing",
        Secret(key),
        on_broadcast=lambda event, payload: heard.put_nowait(event),
        on_state=lambda state: None,
        private=False,
    )
    running = asyncio.create_task(socket.run())
    try:
        await ours.joined(WAIT_S)
        for corner, one in clients.items():
            assert await one.do("send", name="c", event=f"from-{corner}", payload={"ä": [1, {}]}) == "ok"
        await ours.send("from-ours", {"ä": [1, {}]}, WAIT_S)
        for corner, one in clients.items():
            for sender in [*CORNERS, "ours"]:
                if sender != corner:
                    assert (await one.broadcast(f"from-{sender}"))["payload"] == {"ä": [1, {}]}
        assert {await heard.get() for _ in CORNERS} == {f"from-{corner}" for corner in CORNERS}
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_bytes_reach_2_0_0_and_not_1_0_0(room: Room) -> None:
    sender, new, old = await room.enter(JS2), await room.enter(JS2), await room.enter(PY)
    for one in (sender, new, old):
        assert (await one.subscribe("c", "bytes"))["status"] == "SUBSCRIBED"
    assert await sender.do("send_binary", name="c", event="raw", data="00ff10") == "ok"
    assert await sender.do("send", name="c", event="marker", payload={}) == "ok"
    assert (await new.broadcast("raw"))["payload"] == {"hex": "00ff10"}
    await old.broadcast("marker")
    assert old.broadcasts() == ["marker"]


@pytest.mark.parametrize("corner", CORNERS)
async def test_rest_broadcasts_arrive(corner: str, room: Room) -> None:
    sender, listener = await room.enter(corner), await room.enter(PY if corner == JS2 else JS2)
    assert (await listener.subscribe("c", "rest"))["status"] == "SUBSCRIBED"
    assert (await sender.subscribe("c", "rest"))["status"] == "SUBSCRIBED"
    await sender.do("http_send", name="c", event="posted", payload={"n": 7})
    assert (await listener.broadcast("posted"))["payload"]["n"] == 7
    assert (await sender.subscribe("d", "call:foreign", private=True))["status"] == "CHANNEL_ERROR"
    with pytest.raises(RuntimeError, match="Forbidden"):
        await sender.do("http_send", name="d", event="posted", payload={})


@pytest.mark.parametrize("corner", CORNERS)
async def test_clients_come_back_after_a_restart(corner: str, room: Room) -> None:
    one = await room.enter(corner)
    assert (await one.subscribe("c", "again"))["status"] == "SUBSCRIBED"
    await room.server.stop()
    await room.server.start()
    await until(lambda: room.server.realtime.stats().channels == 1, limit_s=WAIT_S)
    await room.server.realtime.broadcast("again", "back", {}, private=False)
    await one.broadcast("back")
