"""Relay allocation at a real coturn: relay-only calls, refusals, dead servers, freed allocations."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from aioice import stun

from tests.net.holes import hole
from tests.webrtc.coturn import Coturn, coturn
from tests.webrtc.ends import WAIT_S, ends, join, talk_in_threads
from voicemeet_edge.choices import IcePolicy
from voicemeet_edge.errors import MediaError
from voicemeet_edge.net.names import Names
from voicemeet_edge.testing.descriptions import leaks
from voicemeet_edge.webrtc import turn
from voicemeet_edge.webrtc.events import Connected
from voicemeet_edge.webrtc.ice import IceConnection
from voicemeet_edge.webrtc.ice_server import IceServer, TurnMemory, parse_ice_url
from voicemeet_edge.webrtc.options import PeerOptions
from voicemeet_edge.webrtc.peer import Peer
from voicemeet_edge.webrtc.sdp import parse
from voicemeet_edge.webrtc.turn import Answers, QuickTransaction, retry_delays

pytestmark = pytest.mark.system


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Coturn]:
    async with coturn(tmp_path) as running:
        yield running


def relay(*servers: IceServer, **more: object) -> PeerOptions:
    return replace(PeerOptions(ice_servers=servers, policy=IcePolicy.RELAY), **more)  # type: ignore[arg-type]


async def until_logged(server: Coturn, text: str, count: int) -> None:
    async with asyncio.timeout(WAIT_S):
        while server.log.read_text().count(text) < count:  # noqa: ASYNC110 - another process's file
            await asyncio.sleep(0.05)


async def test_a_relay_only_call_and_the_allocations_it_frees(server: Coturn) -> None:
    options = relay(server.server())
    async with ends(options) as (caller, answerer):
        await join(caller, answerer)
        await asyncio.gather(caller.connected(), answerer.connected())
        await answerer.hears(caller, count=50)
        await caller.hears(answerer, count=50)
        assert caller.peer.stats().local_kind == "relay"
        assert caller.peer.stats().remote_kind == "relay"
    # coturn writes its log behind time; the request itself was answered before close() returned.
    await until_logged(server, "lifetime=0", 2)


async def test_relayed_voice_in_other_threads_than_the_loops(server: Coturn) -> None:
    async with ends(relay(server.server())) as (caller, answerer):
        await join(caller, answerer)
        await asyncio.gather(caller.connected(), answerer.connected())
        # The channels are bound by the first packets.
        await asyncio.gather(caller.hears(answerer), answerer.hears(caller))
        assert caller.peer.sends_in_any_thread
        await talk_in_threads(caller, answerer)


@pytest.mark.parametrize("transport", ["udp", "tcp", "tls"])
@pytest.mark.parametrize("dead", ["255.255.255.255", "127.0.0.9"])
async def test_an_address_that_leads_nowhere_is_passed_over(
    server: Coturn, dead: str, transport: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No route to the first one (connecting to broadcast is not allowed), or nobody answers there."""
    known = [dead, server.address]
    names = Names(lambda _host, family: known if family == socket.AF_INET else [])
    monkeypatch.setattr("voicemeet_edge.webrtc.turn.NAMES", names)
    url = {"udp": server.udp, "tcp": server.tcp, "tls": server.tls}[transport]
    url = url.replace(server.address, "localhost")  # the name in the certificate
    port = server.tls_port if transport == "tls" else server.port
    with hole(port), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.9", port))
        options = replace(relay(server.server(url)), turn_ca=server.ca)
        async with ends(options) as (caller, answerer):
            await join(caller, answerer)
            await asyncio.gather(caller.connected(), answerer.connected())
            await answerer.hears(caller, count=5)
    assert await names.resolve("localhost") == [server.address, dead]


async def test_our_public_address_is_asked_of_a_server_with_a_dead_address(
    server: Coturn, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = Names(lambda _host, family: ["127.0.0.9", server.address] if family == socket.AF_INET else [])
    monkeypatch.setattr("voicemeet_edge.webrtc.ice.NAMES", names)
    options = PeerOptions(
        ice_servers=(IceServer((f"stun:stun.test:{server.port}",)),), addresses=("127.0.0.2",)
    )
    connection = IceConnection(options, controlling=True)
    await connection.gather_candidates()
    assert [candidate.kind for candidate in connection.published] == ["host"]  # as seen from there: no NAT
    assert (await names.resolve("stun.test"))[0] == server.address
    await connection.close()


async def test_a_relay_over_tcp_is_the_loops(server: Coturn) -> None:
    over_tcp = server.server(server.tcp)
    async with ends(relay(over_tcp)) as (caller, answerer):
        await join(caller, answerer)
        await asyncio.gather(caller.connected(), answerer.connected())
        assert not caller.peer.sends_in_any_thread
        assert caller.peer.receive() == []
        await answerer.hears(caller, count=5)


async def test_relay_descriptions_hold_nothing_but_the_relay(server: Coturn) -> None:
    async with ends(relay(server.server())) as (caller, answerer):
        offer = await caller.peer.create_offer()
        answer = await answerer.peer.create_answer(offer)
        for text in (offer, answer):
            assert leaks(text, IcePolicy.RELAY) == []
            assert [candidate.kind for candidate in parse(text).candidates] == ["relay"]


async def test_no_host_socket_is_opened_for_a_relay_only_call(server: Coturn) -> None:
    async with ends(relay(server.server())) as (caller, _):
        await caller.peer.create_offer()
        assert [p.local_candidate.type for p in caller.peer._connection._protocols] == ["relay"]


@pytest.mark.parametrize("fault", ["expired", "wrong"])
async def test_refused_credentials_say_so(server: Coturn, fault: str) -> None:
    bad = server.server(ttl_s=-60) if fault == "expired" else server.server(secret="another")
    peer = Peer(relay(bad), on_rtp=print, on_event=print)
    with pytest.raises(MediaError) as refused:
        await peer.create_offer()
    assert refused.value.code == "turn_unauthorized"
    await peer.close()


async def test_the_quota_says_so(tmp_path: Path) -> None:
    async with (
        coturn(tmp_path, "user-quota=1") as server,
        ends(relay(server.server())) as (caller, answerer),
    ):
        await caller.peer.create_offer()
        with pytest.raises(MediaError) as refused:
            await answerer.peer.create_offer()
        assert refused.value.code == "turn_quota"


async def test_a_dead_url_is_passed_and_the_good_one_remembered(server: Coturn) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as deaf:
        deaf.bind(("127.0.0.1", 0))
        dead = f"turn:127.0.0.1:{deaf.getsockname()[1]}?transport=udp"
        memory = TurnMemory()
        options = relay(server.server(dead, server.tcp), turn_memory=memory)
        async with ends(options) as (caller, answerer):
            await join(caller, answerer)
            await asyncio.gather(caller.connected(), answerer.connected())
            await answerer.hears(caller, count=20)
            urls = [url for url in map(parse_ice_url, (dead, server.tcp)) if url is not None]
            assert [url.text for url in memory.order(urls)] == [server.tcp, dead]


async def test_tls_to_the_server_checks_the_certificate(server: Coturn) -> None:
    good = relay(server.server(server.tls), turn_ca=server.ca)
    async with ends(good) as (caller, answerer):
        await join(caller, answerer)
        await asyncio.gather(caller.connected(), answerer.connected())
        await answerer.hears(caller, count=20)
    peer = Peer(relay(server.server(server.tls)), on_rtp=print, on_event=print)
    with pytest.raises(MediaError) as refused:
        await peer.create_offer()
    assert refused.value.code == "turn_unreachable"
    await peer.close()


async def test_without_any_server_relay_is_refused_at_once() -> None:
    peer = Peer(relay(IceServer(("stun:127.0.0.1:3478", "nonsense"))), on_rtp=print, on_event=print)
    with pytest.raises(MediaError) as refused:
        await peer.create_offer()
    assert refused.value.code == "no_relay"
    await peer.close()


async def test_closing_while_gathering_ends_it(server: Coturn) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as deaf:
        deaf.bind(("127.0.0.1", 0))
        dead = f"turn:127.0.0.1:{deaf.getsockname()[1]}?transport=udp"
        peer = Peer(relay(server.server(dead)), on_rtp=print, on_event=print)
        offer = asyncio.create_task(peer.create_offer())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        await peer.close()
        with pytest.raises(MediaError) as refused:
            await offer
        assert refused.value.code == "closed"


async def test_who_is_prepared_has_its_relay_before_there_is_an_offer_and_gives_it_back(
    server: Coturn,
) -> None:
    peer = Peer(relay(server.server()), on_rtp=print, on_event=print)
    peer.prepare()
    peer.prepare()
    await until_logged(server, "ALLOCATE processed, success", 1)
    await peer.close()
    await until_logged(server, "lifetime=0", 1)
    early = Peer(relay(server.server()), on_rtp=print, on_event=print)
    early.prepare()
    await early.close()
    assert server.log.read_text().count("ALLOCATE processed, success") == 1


def test_answers_that_wait_much_longer_than_their_like_tell_of_losses() -> None:
    even, late = Answers(), Answers()
    for answers, last in ((even, 0.08), (late, 0.15)):
        answers.note(0.3, relay=False)  # the other end is further away than the relay
        for seconds in (0.04, 0.06, last):
            answers.note(seconds, relay=True)
    assert not Answers().lossy
    assert not even.lossy
    assert late.lossy


async def test_direct_with_refused_credentials_still_connects_directly(server: Coturn) -> None:
    options = PeerOptions(addresses=("127.0.0.1",), ice_servers=(server.server(secret="another"),))
    async with ends(options) as (caller, answerer):
        await join(caller, answerer)
        events = await asyncio.gather(caller.connected(), answerer.connected())
        assert all(isinstance(event, Connected) for event in events)


def test_retries_begin_early_and_end() -> None:
    delays = retry_delays(12.0)
    assert delays[0] <= 0.15
    assert max(delays) <= 0.5
    assert 12.0 <= sum(delays) <= 12.6


@pytest.mark.parametrize("protocol", ["udp", "tcp"])
async def test_closing_when_the_server_is_gone_still_ends(tmp_path: Path, protocol: str) -> None:
    peers: list[Peer] = []
    async with coturn(tmp_path) as server:
        for _ in range(2):
            peer = Peer(relay(server.server(getattr(server, protocol))), on_rtp=print, on_event=print)
            await peer.create_offer()
            peers.append(peer)
    tasks = asyncio.all_tasks()
    async with asyncio.timeout(WAIT_S):
        await asyncio.gather(*(peer.close() for peer in peers))
    assert len(asyncio.all_tasks()) < len(tasks)  # at least the refreshing of the allocations ended


class Sent:
    """Counts what a transaction sends."""

    def __init__(self) -> None:
        self.count = 0
        self.twice = asyncio.Event()

    def send_stun(self, message: stun.Message, addr: tuple[str, int]) -> None:
        self.count += 1
        if self.count == 2:
            self.twice.set()


@pytest.mark.parametrize("granted", [True, False])
async def test_a_refused_repetition_is_not_the_last_word(granted: bool) -> None:
    """coturn may refuse the second copy of a request whose first copy it then grants."""
    key = b"k" * 16
    request = stun.Message(stun.Method.ALLOCATE, stun.Class.REQUEST)
    request.add_message_integrity(key)
    sent = Sent()
    transaction = QuickTransaction(
        request, ("192.0.2.1", 3478), sent, delays=(0.01,) * 500, integrity_key=key, long_term_credential=True
    )
    running = asyncio.create_task(transaction.run())
    async with asyncio.timeout(WAIT_S):
        await sent.twice.wait()
        refusal = stun.Message(stun.Method.ALLOCATE, stun.Class.ERROR, request.transaction_id)
        refusal.attributes["ERROR-CODE"] = (401, "Unauthorized")
        transaction.response_received(refusal, ("192.0.2.1", 3478))
        if granted:
            success = stun.Message(stun.Method.ALLOCATE, stun.Class.RESPONSE, request.transaction_id)
            success.add_message_integrity(key)
            transaction.response_received(success, ("192.0.2.1", 3478))
            assert (await running)[0] is success
        else:
            with pytest.raises(stun.TransactionFailed):
                await running


async def test_a_request_is_sent_out_of_turn_but_not_twice_in_a_moment() -> None:
    sent = Sent()
    request = stun.Message(stun.Method.BINDING, stun.Class.REQUEST)
    transaction = QuickTransaction(request, ("192.0.2.1", 1), sent, delays=(WAIT_S,))
    running = asyncio.create_task(transaction.run())
    await asyncio.sleep(0)
    transaction.ask_again(1000.0)
    assert not sent.twice.is_set()
    transaction.ask_again(-1.0)
    assert sent.twice.is_set()
    running.cancel()


async def test_an_unsigned_answer_is_no_answer() -> None:
    request = stun.Message(stun.Method.BINDING, stun.Class.REQUEST)
    transaction = QuickTransaction(
        request, ("192.0.2.1", 1), Sent(), delays=(0.01, 0.01), integrity_key=b"the right key"
    )
    running = asyncio.create_task(transaction.run())
    forged = stun.Message(stun.Method.BINDING, stun.Class.RESPONSE, request.transaction_id)
    forged.add_message_integrity(b"another key")
    transaction.response_received(forged, ("192.0.2.1", 1))
    with pytest.raises(stun.TransactionTimeout):
        await running


async def test_two_first_clients_in_one_moment_both_get_in(server: Coturn) -> None:
    """coturn 4.6 refuses one of two when they are the first ones since its start."""
    async with ends(relay(server.server())) as (caller, answerer):
        await asyncio.gather(caller.peer.create_offer(), answerer.peer.create_offer())


@pytest.mark.parametrize("days", [-3, 3])
async def test_a_clock_that_is_set_in_the_call_leaves_the_channels_alone(
    server: Coturn, days: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Set back, the permission would not be refreshed for days; set forward, at every packet."""
    monkeypatch.setattr(turn, "CHANNEL_REFRESH_S", 1.0)
    async with ends(relay(server.server())) as (caller, answerer):
        await join(caller, answerer)
        await asyncio.gather(caller.connected(), answerer.connected())
        await answerer.hears(caller, count=5)
        real = time.time
        monkeypatch.setattr(time, "time", lambda: real() + days * 86400)
        bound = server.log.read_text().count("CHANNEL_BIND processed")
        end = time.monotonic() + 4.0
        while time.monotonic() < end:
            await answerer.hears(caller, count=5)
        await caller.hears(answerer, count=5)
        refreshed = server.log.read_text().count("CHANNEL_BIND processed") - bound
        assert 2 <= refreshed <= 12
        round_trip_s = caller.peer.stats().round_trip_s
        assert round_trip_s is None or round_trip_s < 60.0
