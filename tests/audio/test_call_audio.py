"""One RTP clock: what the capture thread counted is what stands on the wire, in RED's offsets too."""

from __future__ import annotations

import asyncio
import contextlib
import itertools

from tests.webrtc.ends import ends
from voicemeet_edge.audio.call_audio import CallAudio
from voicemeet_edge.audio.codec import OpusCodec
from voicemeet_edge.call.path import MediaPath
from voicemeet_edge.settings import AudioSettings
from voicemeet_edge.testing.room import at_voice_rate
from voicemeet_edge.testing.signals import speech_like
from voicemeet_edge.voice.format import FRAME_SAMPLES, VOICE_FRAME_SAMPLES
from voicemeet_edge.voice.ladder import LOSS_BYTES, SendPlan
from voicemeet_edge.voice.red import unpack
from voicemeet_edge.webrtc.events import Connected
from voicemeet_edge.webrtc.options import PeerOptions
from voicemeet_edge.webrtc.peer import new_certificate

LOST = 2  # frames the card lost in the middle


async def test_lost_frames_show_on_the_wire_and_in_the_copies_alike() -> None:
    options = PeerOptions(addresses=("127.0.0.1",), red=True)
    async with ends(options, options) as (_, listener), contextlib.AsyncExitStack() as stack:
        path = MediaPath(
            options,
            new_certificate(),
            b"",
            on_event=lambda attempt, event: path.use(attempt) if isinstance(event, Connected) else None,
            on_heard=lambda: None,
            on_rtp=lambda _: None,
        )
        stack.push_async_callback(path.close)
        path.begin(1)
        answer = await listener.peer.create_answer(await path.offer(1) or "")
        await path.take_answer(1, answer)
        await listener.connected()
        async with asyncio.timeout(20):
            while path.red_payload_type is None or not listener.packets:
                path.send(b"\x6f\x78", path.next_timestamp(), red=True)  # until both ends are connected
                await asyncio.sleep(0.01)
        call = CallAudio(path, OpusCodec(AudioSettings()), asyncio.get_running_loop())
        path.control.plan = SendPlan(LOSS_BYTES, 0, (1,))
        said = at_voice_rate(speech_like(1.0))
        before = len(listener.packets)
        for index in range(12):
            if index == 6:
                call.skip(LOST * FRAME_SAMPLES)
            call.encode(said[index * VOICE_FRAME_SAMPLES :][:VOICE_FRAME_SAMPLES].tobytes(), FRAME_SAMPLES)
        await listener.until(lambda: len(listener.packets) >= before + 12)
        call.sender.stop()
    packets = listener.packets[-12:]
    steps = [
        (after.timestamp - earlier.timestamp) % 2**32 // FRAME_SAMPLES
        for earlier, after in itertools.pairwise(packets)
    ]
    assert steps == [1] * 5 + [1 + LOST] + [1] * 5
    copies = 0
    sent = {unpack(packet.payload)[-1].payload: packet.timestamp for packet in packets}
    for packet in packets:
        for block in unpack(packet.payload)[:-1]:
            if block.offset:
                copies += 1
                assert (packet.timestamp - block.offset) % 2**32 == sent[block.payload]
    assert copies >= 6, "no copy rode along: nothing was compared"
