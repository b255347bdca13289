"""The capture side takes a frame's two periods in one go, and loses nothing by it."""

from __future__ import annotations

import time
from itertools import pairwise

from tests.audio.doubles import Events, engine, until
from voicemeet_edge.audio.card import PERIOD_SAMPLES, SAMPLE_RATE, CaptureStream
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
