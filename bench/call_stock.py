"""Stock aiortc as one end of a call: `python -m bench.call_stock SPEECH.wav HEARD.wav`.

One rule: nothing of ours is in its voice path. It has an RTCPeerConnection with its own encoder, jitter
buffer and decoder, a track paced by the virtual card's microphone and a thread that writes what it decodes
into the virtual card's loudspeaker, 20 ms deep like ours.

In, a JSON object a line: {"do": "offer"}, {"do": "answer", "sdp": …}, {"do": "accept", "sdp": …}; or quit.
Out: {"event": "sdp", "sdp": …}, {"event": "connected"}, {"event": "first_audio"}, {"event": "said", "at": …}.
"""

from __future__ import annotations

import asyncio
import json
import queue
import sys
import threading
import time
from fractions import Fraction
from pathlib import Path

import numpy as np
from aiortc import MediaStreamTrack, RTCConfiguration, RTCPeerConnection, RTCSessionDescription
from aiortc.mediastreams import MediaStreamError
from av import AudioFrame

from voicemeet_edge.errors import XrunError
from voicemeet_edge.testing.sound import VirtualCard
from voicemeet_edge.voice.format import FRAME_SAMPLES, PERIOD_BYTES, SAMPLE_RATE

PERIODS = 2  # that the loudspeaker holds, as many as ours lets stand in its own
WAITING = 50  # frames (1 s) between threads and loop; MediaPlayer's bound is of the same kind


def tell(event: str, **facts: object) -> None:
    """Write one event."""
    sys.stdout.write(json.dumps({"event": event, "at": time.monotonic(), **facts}) + "\n")
    sys.stdout.flush()


class Microphone(MediaStreamTrack):
    """The virtual card's microphone, read by a thread as MediaPlayer reads its file."""

    kind = "audio"

    def __init__(self, card: VirtualCard) -> None:
        super().__init__()
        self._home = asyncio.get_running_loop()
        self._frames: asyncio.Queue[bytes] = asyncio.Queue(WAITING)
        self._card = card
        self._timestamp = 0
        self._thread = threading.Thread(target=self._read, daemon=True)

    def _read(self) -> None:
        stream = self._card.open_capture()
        tell("said", said_at=self._card.capture_marks[-1].monotonic_s)
        pcm = b""
        while True:
            try:
                pcm += stream.read()
            except XrunError:
                continue
            if len(pcm) == 2 * PERIOD_BYTES:
                self._home.call_soon_threadsafe(self._put, pcm)
                pcm = b""

    def _put(self, pcm: bytes) -> None:
        if not self._frames.full():
            self._frames.put_nowait(pcm)

    async def recv(self) -> AudioFrame:
        """Return the next 20 ms."""
        if self._thread.ident is None:
            self._thread.start()
        pcm = await self._frames.get()
        frame = AudioFrame(format="s16", layout="mono", samples=FRAME_SAMPLES)
        frame.planes[0].update(pcm)
        frame.sample_rate = SAMPLE_RATE
        frame.time_base = Fraction(1, SAMPLE_RATE)
        frame.pts = self._timestamp
        self._timestamp += FRAME_SAMPLES
        return frame


class Loudspeaker:
    """Writes decoded frames into the virtual card, as an application's player thread does."""

    def __init__(self, card: VirtualCard) -> None:
        self._card = card
        self._frames: queue.Queue[bytes] = queue.Queue(WAITING)
        self._thread = threading.Thread(target=self._write, daemon=True)

    async def play(self, track: MediaStreamTrack) -> None:
        """Take the track's frames until it ends."""
        self._thread.start()
        try:
            while True:
                frame = await track.recv()
                assert isinstance(frame, AudioFrame)
                sound = frame.to_ndarray().reshape(-1, len(frame.layout.channels))
                if not self._frames.full():
                    self._frames.put_nowait(np.ascontiguousarray(sound[:, 0]).tobytes())
        except MediaStreamError:
            return

    def _write(self) -> None:
        pcm = self._frames.get()
        tell("first_audio")
        stream = self._card.open_playback()
        while True:
            for start in range(0, len(pcm), PERIOD_BYTES):
                period = pcm[start : start + PERIOD_BYTES]
                try:
                    stream.write(period)
                except XrunError:
                    stream.write(period)
            pcm = self._frames.get()


async def serve(card: VirtualCard) -> None:
    """Do what the lines say."""
    # Its default asks a public STUN server, which a closed network makes it wait for.
    connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    connection.addTrack(Microphone(card))
    playing: list[asyncio.Task[None]] = []

    @connection.on("track")
    def heard(track: MediaStreamTrack) -> None:
        playing.append(asyncio.create_task(Loudspeaker(card).play(track)))

    @connection.on("connectionstatechange")
    def changed() -> None:
        tell(connection.connectionState)

    reader = asyncio.StreamReader(limit=65_536)
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        if line.strip() == b"quit":
            break
        order = json.loads(line)
        if order["do"] == "offer":
            await connection.setLocalDescription(await connection.createOffer())
            tell("sdp", sdp=connection.localDescription.sdp)
        elif order["do"] == "answer":
            await connection.setRemoteDescription(RTCSessionDescription(order["sdp"], "offer"))
            await connection.setLocalDescription(await connection.createAnswer())
            tell("sdp", sdp=connection.localDescription.sdp)
        elif order["do"] == "accept":
            await connection.setRemoteDescription(RTCSessionDescription(order["sdp"], "answer"))
    await connection.close()
    for task in playing:
        task.cancel()
    card.close()


def main() -> None:
    """Be one end."""
    speech, heard = map(Path, sys.argv[1:3])
    asyncio.run(serve(VirtualCard(speech, heard, playback_periods=PERIODS)))


if __name__ == "__main__":
    main()
