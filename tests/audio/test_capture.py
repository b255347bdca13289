"""The capture side takes a frame's two periods in one go, and loses nothing by it."""

from __future__ import annotations

import asyncio
import contextlib
import time
from itertools import pairwise

import numpy as np

from tests.audio.doubles import Events, engine, until
from voicemeet_edge.audio.capture import CaptureSide
from voicemeet_edge.audio.card import PERIOD_SAMPLES, SAMPLE_RATE, CaptureStream
from voicemeet_edge.audio.codec import OpusCodec
from voicemeet_edge.audio.events import VoiceOptions
from voicemeet_edge.audio.line import Line
from voicemeet_edge.audio.mixer import Frame
from voicemeet_edge.audio.reference import FarReference
from voicemeet_edge.audio.uplink import Uplink
from voicemeet_edge.errors import XrunError
from voicemeet_edge.testing.sound import VirtualCard

FRAMES = 120  # over two looks at the card's own clock


class Watched(CaptureStream):
    """A microphone that notes which reads had to wait for their period."""

    def __init__(self, inner: CaptureStream) -> None:
        self._inner = inner
        self._start = time.monotonic()
        self._read = 0
        self.waited = 0
        self.ready = 0

    def read(self) -> bytes:
        due = self._start + (self._read + PERIOD_SAMPLES) / SAMPLE_RATE
        if time.monotonic() < due:
            self.waited += 1
        else:
            self.ready += 1
        self._read += PERIOD_SAMPLES
        return self._inner.read()

    def close(self) -> None:
        self._inner.close()


class WatchedCard(VirtualCard):
    streams: list[Watched]

    def open_capture(self) -> CaptureStream:
        stream = Watched(super().open_capture())
        self.streams = [stream]
        return stream


async def test_most_periods_are_there_when_they_are_read() -> None:
    card = WatchedCard("speech")
    sent: list[int] = []
    talking = engine(card, Events())
    talking.start_call(lambda _payload, timestamp: sent.append(timestamp))
    await until(lambda: len(sent) >= FRAMES)
    talking.stop_call()
    await talking.close()

    stream = card.streams[0]
    assert stream.ready > 2 * stream.waited  # a slow machine only makes more of them ready


async def test_the_rtp_clock_of_a_quiet_machine_steps_by_one_frame() -> None:
    sent: list[int] = []
    talking = engine(VirtualCard("speech"), Events())
    talking.start_call(lambda _payload, timestamp: sent.append(timestamp))
    await until(lambda: len(sent) >= FRAMES)
    talking.stop_call()
    await talking.close()

    steps = [(after - before) % 2**32 for before, after in pairwise(sent)]
    assert all(step % 960 == 0 and step > 0 for step in steps)


class Recording:
    name = "recording"

    def __init__(self) -> None:
        self.pairs: list[tuple[list[int], list[int]]] = []

    def process(self, near: Frame, far: Frame) -> Frame:
        self.pairs.append((near[::PERIOD_SAMPLES].tolist(), far[::PERIOD_SAMPLES].tolist()))
        return near


async def test_each_period_of_the_microphone_meets_its_far_period() -> None:
    class Numbered(CaptureStream):
        """Periods of 1, 2, 3, ...; the far end says the same in thousands."""

        count = 0

        def read(self) -> bytes:
            self.count += 1
            if self.count == 4:
                raise XrunError("in the middle of a frame")
            far_end = np.full(PERIOD_SAMPLES, self.count * 1000, np.int16)
            reference.put(far_end.tobytes())
            return np.full(PERIOD_SAMPLES, self.count, np.int16).tobytes()

        def close(self) -> None:
            """Nothing."""

    sent: list[int] = []
    reference, canceller, stream = FarReference(), Recording(), Numbered()
    side = CaptureSide(VirtualCard(None), canceller, reference, lambda _event: None, real_time=False)
    uplink = Uplink(asyncio.get_running_loop(), lambda _payload, timestamp: sent.append(timestamp))
    side.line = Line(uplink, OpusCodec(VoiceOptions()))
    for _ in range(9):
        with contextlib.suppress(XrunError):
            side._step(stream)
    uplink.stop()
    assert canceller.pairs == [
        ([1, 2], [1000, 2000]),
        ([3, 5], [3000, 5000]),
        ([6, 7], [6000, 7000]),
        ([8, 9], [8000, 9000]),
    ]
