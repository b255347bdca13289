"""How good one direction of a call was: the two recordings put on one time axis, then bench/quality.py.

One rule: a segment during which the machine stood still is marked, and does not count for the medians.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench.quality import Quality, Segment, score
from voicemeet_edge.audio.wav import read_wav
from voicemeet_edge.demo.judge import Recording
from voicemeet_edge.testing.stalls import StallWatch
from voicemeet_edge.voice.format import SAMPLE_RATE, Samples

SEGMENT_S = 2.0  # s; as bench/quality.py cuts
REACH_S = 1.0  # s after a segment in which a stall still changes what is heard of it
JUDGED_S = 60.0  # s at the beginning and at the end of a long call; scoring an hour takes an hour
OUTAGE_S = 3.0  # s
SAME_MS = 20.0  # ms; within this the delay is what it was before


@dataclass(frozen=True)
class Direction:
    """One direction of a call."""

    quality: Quality
    stalled: tuple[bool, ...]
    """For each segment, whether the machine stood still in it."""
    last_delay_ms: float
    """Median delay over the last minute of a long call: has it grown?"""

    def _counted(self) -> list[Segment]:
        return [s for s, stalled in zip(self.quality.segments, self.stalled, strict=True) if not stalled]

    @property
    def pesq(self) -> float:
        """Median PESQ-WB of the segments that count."""
        return statistics.median([s.pesq for s in self._counted()]) if self._counted() else float("nan")

    @property
    def stoi(self) -> float:
        """Median STOI of the segments that count."""
        return statistics.median([s.stoi for s in self._counted()]) if self._counted() else float("nan")


def direction(
    said: Path, said_at: Sequence[float], heard: Path, start_s: float, seconds: float, stalls: StallWatch
) -> Direction:
    """Judge what was heard of the speech between `start_s` and `start_s + seconds` (monotonic).

    `said_at` has a moment for each time the microphone was opened and the speech began anew.
    """
    speech, recording = read_wav(said), Recording.load(heard)
    windows = [(start_s, min(seconds, JUDGED_S))]
    if seconds > 2 * JUDGED_S:
        windows.append((start_s + seconds - JUDGED_S, JUDGED_S))
    segments: list[Segment] = []
    delays: list[tuple[float, float]] = []
    last = 0.0
    for moment, length in windows:
        found = score(_spoken(speech, said_at, moment, length), _heard(recording, moment, length + 1.0))
        shift = moment - start_s
        segments += [Segment(s.start_s + shift, s.pesq, s.stoi, s.delay_ms) for s in found.segments]
        delays += [(at + shift, delay) for at, delay in found.delays_ms]
        last = found.delay(50)
    stalled = tuple(
        stalls.touches(start_s + s.start_s - REACH_S, start_s + s.start_s + SEGMENT_S + REACH_S)
        for s in segments
    )
    return Direction(Quality(tuple(segments), tuple(delays)), stalled, last)


def _spoken(speech: Samples, said_at: Sequence[float], start_s: float, seconds: float) -> Samples:
    count = round(seconds * SAMPLE_RATE)
    out = np.zeros(count, np.int16)
    for began in sorted(said_at):
        first = round((start_s - began) * SAMPLE_RATE)  # of the speech, at the beginning of the stretch
        low = max(0, -first)
        if low < count:
            out[low:] = speech[np.arange(first + low, first + count) % len(speech)]
    return out


def _heard(recording: Recording, start_s: float, seconds: float) -> Samples:
    """Lay what was played on the same axis; silence where nothing was."""
    count = round(seconds * SAMPLE_RATE)
    out = np.zeros(count, np.int16)
    stretches = zip(recording.starts, [*recording.starts[1:], None], strict=True)
    for (first, at), following in stretches:
        last = len(recording.samples) if following is None else following[0]
        offset = round((at - start_s) * SAMPLE_RATE)
        low, high = max(0, offset), min(count, offset + last - first)
        if low < high:
            out[low:high] = recording.samples[first + low - offset : first + high - offset]
    return out


def recovery(delays: tuple[tuple[float, float], ...], outage_at: float) -> float:
    """Seconds after the outage until the delay is and stays what it was; infinity if never."""
    before = [delay for at, delay in delays if at + 0.5 < outage_at]
    end = outage_at + OUTAGE_S
    after = [(at, delay) for at, delay in delays if at >= end]
    if not before or not after:
        return float("inf")
    usual = statistics.median(before)
    back = float("inf")
    for at, delay in reversed(after):
        if abs(delay - usual) > SAME_MS:
            break
        back = at - end
    return max(back, 0.0)
