"""The Realtime server frame by frame: handshake, join, broadcast, tokens, limits, idle sockets."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from contextlib import AsyncExitStack
from typing import Any

import aiohttp
import aiohttp.web
import pytest

from tests.hub.realtime.wire import Wire, parsed, wire
from tests.signaling.realtime_hub import call_token, hub, token
from voicemeet_edge.hub.limits import Rate
from voicemeet_edge.signaling.frames import MAX_FRAME_BYTES, Layout, PhoenixFrame, Version, encode
from voicemeet_edge.testing.waiting import until

V1, V2 = Version.V1, Version.V2
T = "realtime:room"
CALL = "realtime:call:c1"


@pytest.mark.parametrize(
    ("params", "status", "error"),
    [
        ({}, 401, "Missing API key"),
        ({"apikey": "junk"}, 401, "MalformedJWT"),
        ({"apikey": token(life_s=-5)}, 401, "expired"),
        ({"apikey": token()[:-4] + "AAAA"}, 401, "JwtSignatureError"),
        ({"apikey": token(), "vsn": "3.0.0"}, 400, "version"),
    ],
)
async def test_a_refused_handshake_is_json_with_a_status(
    params: dict[str, str], status: int, error: str
) -> None:
    async with hub() as server, aiohttp.ClientSession() as session:
        with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
            await session.ws_connect(f"{server.url}/websocket", params=params)
        assert caught.value.status == status
        async with session.get(f"{server.base}/realtime/v1/websocket", params=params) as response:
            assert response.status == status
            assert error in (await response.json())["error"]
        assert server.realtime.stats().counters["refused_handshakes"] == 2


async def test_a_plain_get_with_a_good_key_is_a_400() -> None:
    async with hub() as server, aiohttp.ClientSession() as session:
        url = f"{server.base}/realtime/v1/websocket"
        async with session.get(url, headers={"x-api-key": token()}) as response:
            assert response.status == 400
            assert "error" in await response.json()


async def test_who_goes_in_the_middle_of_the_handshake_is_no_fault_of_ours(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    begin = aiohttp.web.WebSocketResponse._start

    async def gone(*arguments: Any) -> None:
        await begin(*arguments)
        raise ConnectionResetError

    async with hub() as server, aiohttp.ClientSession() as session:
        monkeypatch.setattr(aiohttp.web.WebSocketResponse, "_start", gone)
        with contextlib.suppress(aiohttp.ClientError):
            ws = await session.ws_connect(f"{server.url}/websocket", params={"apikey": token()})
            await ws.receive()
        monkeypatch.undo()
        async with wire(server) as another:
            await another.silence()
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == []


async def test_connections_are_limited_per_address_and_in_all() -> None:
    for limit in ({"max_connections_per_address": 1}, {"max_connections": 1}):
        async with hub(**limit) as server:
            async with wire(server):
                with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
                    async with wire(server):
                        pass
                assert caught.value.status == 429
            await until(lambda server=server: server.realtime.stats().connections == 0)  # type: ignore[misc]
            async with wire(server) as again:
                await again.silence()


async def test_the_first_version_spells_out_nulls_and_leaves_join_ref_out() -> None:
    async with hub() as server, wire(server, V1) as one:
        await one.ask_to_join(T, broadcast={"self": True, "ack": True})
        assert parsed(await one.raw()) == {
            "topic": T,
            "event": "phx_reply",
            "payload": {"status": "ok", "response": {"postgres_changes": []}},
            "ref": "1",
        }
        await one.broadcast(T, "hi", {"n": 1}, "1")
        assert parsed(await one.raw()) == {
            "topic": T,
            "event": "broadcast",
            "payload": {"type": "broadcast", "event": "hi", "payload": {"n": 1}},
            "ref": None,
        }


async def test_no_version_in_the_url_means_the_first() -> None:
    async with (
        hub() as server,
        aiohttp.ClientSession() as session,
        session.ws_connect(f"{server.url}/websocket", params={"apikey": token()}) as socket,
    ):
        await Wire(socket, V1).silence()


async def test_a_heartbeat_without_ref_gets_a_reply_without_ref() -> None:
    async with hub() as server, wire(server, V1) as one:
        await one.socket.send_str(
            '{"topic":"phoenix","event":"heartbeat","payload":{},"ref":null,"join_ref":null}'
        )
        assert parsed(await one.raw()) == {
            "topic": "phoenix",
            "event": "phx_reply",
            "payload": {"status": "ok", "response": {}},
            "ref": None,
        }


async def test_broadcasts_cross_the_versions() -> None:
    async with hub() as server, wire(server, V1) as old, wire(server, V2) as new, wire(server, V2) as tap:
        joins = [await one.join(T) for one in (old, new, tap)]
        await old.broadcast(T, "text", {"n": 1}, joins[0])
        assert parsed(await new.raw()) == [
            None,
            None,
            T,
            "broadcast",
            {"type": "broadcast", "event": "text", "payload": {"n": 1}},
        ]
        await tap.frame()
        binary = PhoenixFrame(joins[1], "9", T, "offer", {"sdp": "v=0"}, Layout.PUSH, {"replayed": True})
        await new.socket.send_bytes(encode(binary, V2))  # type: ignore[arg-type]  # binary kinds give bytes
        assert await tap.frame() == PhoenixFrame(
            None, None, T, "offer", {"sdp": "v=0"}, Layout.BROADCAST, {"replayed": True}
        )
        assert parsed(await old.raw()) == {
            "topic": T,
            "event": "broadcast",
            "payload": {
                "type": "broadcast",
                "event": "offer",
                "payload": {"sdp": "v=0"},
                "meta": {"replayed": True},
            },
            "ref": None,
        }
        raw = PhoenixFrame(joins[1], "10", T, "raw", b"\x00\xff", Layout.PUSH)
        await new.socket.send_bytes(encode(raw, V2))  # type: ignore[arg-type]
        assert (await tap.frame()).payload == b"\x00\xff"
        await old.silence()
        await new.silence()


async def test_acks_and_echoes_come_only_when_asked_for() -> None:
    async with hub() as server, wire(server) as one:
        quiet = await one.join(T)
        await one.broadcast(T, "hi", {}, quiet)
        await one.silence()
        loud = await one.join("realtime:loud", broadcast={"ack": True, "self": "true"})
        ref = await one.broadcast("realtime:loud", "hi", {}, loud)
        await one.expect("broadcast")
        frame = await one.frame()
        assert (frame.ref, frame.join_ref) == (ref, loud)
        assert frame.payload == {"status": "ok", "response": {}}


async def test_a_private_topic_is_another_than_the_public_one_of_its_name() -> None:
    async with hub() as server, wire(server) as public, wire(server) as private:
        await public.join(CALL)
        await private.join(CALL, call_token("c1", "a"), private=True)
        assert await server.realtime.broadcast("call:c1", "ring", {}) == 1
        await private.expect("broadcast")
        await public.silence()


@pytest.mark.parametrize(
    ("topic", "access_token", "reason"),
    [
        (CALL, None, "Unauthorized: You do not have permissions to read from this Channel topic: call:c1"),
        (CALL, call_token("c2", "a"), "Unauthorized"),
        (CALL, token("admin"), "Unauthorized"),  # nobody without a slot joins a call
        (CALL, "junk", "MalformedJWT"),
        (CALL, token(life_s=-100, call_id="c1", slot="a"), "InvalidJWTToken: Token has expired "),
        (CALL, token()[:-4] + "AAAA", "JwtSignatureError"),
        (CALL, "sb_publishable_x", "Unauthorized"),  # ignored: the apikey's claims count
        ("realtime:", call_token("c1", "a"), "TopicNameRequired"),
        ("room", call_token("c1", "a"), "unmatched topic"),
    ],
)
async def test_a_refused_join_says_why(topic: str, access_token: str | None, reason: str) -> None:
    async with hub() as server, wire(server) as one:
        await one.ask_to_join(topic, access_token, private=True)
        assert (await one.refusal()).startswith(reason)
        await one.silence()
        assert server.realtime.stats().counters["refused_joins"] == 1
        assert server.realtime.stats().channels == 0


async def test_public_topics_can_be_switched_off() -> None:
    async with hub(allow_public=False) as server, wire(server) as one:
        await one.ask_to_join(T)
        assert (await one.refusal()).startswith("PrivateOnly")


async def test_a_malformed_config_means_defaults() -> None:
    async with hub() as server, wire(server) as one:
        await one.send(T, "phx_join", {"config": [1]}, join_ref="1", ref="1")
        assert (await one.expect("phx_reply"))["status"] == "ok"


async def test_a_second_join_closes_the_first_with_its_old_join_ref() -> None:
    async with hub() as server, wire(server) as one:
        first = await one.join(T)
        second = await one.ask_to_join(T)
        close = await one.frame()
        assert (close.event, close.join_ref, close.ref) == ("phx_close", first, first)
        reply = await one.frame()
        assert (reply.event, reply.join_ref, reply.ref) == ("phx_reply", second, second)
        await one.send(T, "phx_leave", join_ref=first)  # stale: no answer, no effect
        await one.silence()
        assert server.realtime.stats().channels == 1


async def test_leave_replies_then_closes_and_unknown_topics_are_unmatched() -> None:
    async with hub() as server, wire(server) as one:
        join_ref = await one.join(T)
        ref = await one.send(T, "phx_leave", join_ref=join_ref)
        reply, close = await one.frame(), await one.frame()
        assert (reply.event, reply.ref) == ("phx_reply", ref)
        assert (close.event, close.join_ref, close.ref) == ("phx_close", join_ref, join_ref)
        await one.broadcast(T, "hi", {}, join_ref)
        assert await one.refusal() == "unmatched topic"
        await one.send(T, "phx_leave", join_ref=join_ref)
        assert (await one.expect("phx_reply"))["status"] == "ok"
        assert server.realtime.stats().topics == 0


async def test_a_write_the_policy_forbids_gets_no_answer_and_reaches_nobody() -> None:
    async with hub() as server, wire(server) as listener, wire(server) as party:
        join_ref = await listener.join(
            CALL, token("listener", slot="a"), private=True, broadcast={"ack": True}
        )
        await party.join(CALL, call_token("c1", "b"), private=True)
        await listener.broadcast(CALL, "offer", {}, join_ref)
        await listener.silence()
        await party.silence()
        assert server.realtime.stats().counters["refused_writes"] == 1


async def test_a_call_has_one_member_per_slot() -> None:
    async with hub() as server, wire(server) as old, wire(server) as peer, wire(server) as new:
        await old.join(CALL, call_token("c1", "a"), private=True)
        await peer.join(CALL, call_token("c1", "b"), private=True)
        await new.join(CALL, call_token("c1", "a"), private=True)
        assert (await old.system_close()).startswith("ReplacedByNewerJoin")
        assert await server.realtime.broadcast("call:c1", "ring", {}) == 2
        await peer.expect("broadcast")
        await new.expect("broadcast")


async def test_expiry_is_told_and_closes() -> None:
    async with hub() as server, wire(server) as one:
        await one.join(CALL, call_token("c1", "a", life_s=2), private=True)
        assert (await one.system_close()).startswith("Token has expired")
        await one.silence()


async def test_the_apikeys_expiry_closes_public_channels_too() -> None:
    async with hub() as server, wire(server, key=token(life_s=2)) as one:
        await one.join(T)
        assert (await one.system_close()).startswith("Token has expired")
        await one.ask_to_join(T)
        assert (await one.refusal()).startswith("InvalidJWTToken")


@pytest.mark.parametrize(
    ("fresh", "message"),
    [
        ("junk", "MalformedJWT"),
        (token(life_s=-3), "InvalidJWTToken: Token has expired"),
        (call_token("c2", "a"), "You do not have permissions"),
        (call_token("c1", "b"), "You do not have permissions"),  # the other's slot
    ],
)
async def test_a_bad_fresh_token_closes_the_channel(fresh: str, message: str) -> None:
    async with hub() as server, wire(server) as one:
        join_ref = await one.join(CALL, call_token("c1", "a"), private=True)
        await one.send(CALL, "access_token", {"access_token": fresh}, join_ref=join_ref)
        assert (await one.system_close()).startswith(message)


async def test_a_good_fresh_token_is_taken_without_a_word() -> None:
    async with hub() as server, wire(server) as one, wire(server) as clock:
        first = call_token("c1", "a", life_s=2)
        join_ref = await one.join(CALL, first, private=True)
        for same in (first, None, "sb_x"):
            await one.send(CALL, "access_token", {"access_token": same}, join_ref=join_ref)
        await one.send(CALL, "access_token", {"access_token": call_token("c1", "a")}, join_ref=join_ref)
        await one.silence()
        await clock.join("realtime:call:c9", call_token("c9", "a", life_s=2.5), private=True)
        await clock.system_close()  # by now the first token is over
        await one.silence()


async def test_presence_state_diff_update_and_loss() -> None:
    async with hub() as server, wire(server) as watcher:
        await watcher.join(T, presence={"key": "w", "enabled": True})
        assert await watcher.expect("presence_state") == {}
        async with wire(server, V1) as guest:
            join_ref = await guest.join(T, presence={"key": "g", "enabled": True})
            await guest.expect("presence_state")
            track: dict[str, object] = {"type": "presence", "event": "TRACK", "payload": {"mood": "shy"}}
            await guest.send(T, "presence", track, join_ref=join_ref)
            diff = await watcher.expect("presence_diff")
            assert diff["leaves"] == {}
            [meta] = diff["joins"]["g"]["metas"]  # type: ignore[index]
            assert meta["mood"] == "shy"
            assert await guest.expect("presence_diff") == diff
            assert (await guest.expect("phx_reply"))["status"] == "ok"
            await guest.send(T, "presence", track, join_ref=join_ref)  # the same again: nothing new
            assert (await guest.expect("phx_reply"))["status"] == "ok"
            await guest.send(
                T, "presence", {"event": "track", "payload": {"mood": "merry"}}, join_ref=join_ref
            )
            update = await watcher.expect("presence_diff")
            [new] = update["joins"]["g"]["metas"]  # type: ignore[index]
            assert new["phx_ref_prev"] == meta["phx_ref"]
            assert update["leaves"] == {"g": {"metas": [meta]}}
            async with wire(server) as late:
                await late.join(T, presence={"enabled": True})
                assert await late.expect("presence_state") == {"g": {"metas": [new]}}
        diff = await watcher.expect("presence_diff")
        assert diff == {"joins": {}, "leaves": {"g": {"metas": [new]}}}


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        ({"event": "track", "payload": 7}, "Presence track payload must be a map"),
        ({"event": "dance"}, "Unknown presence event"),
        ({}, "Unknown presence event"),
    ],
)
async def test_bad_presence_is_refused(payload: dict[str, object], reason: str) -> None:
    async with hub() as server, wire(server) as one:
        join_ref = await one.join(T)
        await one.send(T, "presence", payload, join_ref=join_ref)
        assert await one.refusal() == reason


async def test_presence_is_limited_in_size_number_and_rate() -> None:
    limits = {"max_presence_bytes": 50, "max_presences": 1, "presence": Rate(0.001, 2)}
    async with hub(**limits) as server, wire(server) as one, wire(server) as two:
        join_ref = await one.join(T)
        await one.send(T, "presence", {"event": "track", "payload": {"a": "x" * 60}}, join_ref=join_ref)
        assert await one.system_close() == "Track message size exceeded"
        join_ref = await one.join(T)
        await one.send(T, "presence", {"event": "track", "payload": {}}, join_ref=join_ref)
        await one.expect("presence_diff")
        await one.expect("phx_reply")
        await one.send(T, "presence", {"event": "untrack"}, join_ref=join_ref)
        assert await one.system_close() == "Client presence rate limit exceeded"
        joins = await two.join(T), await one.join(T)
        await two.send(T, "presence", {"event": "track", "payload": {}}, join_ref=joins[0])
        await two.expect("presence_diff")
        await two.expect("phx_reply")
        async with wire(server) as three:
            join_ref = await three.join(T)
            await three.send(T, "presence", {"event": "track", "payload": {}}, join_ref=join_ref)
            assert await three.refusal() == "Too many presences on this topic"


async def test_malformed_frames_are_counted_and_the_socket_lives() -> None:
    async with hub() as server, wire(server) as one:
        for junk in ("", "junk", "[]", "[" * 5000, '["1","1",2,"phx_join",{}]'):
            await one.socket.send_str(junk)
        await one.socket.send_bytes(b"\x03\xff")
        await one.silence()
        assert server.realtime.stats().counters["malformed"] == 6


async def test_a_frame_beyond_the_limit_closes_the_socket() -> None:
    async with hub() as server, wire(server) as one:
        await one.socket.send_str("x" * (MAX_FRAME_BYTES + 1))
        assert await one.closed() == 1009
        await until(lambda: server.realtime.stats().connections == 0)


async def test_too_large_and_misshapen_broadcasts_are_refused_with_an_object() -> None:
    async with hub(max_payload_bytes=100) as server, wire(server) as one, wire(server) as other:
        join_ref = await one.join(T, broadcast={"ack": True})
        await other.join(T)
        await one.broadcast(T, "big", {"a": "x" * 100}, join_ref)
        assert (await one.expect("phx_reply"))["response"] == {
            "error": "payload_size_exceeded",
            "reason": "payload_size_exceeded",
        }
        await one.send(T, "broadcast", {"event": 7}, join_ref=join_ref)
        assert await one.refusal() == "malformed_broadcast"
        await other.silence()


async def test_floods_cost_the_channel_then_the_socket() -> None:
    async with hub(messages=Rate(0.001, 2)) as server, wire(server) as one:
        join_ref = await one.join(T)
        for _ in range(3):
            await one.broadcast(T, "spam", {}, join_ref)
        assert await one.system_close() == "Too many messages per second"
        await one.silence()
    async with hub(frames=Rate(0.001, 3)) as server, wire(server) as one:
        for _ in range(4):
            await one.send("phoenix", "heartbeat")
        assert await one.closed() == 1008
    async with hub(joins=Rate(0.001, 1)) as server, wire(server) as one:
        await one.join(T)
        await one.ask_to_join("realtime:b")
        assert (await one.refusal()).startswith("ClientJoinRateLimitReached")
        assert await one.closed() == 1008


async def test_channels_per_socket_are_limited() -> None:
    async with hub(max_channels=2) as server, wire(server) as one:
        await one.join("realtime:a")
        await one.join("realtime:b")
        await one.ask_to_join("realtime:c")
        assert (await one.refusal()).startswith("ChannelRateLimitReached")
        await one.ask_to_join("realtime:a")  # a rejoin takes no new place
        await one.expect("phx_close")
        await one.expect("phx_reply")


async def test_who_does_not_read_is_dropped_and_nobody_else_notices() -> None:
    async with hub(max_queue_bytes=300_000, max_queue=16) as server, AsyncExitStack() as stack:
        # A stream reader that stops reading: the kernel's buffers fill, then our queue.
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port, limit=1024)
        stack.callback(writer.close)
        request = (
            f"GET /realtime/v1/websocket?apikey={token()}&vsn=2.0.0 HTTP/1.1\r\nHost: x\r\n"
            "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
        )
        writer.write(request.encode())
        await reader.readuntil(b"\r\n\r\n")
        join = f'["1","1","{T}","phx_join",{{}}]'.encode()
        writer.write(bytes([0x81, 0x80 | len(join)]) + bytes(4) + join)
        await until(lambda: server.realtime.stats().channels == 1)
        good = await stack.enter_async_context(wire(server))
        await good.join(T)
        for n in range(400):
            await server.realtime.broadcast("room", "big", {"n": n, "a": "x" * 100_000}, private=False)
            await good.expect("broadcast")
            if server.realtime.stats().counters["dropped_slow"]:
                break
        assert server.realtime.stats().counters["dropped_slow"] >= 1
        await until(lambda: server.realtime.stats().connections == 1)
        await good.silence()


async def test_silent_sockets_are_closed_and_talking_ones_are_not() -> None:
    # The talking one is the older: were it not for its heartbeats, it would go first.
    async with hub(idle_timeout_s=1.5) as server, wire(server) as talking, wire(server) as silent:
        async with asyncio.TaskGroup() as group:
            waiting = group.create_task(silent.closed())
            while not waiting.done():
                await talking.silence()
                await asyncio.sleep(0.05)
        await talking.silence()
        assert server.realtime.stats().connections == 1


async def test_nothing_is_left_when_sockets_go() -> None:
    async with hub() as server:
        async with wire(server) as one:
            await one.join(T, presence={"enabled": True})
        await until(lambda: server.realtime.stats().connections == 0)
        stats = server.realtime.stats()
        assert (stats.channels, stats.topics) == (0, 0)
        assert not server.realtime._per_address
        assert json.dumps(stats.counters)
