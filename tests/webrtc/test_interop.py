"""A stock aiortc RTCPeerConnection on the other side: someone else's offers, answers and RTP."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from fractions import Fraction
from ipaddress import ip_address
from typing import Any

import pytest
from aiortc import RTCPeerConnection, RTCSessionDescription
from aiortc.mediastreams import AudioStreamTrack, MediaStreamTrack
from av.packet import Packet

from tests.webrtc.ends import WAIT_S, End
from voicemeet_edge.webrtc.events import Closed
from voicemeet_edge.webrtc.ice import local_addresses
from voicemeet_edge.webrtc.options import PeerOptions

# Opus of silence, 20 ms, SILK wideband: what a decoder takes without complaint (RFC 6716 §3.1).
SILENCE = bytes((0x08, 0x00, 0x00))


class Packets(MediaStreamTrack):
    """Sends the same encoded packet every 20 ms."""

    kind = "audio"

    def __init__(self) -> None:
        super().__init__()
        self._number = 0

    async def recv(self) -> Packet[Any]:
        await asyncio.sleep(0.02)
        packet = Packet(SILENCE)
        packet.pts = 960 * self._number
        packet.time_base = Fraction(1, 48000)
        self._number += 1
        return packet


@asynccontextmanager
async def stock(track: MediaStreamTrack) -> AsyncIterator[RTCPeerConnection]:
    connection = RTCPeerConnection()
    connection.addTrack(track)
    try:
        yield connection
    finally:
        await connection.close()


async def frames(connection: RTCPeerConnection, end: End, count: int) -> None:
    """Wait until the stock side decoded `count` frames of what our end sends."""
    track = connection.getReceivers()[0].track
    timestamp = 0

    async def send() -> None:
        nonlocal timestamp
        while True:
            end.peer.send(SILENCE, timestamp)
            timestamp += 960
            await asyncio.sleep(0.02)

    sender = asyncio.create_task(send())
    try:
        async with asyncio.timeout(WAIT_S):
            for _ in range(count):
                await track.recv()
    finally:
        sender.cancel()
        await asyncio.wait((sender,))


@pytest.mark.skipif(
    all(ip_address(text).is_loopback for text in local_addresses(PeerOptions())),
    reason="stock aiortc never uses loopback, and this machine has no other address",
)
@pytest.mark.parametrize("offerer", ["edge", "stock"])
async def test_stock_aiortc_on_the_other_side(offerer: str) -> None:
    end = End(PeerOptions())
    async with stock(Packets()) as connection:
        try:
            if offerer == "edge":
                text = await end.peer.create_offer()
                await connection.setRemoteDescription(RTCSessionDescription(text, "offer"))
                await connection.setLocalDescription(await connection.createAnswer())
                await end.peer.accept_answer(connection.localDescription.sdp)
            else:
                await connection.setLocalDescription(await connection.createOffer())
                text = await end.peer.create_answer(connection.localDescription.sdp)
                await connection.setRemoteDescription(RTCSessionDescription(text, "answer"))
            await end.connected()
            await end.until(lambda: len(end.packets) >= 20)
            assert end.packets[0].payload == SILENCE
            await frames(connection, end, 20)
            async with asyncio.timeout(WAIT_S):
                while end.peer.stats().round_trip_s is None:  # noqa: ASYNC110 - RTCP of a stranger
                    await asyncio.sleep(0.05)
            await connection.close()
            await end.event(Closed)
        finally:
            await end.peer.close()


async def test_a_stock_offer_with_every_codec_gets_an_opus_answer() -> None:
    end = End()
    async with stock(AudioStreamTrack()) as connection:
        await connection.setLocalDescription(await connection.createOffer())
        offer = connection.localDescription.sdp
        assert "PCMU" in offer
        answer = await end.peer.create_answer(offer)
        assert "PCMU" not in answer
        assert "extmap" not in answer
        assert answer.count("a=rtpmap:") == 1
        await end.peer.close()
