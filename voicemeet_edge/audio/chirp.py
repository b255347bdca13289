"""The sound self-test's signal and what is read from its echo; pure.

One rule: a figure is given only for a chirp that was surely heard.
"""

from __future__ import annotations

import numpy as np

from voicemeet_edge.records import dataclass
from voicemeet_edge.voice.format import SAMPLE_RATE, Samples

LOW_HZ, HIGH_HZ = 400.0, 5_000.0  # what small loudspeakers and microphones both carry
CHIRP_S = 0.4
LEVEL = 0.25  # of full scale: clearly audible, no alarm
SURE = 6.0  # the correlation's peak over its effective value; noise alone stays below 5 over a second
CLIPPED = 32_700  # of 32,767


@dataclass(frozen=True, slots=True)
class Heard:
    """What came back of a chirp."""

    sure: bool
    delay_ms: float
    """From the first sample written to the first heard: card, room and all buffers."""
    level_db: float
    """Of what was heard, dB of full scale."""
    clipped: float
    """Share of samples at the converter's end, 0..1."""


def chirp() -> Samples:
    """Return a sweep that rises evenly and begins and ends softly."""
    time = np.arange(int(CHIRP_S * SAMPLE_RATE)) / SAMPLE_RATE
    phase = 2 * np.pi * (LOW_HZ * time + (HIGH_HZ - LOW_HZ) / (2 * CHIRP_S) * time**2)
    fade = np.minimum(1.0, np.minimum(time, CHIRP_S - time) / 0.02)
    return np.asarray(np.sin(phase) * fade * LEVEL * 32_767).astype(np.int16)


def look_for(said: Samples, recording: Samples) -> Heard:
    """Find a chirp in a recording that began when its first sample was written."""
    if len(recording) < len(said):
        return Heard(False, 0.0, -120.0, 0.0)
    heard = recording.astype(np.float64)
    size = 1 << (len(heard) + len(said) - 1).bit_length()
    product = np.fft.rfft(heard, size) * np.conj(np.fft.rfft(said.astype(np.float64), size))
    match = np.abs(np.fft.irfft(product, size)[: len(heard) - len(said) + 1])
    at = int(match.argmax())
    spread = float(np.sqrt(np.mean(match**2))) + 1e-9
    part = heard[at : at + len(said)]
    level = 20 * float(np.log10(np.sqrt(np.mean(part**2)) / 32_768 + 1e-6))
    clipped = float(np.mean(np.abs(part) >= CLIPPED))
    return Heard(bool(match[at] / spread >= SURE), 1000.0 * at / SAMPLE_RATE, level, clipped)
