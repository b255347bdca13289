"""Which sockets exist, what is told of them, and who may talk to them."""

from __future__ import annotations

import asyncio
import socket
import subprocess
from dataclasses import replace

import pytest
from aioice import stun
from aioice.candidate import Candidate

from tests.webrtc.ends import LOOPBACK, ends, join
from voicemeet_edge.choices import IcePolicy
from voicemeet_edge.errors import MediaError
from voicemeet_edge.testing.descriptions import leaks
from voicemeet_edge.testing.network import BridgedNetwork, unavailable
from voicemeet_edge.webrtc.candidates import IceCandidate
from voicemeet_edge.webrtc.ice import (
    MAX_ADDRESSES,
    MAX_LEARNED,
    MAX_QUEUED_DATAGRAMS,
    MAX_REMOTE_CANDIDATES,
    RESOLVE_LIMIT,
    EdgeStunProtocol,
    IceConnection,
    local_addresses,
)
from voicemeet_edge.webrtc.options import PeerOptions
from voicemeet_edge.webrtc.rtp import pack_rtp
from voicemeet_edge.webrtc.sdp import parse

MDNS = PeerOptions(addresses=("127.0.0.1",), policy=IcePolicy.MDNS)
needs_namespaces = pytest.mark.skipif(unavailable() is not None, reason=str(unavailable()))


def test_addresses_set_are_the_only_ones() -> None:
    assert local_addresses(PeerOptions(addresses=("192.0.2.1", "::1"))) == ["192.0.2.1", "::1"]
    assert local_addresses(PeerOptions(interfaces=("no-such-interface",))) == []
    assert all(":" not in address for address in local_addresses(PeerOptions(ipv6=False)))
    assert local_addresses(PeerOptions(interfaces=("lo",), ipv6=False)) == ["127.0.0.1"]


async def test_no_address_at_all_says_so() -> None:
    async with ends(PeerOptions(interfaces=("no-such-interface",))) as (caller, _):
        with pytest.raises(MediaError) as refused:
            await caller.peer.create_offer()
        assert refused.value.code == "no_network"


async def test_direct_descriptions_never_hold_related_addresses() -> None:
    async with ends() as (caller, _):
        offer = await caller.peer.create_offer()
        assert leaks(offer, IcePolicy.DIRECT) == []
        assert "192." not in offer


async def test_ipv6_alone_is_enough() -> None:
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind(("::1", 0))
        except OSError:
            pytest.skip("this machine has no IPv6")
    async with ends(PeerOptions(addresses=("::1",))) as (caller, answerer):
        await join(caller, answerer)
        await asyncio.gather(caller.connected(), answerer.connected())
        await answerer.hears(caller)


@pytest.mark.namespaces
@needs_namespaces
async def test_mdns_names_hide_addresses_and_are_found() -> None:
    """In a namespace of its own, so that no name reaches a real network."""
    with BridgedNetwork(("one", "two")) as network, network.inside("one"):
        options = replace(MDNS, addresses=(network.address("one"),))
        async with ends(options) as (caller, answerer):
            offer = await caller.peer.create_offer()
            answer = await answerer.peer.create_answer(offer)
            for text in (offer, answer):
                assert leaks(text, IcePolicy.MDNS) == []
                assert network.address("one") not in text
                assert all(candidate.is_name for candidate in parse(text).candidates)
            assert parse(offer).candidates[0].address != parse(answer).candidates[0].address
            await caller.peer.accept_answer(answer)
            await asyncio.gather(caller.connected(), answerer.connected())
            await answerer.hears(caller)


async def test_relay_never_contacts_host_candidates() -> None:
    connection = IceConnection(PeerOptions(policy=IcePolicy.RELAY), controlling=True)
    for port, kind in enumerate(("host", "srflx", "relay"), 1000):
        await connection.add_remote(IceCandidate("1", 1, "127.0.0.1", port, kind))
    assert [candidate.type for candidate in connection.remote_candidates] == ["srflx", "relay"]
    await connection.close()


async def test_remote_candidates_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    connection = IceConnection(LOOPBACK, controlling=True)
    for port in range(1000, 1100):
        await connection.add_remote(IceCandidate("1", 1, "127.0.0.1", port, "host"))
    assert len(connection.remote_candidates) == MAX_REMOTE_CANDIDATES
    assert RESOLVE_LIMIT < MAX_REMOTE_CANDIDATES
    # What is told does not use up the room for what is learned from authenticated checks, nor without end.
    protocol = EdgeStunProtocol(connection)
    protocol.local_candidate = Candidate("1", 1, "udp", 1, "127.0.0.1", 999, "host")
    message = stun.Message(stun.Method.BINDING, stun.Class.REQUEST)
    message.attributes["PRIORITY"] = 1
    monkeypatch.setattr(connection, "check_start_task", lambda _pair: None)
    for port in range(2000, 2100):
        connection.check_incoming(message, ("127.0.0.1", port), protocol)
    assert len(connection.remote_candidates) == MAX_REMOTE_CANDIDATES + MAX_LEARNED
    await connection.close()


@pytest.mark.namespaces
@needs_namespaces
def test_the_default_routes_address_is_bound_first_however_many_there_are() -> None:
    with BridgedNetwork(("one",)) as network:

        def ip(*words: str) -> None:
            subprocess.run(network.command("one", "ip", *words), check=True)

        # The network that leads anywhere is made last, as after a cable was plugged in.
        places = {f"br{n}": f"172.{16 + n}.0.1/16" for n in range(36)} | {"zz": "10.9.9.9/24"}
        for name, address in places.items():
            ip("link", "add", name, "type", "bridge")
            ip("link", "set", name, "up")
            ip("address", "add", address, "dev", name)
        ip("route", "replace", "default", "dev", "zz")
        with network.inside("one"):
            found = local_addresses(PeerOptions())
    assert found[0] == "10.9.9.9"
    assert len(found) == MAX_ADDRESSES


async def test_strangers_are_not_listened_to() -> None:
    """A stranger who knows the port sends DTLS, voice, garbage and a flood: the call goes on unharmed."""
    async with ends() as (caller, answerer):
        offer = await caller.peer.create_offer()
        candidate = parse(offer).candidates[0]
        target = (candidate.address, candidate.port)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
            stranger.bind(("127.0.0.1", 0))
            alert = bytes((21, 0xFE, 0xFD)) + bytes(8) + bytes((0, 2, 2, 40))
            voice = bytes((0x80, 111)) + bytes(90)
            for _ in range(3 * MAX_QUEUED_DATAGRAMS):
                for packet in (alert, voice, b"", b"\xff" * 20, b"\x00\x01\x00\x00"):
                    stranger.sendto(packet, target)
            answer = await answerer.peer.create_answer(offer)
            await caller.peer.accept_answer(answer)
            await asyncio.gather(caller.connected(), answerer.connected())
            before = caller.peer.stats().packets_dropped
            assert before > 0
            for packet in (alert, voice):
                stranger.sendto(packet, target)
            await caller.hears(answerer, count=5)
            assert caller.peer.stats().packets_dropped >= before + 2
            assert {packet.payload for packet in caller.packets} == {b"voice"}


async def test_forged_voice_from_the_right_address_is_dropped() -> None:
    async with ends() as (caller, answerer):
        await join(caller, answerer)
        await asyncio.gather(caller.connected(), answerer.connected())
        pair = answerer.peer._connection._nominated[1]
        pair.protocol.transport.sendto(bytes((0x80, 111)) + bytes(90), pair.remote_addr)
        await caller.hears(answerer)
        assert [packet.payload for packet in caller.packets] == [b"voice"]
        assert caller.peer.stats().packets_dropped >= 1


async def test_real_voice_from_a_wrong_address_is_dropped() -> None:
    """Authentic packets that someone on the path sends on from elsewhere."""
    async with ends() as (caller, answerer):
        await join(caller, answerer)
        await asyncio.gather(caller.connected(), answerer.connected())
        srtp = answerer.peer._srtp
        assert srtp is not None
        authentic = srtp.protect(pack_rtp(111, 7, 7, 7, b"moved", marker=False))
        target = answerer.peer._connection._nominated[1].remote_addr
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
            stranger.sendto(authentic, target)
            await caller.hears(answerer, count=3)
        assert {packet.payload for packet in caller.packets} == {b"voice"}
        assert caller.peer.stats().packets_dropped >= 1


@pytest.mark.namespaces
@needs_namespaces
def test_names_can_be_looked_up_in_one_event_loop_after_another() -> None:
    """aioice keeps its mDNS lock per thread, and a lock once waited for belongs to its loop."""

    async def look_up() -> None:
        with BridgedNetwork(("one",)) as network, network.inside("one"):
            connection = IceConnection(PeerOptions(addresses=(network.address("one"),)), controlling=True)
            await connection.gather_candidates()
            names = [IceCandidate("1", 1, f"nobody-{n}.local", 1000 + n, "host") for n in range(3)]
            await asyncio.gather(*(connection.add_remote(name) for name in names))
            assert connection.remote_candidates == []
            await connection.close()

    for _ in range(2):
        asyncio.run(look_up())
