"""The capture side takes a frame's two periods in one go, and loses nothing by it."""

from __future__ import annotations

import asyncio
import contextlib
import time
from itertools import pairwise

import numpy as np
import pytest

from tests.audio.doubles import Events, Wire, engine
from tests.audio.told_time import ToldTime
from voicemeet_edge.audio import capture
from voicemeet_edge.audio.call_audio import CallAudio
from voicemeet_edge.audio.capture import CaptureThread
from voicemeet_edge.audio.card import CaptureStream
from voicemeet_edge.audio.codec import OpusCodec
from voicemeet_edge.audio.echo_reference import EchoReference
from voicemeet_edge.errors import XrunError
from voicemeet_edge.settings import AudioSettings
from voicemeet_edge.testing.sound import VirtualCard
from voicemeet_edge.testing.waiting import loop_turns, until
from voicemeet_edge.voice.format import PERIOD_SAMPLES, SAMPLE_RATE, VOICE_PERIOD_SAMPLES, Samples

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
    wire = Wire()
    talking = engine(card, Events())
    talking.start_call(wire)
    await until(lambda: len(wire.packets) >= FRAMES)
    talking.stop_call()
    await talking.close()

    stream = card.streams[0]
    assert stream.ready > 2 * stream.waited  # a slow machine only makes more of them ready


async def test_the_rtp_clock_of_a_quiet_machine_steps_by_one_frame() -> None:
    wire = Wire()
    talking = engine(VirtualCard("speech"), Events())
    talking.start_call(wire)
    await until(lambda: len(wire.packets) >= FRAMES)
    talking.stop_call()
    await talking.close()

    sent = [packet.timestamp for packet in wire.packets]
    steps = [(after - before) % 2**32 for before, after in pairwise(sent)]
    assert all(step % 960 == 0 and step > 0 for step in steps)


class Recording:
    name = "recording"
    echo_db: float | None = None

    def __init__(self) -> None:
        self.pairs: list[tuple[list[int], list[int]]] = []

    def process(self, near: Samples, far: Samples) -> Samples:
        # From the middle of each period: where two meet, the filter goes over from one to the other.
        middle = slice(VOICE_PERIOD_SAMPLES // 2, None, VOICE_PERIOD_SAMPLES)
        self.pairs.append((near[middle].tolist(), far[middle].tolist()))
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

    reference, canceller, stream = EchoReference(), Recording(), Numbered()
    side = CaptureThread(VirtualCard(None), canceller, reference, lambda _event: None, real_time=False)
    side.call = call = CallAudio(Wire(), OpusCodec(AudioSettings()), asyncio.get_running_loop())
    for _ in range(9):
        with contextlib.suppress(XrunError):
            side._step(stream)
    call.sender.stop()
    assert canceller.pairs == [
        ([1, 2], [1000, 2000]),
        ([3, 5], [3000, 5000]),
        ([6, 7], [6000, 7000]),
        ([8, 9], [8000, 9000]),
    ]


@pytest.mark.parametrize("lost_frames", [0, 2, 50])
async def test_the_rtp_clock_skips_what_an_overrun_lost(
    lost_frames: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = ToldTime()
    monkeypatch.setattr(capture, "time", told)

    class Overrun(CaptureStream):
        """A period each 10 ms; the sixth read says that some were lost before it."""

        reads = 0

        def read(self) -> bytes:
            self.reads += 1
            told.now += 0.01
            if self.reads == 6:
                told.now += lost_frames * 0.02
                raise XrunError("overrun")
            return bytes(2 * PERIOD_SAMPLES)

        def close(self) -> None:
            """Nothing."""

    wire, stream = Wire(), Overrun()
    side = CaptureThread(VirtualCard(None), Recording(), EchoReference(), lambda _: None, real_time=False)
    side.call = call = CallAudio(wire, OpusCodec(AudioSettings()), asyncio.get_running_loop())
    side._opened()
    for _ in range(14):
        with contextlib.suppress(XrunError):
            side._step(stream)
        await loop_turns()
    call.sender.stop()
    steps = [(b.timestamp - a.timestamp) % 2**32 // 960 for a, b in pairwise(wire.packets)]
    assert max(steps) in (1 + lost_frames, 2 + lost_frames), steps  # the broken read itself took time too
    assert sorted(steps)[:-1] == [1] * (len(steps) - 1)
