"""Change tempo without changing pitch: take out or put in one period of the waveform (WSOLA).

The one rule: the first and the last sample stay what they were, so the result joins on both sides.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from voicemeet_edge.records import dataclass
from voicemeet_edge.voice.format import Samples

DECIMATION = 6  # 48 to 8 kHz; a period is found coarse there, then refined
MIN_PERIOD = 120  # samples, 2.5 ms: 400 Hz, the highest voice
MAX_PERIOD = 720  # samples, 15 ms: 67 Hz, the lowest voice
OVERLAP = 480  # samples, 10 ms; template of the search and length of the cross-fade
NEEDED = MAX_PERIOD + OVERLAP  # samples that a change needs to see
QUIET_RMS = 60.0  # of 32768, about -55 dBFS; below, any cut is inaudible

_FADE_IN = np.linspace(0.0, 1.0, OVERLAP, endpoint=False, dtype=np.float32)
_FADE_OUT = (1.0 - _FADE_IN).astype(np.float32)


@dataclass(frozen=True, slots=True)
class PitchPeriod:
    """How far the waveform may be shifted onto itself."""

    samples: int
    similarity: float
    """Normalised correlation at that shift, -1 to 1; 1 for silence."""


def find_pitch(sound: Samples, longest: int = MAX_PERIOD, quiet_rms: float = QUIET_RMS) -> PitchPeriod | None:
    """Find the shift of MIN_PERIOD to `longest` samples at which the sound repeats best.

    Below `quiet_rms` any shift will do.

    Returns None when the sound is too short for the search.
    """
    longest = min(longest, MAX_PERIOD, len(sound) - OVERLAP)
    longest -= longest % DECIMATION
    if longest < MIN_PERIOD:
        return None
    window = sound[: longest + OVERLAP].astype(np.float32)
    if float(np.dot(window, window)) < quiet_rms**2 * len(window):
        return PitchPeriod(longest, 1.0)
    coarse = window.reshape(-1, DECIMATION).mean(axis=1)
    first, template = MIN_PERIOD // DECIMATION, OVERLAP // DECIMATION
    best, _ = _best_match(coarse[first:], coarse[:template])
    around = (first + best) * DECIMATION
    low = max(MIN_PERIOD, around - DECIMATION)
    high = min(longest, around + DECIMATION)
    exact, similarity = _best_match(window[low : high + OVERLAP], window[:OVERLAP])
    return PitchPeriod(low + exact, similarity)


def _best_match(sound: npt.NDArray[np.float32], template: npt.NDArray[np.float32]) -> tuple[int, float]:
    """Return where the template fits best, and the normalised correlation there."""
    correlation = np.correlate(sound, template, mode="valid")
    power = np.concatenate(([0.0], np.cumsum(sound * sound, dtype=np.float64)))
    energies = power[len(template) :] - power[: -len(template)]
    score = correlation / np.sqrt(np.maximum(energies, 1.0))
    best = int(np.argmax(score))
    scale = float(np.sqrt(max(float(np.dot(template, template)), 1.0)))
    return best, float(score[best]) / scale


def cross_fade(old: Samples, new: Samples) -> Samples:
    """Blend from `old` into `new`, two stretches of the same length."""
    count = len(old)
    if count == OVERLAP:
        mixed = old * _FADE_OUT + new * _FADE_IN
    else:
        fade = np.arange(count, dtype=np.float32) / max(count, 1)
        mixed = old * (1.0 - fade) + new * fade
    return np.rint(mixed).astype(np.int16)


def accelerate(sound: Samples, period: int) -> Samples:
    """Return the sound with one period less."""
    blended = cross_fade(sound[:OVERLAP], sound[period : period + OVERLAP])
    return np.concatenate((blended, sound[period + OVERLAP :]))


def preemptive_expand(sound: Samples, period: int) -> Samples:
    """Return the sound with one period more."""
    blended = cross_fade(sound[period : period + OVERLAP], sound[:OVERLAP])
    return np.concatenate((sound[:period], blended, sound[OVERLAP:]))
