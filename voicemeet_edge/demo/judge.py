"""Did the speech arrive? Compares what one end said with what the other end's loudspeaker played.

One rule: judged by segments, on the common clock of one machine, so one stall of the machine costs one
segment and not the verdict.
"""

from __future__ import annotations

import json
import statistics
from pathlib import Path

import numpy as np

from voicemeet_edge.audio.wav import read_wav
from voicemeet_edge.records import dataclass
from voicemeet_edge.testing.signals import correlation
from voicemeet_edge.voice.format import SAMPLE_RATE, Samples

SEGMENT_S = 1.0  # s; long enough to hold voiced speech, short enough to lose little to a stall
STEP_S = 0.5  # s between the beginnings of segments
SEARCH_S = 1.0  # s behind the moment of saying in which the speech is looked for
SURE = 0.4  # correlation from which a segment counts as heard; foreign speech stays below 0.2
ENOUGH = 0.75  # share of the spoken segments that must be heard
QUIET_RMS = 200.0  # of 32767; a segment below it holds no speech to look for


@dataclass(frozen=True)
class Segment:
    """One stretch of speech and where it came out."""

    said_at: float
    """Seconds, monotonic."""
    correlation: float
    delay_s: float
    """From microphone to loudspeaker; means nothing when it was not heard."""

    @property
    def heard(self) -> bool:
        """Whether this really is what was said."""
        return self.correlation >= SURE


@dataclass(frozen=True)
class Recording:
    """What a loudspeaker played, on the common clock."""

    samples: Samples
    starts: tuple[tuple[int, float], ...]
    """(first sample, monotonic seconds) of each stretch."""

    @classmethod
    def load(cls, path: Path) -> Recording:
        """Read a virtual card's WAV and the marks beside it."""
        marks = json.loads(path.with_suffix(".marks.json").read_text())["marks"]
        return cls(read_wav(path), tuple((mark["sample"], mark["monotonic_s"]) for mark in marks))

    def between(self, start_s: float, end_s: float) -> tuple[Samples, float] | None:
        """The samples played in this time and the time of the first; None when none or not all of them."""
        for (first, at), following in zip(self.starts, [*self.starts[1:], None], strict=True):
            last = len(self.samples) if following is None else following[0]
            low = first + round((start_s - at) * SAMPLE_RATE)
            high = first + round((end_s - at) * SAMPLE_RATE)
            if first <= low and high <= last:
                return self.samples[low:high], at + (low - first) / SAMPLE_RATE
        return None


@dataclass(frozen=True)
class Judgement:
    """One direction of a call."""

    segments: tuple[Segment, ...]

    @property
    def share(self) -> float:
        """Share of the spoken segments that were heard."""
        return sum(segment.heard for segment in self.segments) / len(self.segments) if self.segments else 0.0

    @property
    def arrived(self) -> bool:
        """Whether the speech really arrived."""
        return len(self.segments) >= 4 and self.share >= ENOUGH

    @property
    def correlation(self) -> float:
        """Median over the segments."""
        return statistics.median([one.correlation for one in self.segments]) if self.segments else 0.0

    def delay_ms(self, quantile: float) -> float | None:
        """Mouth to ear, over the segments that were heard."""
        delays = sorted(segment.delay_s for segment in self.segments if segment.heard)
        if not delays:
            return None
        return 1000.0 * float(np.quantile(np.array(delays), quantile))


def judge(speech: Samples, said_at: float, heard: Recording, start_s: float, end_s: float) -> Judgement:
    """Look for each segment of what was said between two times in what was heard.

    Args:
        speech: what the microphone hears, repeated for ever.
        said_at: when its first sample was said (monotonic seconds).
        heard: the other end's loudspeaker.
        start_s, end_s: the stretch of the call to judge.
    """
    size = round(SEGMENT_S * SAMPLE_RATE)
    segments = []
    moment = start_s
    while moment + SEGMENT_S + SEARCH_S <= end_s:
        first = round((moment - said_at) * SAMPLE_RATE)
        said = speech[np.arange(first, first + size) % len(speech)]
        if np.sqrt(np.mean(said.astype(np.float64) ** 2)) >= QUIET_RMS:
            played = heard.between(moment, moment + SEGMENT_S + SEARCH_S)
            if played is not None:
                score, at = correlation(played[0], said)
                delay = played[1] + at / SAMPLE_RATE - moment
                segments.append(Segment(moment, score, delay))
        moment += STEP_S
    return Judgement(tuple(segments))
