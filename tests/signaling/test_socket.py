"""The client socket against the real server: join, acks, loss, restart, tokens, cancel."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import ipaddress
import logging
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import InvalidHandshake

from tests.net.holes import hole
from tests.signaling.realtime_hub import TestHub, call_token, hub, token
from voicemeet_edge.errors import LocalError, SignalingError
from voicemeet_edge.net.names import Names
from voicemeet_edge.not_connected import NotConnected
from voicemeet_edge.secret import Secret
from voicemeet_edge.signaling import socket as socket_module
from voicemeet_edge.signaling.channel import ChannelState
from voicemeet_edge.signaling.channel_handle import ChannelHandle
from voicemeet_edge.signaling.frames import PhoenixFrame, Version, decode, encode
from voicemeet_edge.signaling.reconnect import Backoff
from voicemeet_edge.signaling.socket import RealtimeSocket, SocketState, realtime_url, why
from voicemeet_edge.testing.proxy import FreezingProxy
from voicemeet_edge.testing.waiting import until


class End:
    """One end of a call: a running socket with one channel and what it heard."""

    def __init__(
        self,
        url: str,
        *,
        backoff: Backoff | None = None,
        apikey: str | None = None,
        on_broadcast: Callable[[str, dict[str, object]], None] | None = None,
        **options: float,
    ) -> None:
        self.socket_states: list[SocketState] = []
        self.states: list[ChannelState] = []
        self.heard: asyncio.Queue[tuple[str, dict[str, object]]] = asyncio.Queue()
        self.backoff = backoff or Backoff(base_s=0.05, cap_s=0.2, stable_s=0.0)
        self._on_broadcast = on_broadcast or (lambda event, payload: self.heard.put_nowait((event, payload)))
        self.socket = RealtimeSocket(
            url,
            Secret(apikey or token()),
            on_state=self.socket_states.append,
            backoff=self.backoff,
            **options,  # type: ignore[arg-type]  # heartbeat_s, push_timeout_s
        )
        self.channel: ChannelHandle

    def join(self, topic: str, channel_token: str) -> ChannelHandle:
        """Open the channel."""
        self.channel = self.socket.channel(
            topic,
            Secret(channel_token),
            on_broadcast=self._on_broadcast,
            on_state=self.states.append,
        )
        return self.channel


@asynccontextmanager
async def running(*ends: End) -> AsyncIterator[None]:
    before = asyncio.all_tasks()
    tasks = [asyncio.create_task(end.socket.run()) for end in ends]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(result, asyncio.CancelledError) for result in results), results
        left = {t for t in asyncio.all_tasks() - before if "voicemeet_edge.signaling" in repr(t)}
        assert not left


async def two_ends(running_hub: TestHub, call_id: str = "c1") -> tuple[End, End]:
    a, b = End(running_hub.base), End(running_hub.base)
    a.join(f"call:{call_id}", call_token(call_id, "a"))
    b.join(f"call:{call_id}", call_token(call_id, "b"))
    return a, b


async def test_two_ends_hear_each_other_and_not_themselves() -> None:
    async with hub() as server:
        a, b = await two_ends(server)
        async with running(a, b):
            await a.channel.joined(20)
            await b.channel.joined(20)
            await a.channel.send("offer", {"sdp": "v=0 ä"}, 20)
            await b.channel.send("answer", {"sdp": "v=0"}, 20)
            assert await b.heard.get() == ("offer", {"sdp": "v=0 ä"})
            assert await a.heard.get() == ("answer", {"sdp": "v=0"})
            assert a.heard.empty()
            assert b.heard.empty()
            assert a.states == [ChannelState.JOINING, ChannelState.JOINED]
            await a.channel.leave()
            await a.channel.leave()
            assert a.socket.state is SocketState.UP  # the next call needs only a join
            with pytest.raises(SignalingError):
                await a.channel.send("bye", {}, 20)


async def test_a_foreign_token_is_refused_for_good() -> None:
    async with hub() as server:
        end = End(server.base)
        end.join("call:c1", call_token("other", "a"))
        async with running(end):
            with pytest.raises(SignalingError) as caught:
                await end.channel.joined(20)
            assert caught.value.code == "unauthorized"
            assert not caught.value.retryable
            assert end.states[-1] is ChannelState.REFUSED
            await end.channel.set_token(Secret(call_token("c1", "a")))
            await end.channel.joined(20)


async def test_a_hub_restart_is_survived_and_the_push_is_repeated() -> None:
    async with hub() as server:
        a, b = await two_ends(server)
        async with running(a, b):
            await a.channel.joined(20)
            await b.channel.joined(20)
            await server.stop()
            await until(lambda: a.socket.state is SocketState.DOWN and b.socket.state is SocketState.DOWN)
            push = asyncio.create_task(a.channel.send("bye", {"n": 1}, 30))
            await server.start()
            await push
            await b.channel.joined(20)
            # b may have rejoined after the push: at most once is what a broadcast promises.
            await a.channel.send("bye", {"n": 2}, 20)
            assert ("bye", {"n": 2}) in [await b.heard.get()] or await b.heard.get() == ("bye", {"n": 2})
            assert ChannelState.WAITING in a.states


async def test_expiry_asks_for_a_token_and_the_fresh_one_rejoins() -> None:
    async with hub() as server:
        end = End(server.base)
        end.join("call:c1", call_token("c1", "a", life_s=1.5))
        async with running(end):
            await until(lambda: ChannelState.TOKEN_WANTED in end.states)
            sending = asyncio.create_task(end.channel.send("hello", {}, 30))  # waits for the owner
            await end.channel.set_token(Secret(call_token("c1", "a")))
            await sending
            assert end.channel.state is ChannelState.JOINED


async def test_a_refreshed_token_outlives_the_first() -> None:
    async with hub() as server:
        end = End(server.base)
        end.join("call:c1", call_token("c1", "a", life_s=2.0))
        other = End(server.base)
        other.join("call:c1", call_token("c1", "b", life_s=2.5))
        async with running(end, other):
            await end.channel.joined(20)
            await end.channel.set_token(Secret(call_token("c1", "a")))
            await until(lambda: ChannelState.TOKEN_WANTED in other.states)  # later than our first token
            assert ChannelState.TOKEN_WANTED not in end.states
            assert end.channel.state is ChannelState.JOINED


async def test_the_newer_join_of_a_slot_replaces_the_older() -> None:
    async with hub() as server:
        old, new = End(server.base), End(server.base)
        old.join("call:c1", call_token("c1", "a"))
        async with running(old, new):
            await old.channel.joined(20)
            new.join("call:c1", call_token("c1", "a"))
            await new.channel.joined(20)
            await until(lambda: old.channel.state is ChannelState.REFUSED)
            assert server.realtime.stats().channels == 1


async def test_a_refused_handshake_waits_long_and_the_log_holds_no_key(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with hub() as server:
        end = End(server.base, apikey="not-a-token-at-all")
        with caplog.at_level(logging.DEBUG):
            async with running(end):
                await until(lambda: server.realtime.stats().counters["refused_handshakes"] >= 2)
        assert "401" in caplog.text
        assert "not-a-token" not in caplog.text
        warnings = [r for r in caplog.records if r.levelno >= logging.INFO and "voicemeet" in r.name]
        assert len(warnings) == 1, "the first failure is told, repeats are not"


@asynccontextmanager
async def raw_server(handler: Callable[[ServerConnection], Awaitable[None]]) -> AsyncIterator[str]:
    async with serve(handler, "127.0.0.1", 0) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        yield f"ws://127.0.0.1:{port}"


async def test_an_unanswered_heartbeat_means_a_dead_connection() -> None:
    connections: list[ServerConnection] = []

    async def deaf(connection: ServerConnection) -> None:
        connections.append(connection)
        await connection.wait_closed()  # TCP and WebSocket are fine, Phoenix says nothing

    async with raw_server(deaf) as url:
        end = End(url, heartbeat_s=0.05)
        async with running(end):
            await until(lambda: len(connections) >= 2)
            assert SocketState.DOWN in end.socket_states


async def test_garbage_from_the_server_is_dropped() -> None:
    async def babble(connection: ServerConnection) -> None:
        await connection.send("not json")
        await connection.send(b"\x07")
        await connection.send('[null,null,"realtime:other","broadcast",{"event":"x","payload":{}}]')
        await connection.wait_closed()

    async with raw_server(babble) as url:
        end = End(url)
        async with running(end):
            await until(lambda: end.socket.dropped == 3)
            assert end.socket.state is SocketState.UP


async def test_a_push_lost_with_its_connection_is_sent_again() -> None:
    pushes: list[PhoenixFrame] = []

    async def hangs_up_on_the_first_push(connection: ServerConnection) -> None:
        async for message in connection:
            frame = decode(message, Version.V2)
            if frame.event == "broadcast":
                pushes.append(frame)
                if len(pushes) == 1:
                    return
            reply = PhoenixFrame(
                frame.join_ref, frame.ref, frame.topic, "phx_reply", {"status": "ok", "response": {}}
            )
            await connection.send(encode(reply, Version.V2))

    async with raw_server(hangs_up_on_the_first_push) as url:
        end = End(url)
        end.join("call:c1", "t")
        async with running(end):
            await end.channel.send("bye", {"seq": 7}, 30)
    assert [push.payload for push in pushes] == [pushes[0].payload] * 2


async def test_a_send_nobody_acknowledges_ends_in_time() -> None:
    async with hub() as server:
        end = End(server.base)
        end.join("call:c1", token("listener", slot="a"))  # may read, may not write: no answer at all
        async with running(end):
            await end.channel.joined(20)
            with pytest.raises(SignalingError) as caught:
                await end.channel.send("offer", {}, 0.2)
            assert caught.value.code == "push_timeout"


async def test_network_back_cuts_the_wait_short() -> None:
    async with hub() as server:
        backoff = Backoff(base_s=1000, cap_s=1000, uniform=lambda low, high: high)
        end = End(server.base, backoff=backoff)
        await server.stop()
        async with running(end):
            await until(lambda: backoff.deadline is not None)
            await server.start()
            end.socket.network_back()
            await until(lambda: end.socket.state is SocketState.UP)


async def test_an_owners_exception_harms_nobody(caplog: pytest.LogCaptureFixture) -> None:
    async with hub() as server:
        a, b = End(server.base), End(server.base, on_broadcast=lambda event, payload: [][0])
        a.join("call:c1", call_token("c1", "a"))
        b.join("call:c1", call_token("c1", "b"))
        async with running(a, b):
            await a.channel.joined(20)
            await b.channel.joined(20)
            await a.channel.send("offer", {}, 20)
            await until(lambda: "handling a broadcast failed" in caplog.text)
            await b.channel.send("answer", {}, 20)


async def test_too_large_a_payload_fails_alone() -> None:
    async with hub() as server:
        end = End(server.base)
        end.join("call:c1", call_token("c1", "a"))
        async with running(end):
            await end.channel.joined(20)
            with pytest.raises(SignalingError) as caught:
                await end.channel.send("offer", {"sdp": "x" * 300_000}, 20)
            assert caught.value.code == "too_large"
            await end.channel.send("offer", {"sdp": "x"}, 20)


def test_realtime_url_keeps_host_and_path() -> None:
    assert realtime_url("https://h/") == "wss://h/realtime/v1/websocket"
    assert realtime_url("http://h:8/base") == "ws://h:8/base/realtime/v1/websocket"
    assert realtime_url("wss://h/realtime/v1/websocket") == "wss://h/realtime/v1/websocket"
    with pytest.raises(LocalError):
        realtime_url("ftp://h")


async def test_tls_is_checked_with_the_given_context(tmp_path: Path) -> None:
    certificate, key = self_signed(tmp_path)
    server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_context.load_cert_chain(certificate, key)
    trusting = ssl.create_default_context(cafile=certificate)

    async def silent(connection: ServerConnection) -> None:
        await connection.wait_closed()

    async with serve(silent, "127.0.0.1", 0, ssl=server_context) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        url = f"https://127.0.0.1:{port}"
        stranger, friend = End(url), End(url)
        friend.socket = RealtimeSocket(url, Secret(token()), ssl=trusting)
        async with running(stranger, friend):
            await until(lambda: friend.socket.state is SocketState.UP)
            await until(lambda: stranger.backoff.failures >= 2)
            assert stranger.socket_states == []


def self_signed(folder: Path) -> tuple[Path, Path]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False
        )
        .sign(key, hashes.SHA256())
    )
    paths = folder / "certificate.pem", folder / "key.pem"
    paths[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    paths[1].write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return paths


async def test_cancelling_at_any_moment_leaves_no_task() -> None:
    async with hub() as server:
        for steps in (1, 2, 5, 10, 20, 50):
            end = End(server.base)
            end.join("call:c1", call_token("c1", "a"))
            async with running(end):
                for _ in range(steps):
                    await asyncio.sleep(0)
            assert end.channel.state is ChannelState.CLOSED
            with pytest.raises(SignalingError):
                await end.channel.joined(20)
        await until(lambda: server.realtime.stats().connections == 0)


async def test_it_proves_that_it_lives_with_and_without_a_server() -> None:
    async with hub() as server:
        end = End(server.base)
        assert end.socket.alive_at is None, "nothing runs yet"
        async with running(end):
            await until(lambda: end.socket.state is SocketState.UP)
            seen = end.socket.alive_at
            assert seen is not None
            end.socket.check_network()
            await until(lambda: (end.socket.alive_at or 0.0) > seen)
            await server.stop()
            await until(lambda: end.socket.state is SocketState.DOWN)
            seen = end.socket.alive_at
            await until(lambda: (end.socket.alive_at or 0.0) > (seen or 0.0))  # it goes on trying


@pytest.mark.parametrize("when", ["waiting", "in a call"])
async def test_a_line_dead_without_a_word_is_replaced_when_somebody_depends_on_it(when: str) -> None:
    async with hub() as server, FreezingProxy(server.port) as proxy:
        end, peer = End(f"http://127.0.0.1:{proxy.port}"), End(server.base)
        peer.join("call:c1", call_token("c1", "b"))
        async with running(end, peer):
            await peer.channel.joined(20)
            await until(lambda: end.socket.state is SocketState.UP)
            if when == "in a call":
                end.join("call:c1", call_token("c1", "a"))
                await end.channel.joined(20)
            assert proxy.freeze() == 1
            end.socket.check_network()
            if when == "waiting":
                end.join("call:c1", call_token("c1", "a"))
            await end.channel.send("hello", {"seq": 1}, 20)
            assert await peer.heard.get() == ("hello", {"seq": 1})
            states = end.socket_states
            assert states == [SocketState.UP, SocketState.DOUBTED, SocketState.DOWN, SocketState.UP]


async def test_a_join_without_an_answer_makes_the_line_doubtful() -> None:
    async with hub() as server, FreezingProxy(server.port) as proxy:
        end = End(f"http://127.0.0.1:{proxy.port}", push_timeout_s=0.2)
        async with running(end):
            await until(lambda: end.socket.state is SocketState.UP)
            proxy.freeze()
            end.join("call:c1", call_token("c1", "a"))
            await end.channel.joined(20)


async def test_a_line_that_answers_late_is_kept_and_the_second_one_dropped() -> None:
    held: list[PhoenixFrame] = []
    release = asyncio.Event()
    over = asyncio.Event()
    connections = 0

    async def slow_first(connection: ServerConnection) -> None:
        nonlocal connections
        connections += 1
        if connections > 1:
            await over.wait()
        async for message in connection:
            frame = decode(message, Version.V2)
            held.append(frame)
            await release.wait()
            reply = PhoenixFrame(None, frame.ref, "phoenix", "phx_reply", {"status": "ok", "response": {}})
            await connection.send(encode(reply, Version.V2))

    spares: list[ServerConnection] = []

    async def refuse_the_second(connection: ServerConnection, _request: object) -> None:
        if connections:
            spares.append(connection)
            await over.wait()  # the second does not open in this test's time

    async with serve(slow_first, "127.0.0.1", 0, process_request=refuse_the_second) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        end = End(f"http://127.0.0.1:{port}")
        async with running(end):
            await until(lambda: end.socket.state is SocketState.UP)
            end.socket.check_network()
            await until(lambda: end.socket.state is SocketState.DOUBTED)
            await until(lambda: len(spares) == 1)
            release.set()
            await until(lambda: end.socket.state is SocketState.UP)
            await until(lambda: spares[0].transport.is_closing())
            over.set()
            assert end.socket_states == [SocketState.UP, SocketState.DOUBTED, SocketState.UP]


async def test_a_changed_network_ends_an_attempt_that_leads_nowhere() -> None:
    async with hub() as server:
        with hole(server.port):
            leads = {"to": "127.0.0.9"}
            asked = asyncio.Event()
            loop = asyncio.get_running_loop()

            def look_up(_host: str, family: socket.AddressFamily) -> list[str]:
                loop.call_soon_threadsafe(asked.set)
                return [leads["to"]] if family == socket.AF_INET else []

            names = Names(look_up)
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr("voicemeet_edge.net.eyeballs.connect.__kwdefaults__", {"names": names})
                end = End(f"http://hub.test:{server.port}")
                async with running(end):
                    await until(asked.is_set)
                    await names.resolve("hub.test")  # known now, and the way there is being tried
                    leads["to"] = "127.0.0.1"
                    end.socket.network_changed()
                    await until(lambda: end.socket.state is SocketState.UP, limit_s=8.0)


async def test_the_reason_is_said_once_and_again_when_it_is_another(caplog: pytest.LogCaptureFixture) -> None:
    async with hub() as server:
        end = End(server.base, apikey="wrong")
        await server.stop()
        async with running(end):
            await until(lambda: end.backoff.failures >= 3)
            await server.start()
            await until(lambda: "HTTP status" in caplog.text)
    said = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(said) == 2, said
    assert "nobody listens at the hub's address and port" in said[0]
    assert "the hub refuses the apikey (HTTP status 4" in said[1]
    assert "device-settings" in said[1]  # and what to do about it
    assert "127.0.0.1" not in caplog.text


@pytest.mark.parametrize(
    ("error", "reason", "sentence"),
    [
        (socket.gaierror(socket.EAI_AGAIN, "hub.example"), NotConnected.NAME_UNKNOWN, "name is not known"),
        (TimeoutError(), NotConnected.TIMEOUT, "does not answer"),
        (ConnectionRefusedError(111, "192.0.2.1"), NotConnected.NOBODY_LISTENS, "nobody listens"),
        (OSError(113, "192.0.2.1"), NotConnected.UNREACHABLE, "No route to host"),
        (OSError("192.0.2.1"), NotConnected.UNREACHABLE, "cannot be reached (OSError)"),
        (InvalidHandshake("192.0.2.1"), NotConnected.NO_HUB, "is no hub"),
    ],
)
def test_why_in_words_and_without_an_address(error: Exception, reason: NotConnected, sentence: str) -> None:
    found, said = why(error)
    assert found is reason
    assert sentence in said
    assert "192.0.2.1" not in said
    assert "example" not in said


async def test_a_connection_that_nobody_needs_rests_and_is_back_at_the_first_need() -> None:
    async with hub() as server:
        end, other = End(server.base, rest_after_s=0.2), End(server.base)
        async with running(end, other):
            await until(lambda: end.socket.state is SocketState.RESTING)
            await until(lambda: server.realtime.stats().connections == 1)
            assert end.socket_states == [SocketState.UP, SocketState.RESTING], "it was never down"
            one = end.join("call:c1", call_token("c1", "a"))
            two = other.join("call:c1", call_token("c1", "b"))
            await one.joined(20)
            await two.joined(20)
            # As long as a channel is open it stays, however quiet.
            await asyncio.sleep(0.5)
            await two.send("hi", {"n": 1}, 20)
            assert await end.heard.get() == ("hi", {"n": 1})
            await one.leave()
            await until(lambda: end.socket.state is SocketState.RESTING)
            end.socket.check_network()
            await until(lambda: end.socket_states.count(SocketState.UP) == 3)
            assert SocketState.DOWN not in end.socket_states


async def test_a_rest_ends_when_it_cannot_be_proven(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket_module, "PROVE_S", 0.3)
    async with hub() as server:
        end = End(server.base, rest_after_s=0.05)
        async with running(end):
            await until(lambda: end.socket_states.count(SocketState.RESTING) > 1)
            assert SocketState.DOWN not in end.socket_states
            await server.stop()
            await until(lambda: end.socket.state is SocketState.DOWN)
            await server.start()
            await until(lambda: end.socket.state in (SocketState.UP, SocketState.RESTING))


async def test_no_server_sends_us_elsewhere() -> None:
    # Fails with websockets' own `connect`: it follows redirects, with the apikey and later the call's token.
    visits: dict[str, int] = {"named": 0, "elsewhere": 0}

    async def elsewhere(_request: web.Request) -> web.StreamResponse:
        visits["elsewhere"] += 1
        return web.Response(status=400)

    async def named(_request: web.Request) -> web.StreamResponse:
        visits["named"] += 1
        return web.Response(
            status=302, headers={"Location": f"ws://127.0.0.1:{ports[0]}/realtime/v1/websocket"}
        )

    ports: list[int] = []
    async with contextlib.AsyncExitStack() as stack:
        for handler in (elsewhere, named):
            app = web.Application()
            app.router.add_route("*", "/{path:.*}", handler)
            runner = web.AppRunner(app)
            await runner.setup()
            stack.push_async_callback(runner.cleanup)
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            ports.append(int(runner.addresses[0][1]))
        end = End(f"http://127.0.0.1:{ports[1]}")
        async with running(end):
            await until(lambda: visits["named"] >= 2)  # the first answer was not followed
    assert visits["elsewhere"] == 0
