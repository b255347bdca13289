"""Set-up and voice over a path that loses packets: it connects; the figures are the bench's business."""

from __future__ import annotations

import asyncio

import pytest

from tests.webrtc.ends import End, ends
from voicemeet_edge.testing.network import ImpairedNetwork, Impairment, unavailable
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
