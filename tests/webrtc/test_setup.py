"""Set-up and voice over a path that loses packets: it connects; the figures are the bench's business."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.webrtc.coturn import coturn
from tests.webrtc.ends import End, ends
from voicemeet_edge.choices import IcePolicy
from voicemeet_edge.testing.network import ImpairedNetwork, Impairment, unavailable
from voicemeet_edge.webrtc.events import Failed
from voicemeet_edge.webrtc.options import PeerOptions

pytestmark = [
    pytest.mark.namespaces,
    pytest.mark.skipif(unavailable() is not None, reason=str(unavailable())),
]


async def connect(network: ImpairedNetwork, caller: End, answerer: End) -> None:
    with network.inside("caller"):
        offer = await caller.peer.create_offer()
    with network.inside("answerer"):
        answer = await answerer.peer.create_answer(offer)
    await caller.peer.accept_answer(answer)
    await asyncio.gather(caller.connected(), answerer.connected())


@pytest.mark.parametrize("loss", [0.1, 0.2])
async def test_it_connects_under_loss(loss: float) -> None:
    impairment = Impairment(loss=loss, delay_s=0.02)
    with ImpairedNetwork(("caller", "answerer"), impairment, seed=7) as network:
        for _ in range(5):
            async with ends(PeerOptions()) as (caller, answerer):
                await connect(network, caller, answerer)
                await answerer.hears(caller)
                await caller.hears(answerer)


async def test_all_voice_packets_have_one_size_and_no_extension() -> None:
    with ImpairedNetwork(("caller", "answerer")) as network:
        async with ends(PeerOptions()) as (caller, answerer):
            await connect(network, caller, answerer)
            await answerer.hears(caller, bytes(80), 50)
        voice = [
            packet
            for packet in network.captured()
            if packet.payload[:1] and 128 <= packet.payload[0] < 192 and packet.payload[1] & 0x7F == 111
        ]
        assert len(voice) >= 50
        assert len({packet.length for packet in voice}) == 1
        assert {packet.payload[0] for packet in voice} == {0x80}  # no extension, no padding, no CSRC


async def test_a_relay_only_call_touches_nothing_but_the_relay(tmp_path: Path) -> None:
    """Seen from outside: every packet of both ends goes to or comes from the TURN server, also under loss."""
    with ImpairedNetwork(("caller", "answerer", "turn"), Impairment(loss=0.05, delay_s=0.01)) as network:
        async with coturn(tmp_path, network=network, node="turn") as server:
            options = PeerOptions(ice_servers=(server.server(),), policy=IcePolicy.RELAY)
            async with ends(options) as (caller, answerer):
                await connect(network, caller, answerer)
                await answerer.hears(caller, bytes(80), 20)
                await caller.hears(answerer, bytes(80), 20)
        packets = [packet for packet in network.captured() if packet.protocol == 17]
        assert len(packets) > 40
        relay = (network.address("turn"), server.port)
        assert [packet for packet in packets if relay not in (packet.source, packet.target)] == []


async def test_a_dead_path_is_told_when_consent_runs_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aioice.ice.CONSENT_INTERVAL", 0.1)  # seconds instead of five
    monkeypatch.setattr("voicemeet_edge.webrtc.ice.CONSENT_WAIT_S", 0.5)  # instead of four, six times
    with ImpairedNetwork(("caller", "answerer")) as network:
        async with ends(PeerOptions()) as (caller, answerer):
            await connect(network, caller, answerer)
            network.impair(Impairment(outage=True))
            failed = await caller.event(Failed)
            assert isinstance(failed, Failed)
            assert failed.error.code == "path_lost"
