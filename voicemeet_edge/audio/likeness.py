"""How alike speech is after a call to what it was before, as one figure; pure.

One rule: 1 is the same and 0 is something else, in what speech is heard by: energy in bands of pitch over
time, piece by piece, each where it came out: a call may gain and lose delay. Filtered a little or
louder stays near 1; gaps, noise and other words do not. It ranks lines as PESQ does, and is not PESQ.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import numpy.typing as npt

from voicemeet_edge.records import dataclass
from voicemeet_edge.voice.format import SAMPLE_RATE, Samples

FRAME = SAMPLE_RATE // 50  # samples: 20 ms
PIECE = 25 * FRAME  # samples: half a second
DRIFT = 6 * FRAME  # samples a piece may come earlier or later than the whole
QUIET = 200  # of 32767; a piece that never gets louder says nothing
BANDS = 16
LOW_HZ, HIGH_HZ = 150.0, 7_000.0  # what speech lives in
FLOOR_DB = 45.0  # below the loudest frame: softer is silence, and silence is always alike


@dataclass(frozen=True, slots=True)
class Likeness:
    """What came of it."""

    score: float
    """0 to 1."""
    delay_ms: float
    """From the first sample said to where it was heard; means nothing with a low score."""


def compare(said: Samples, heard: Samples, longest_delay_s: float = 1.5) -> Likeness:
    """Find what was said in what was heard, which began at the same moment, and say how alike they are."""
    delay = _delay(said, heard, round(longest_delay_s * SAMPLE_RATE))
    scores = []
    for start in range(0, len(said) - PIECE + 1, PIECE):
        piece = said[start : start + PIECE]
        if np.abs(piece).max() < QUIET:
            continue
        first = max(0, start + delay - DRIFT)
        near = heard[first : first + PIECE + 2 * DRIFT]
        at = _delay(piece, near, 2 * DRIFT)
        scores.append(_alike(piece, near[at : at + PIECE]))
    return Likeness(float(np.mean(scores)) if scores else 0.0, 1000.0 * delay / SAMPLE_RATE)


def _alike(before: Samples, after: Samples) -> float:
    if len(after) < len(before):
        return 0.0
    said, heard = _bands(before), _bands(after)
    said -= said.mean()
    heard -= heard.mean()
    power = float(np.sqrt((said**2).sum() * (heard**2).sum()))
    return max(0.0, float((said * heard).sum()) / power) if power > 0 else 0.0


def _delay(said: Samples, heard: Samples, most: int) -> int:
    """Return by how many samples the second lags behind, by their cross-correlation."""
    size = 1 << (len(said) + len(heard) - 1).bit_length()
    product = np.fft.rfft(heard.astype(np.float64), size) * np.conj(
        np.fft.rfft(said.astype(np.float64), size)
    )
    match = np.fft.irfft(product, size)[: max(1, min(most, len(heard)))]
    return int(match.argmax())


def _bands(samples: Samples) -> npt.NDArray[np.float64]:
    """Return the energy of each frame in each band, in dB above the floor."""
    shaped = samples.reshape(-1, FRAME).astype(np.float64) * np.hanning(FRAME)
    energy = np.abs(np.fft.rfft(shaped, axis=1)) ** 2
    hertz = np.fft.rfftfreq(FRAME, 1 / SAMPLE_RATE)
    edges = np.geomspace(LOW_HZ, HIGH_HZ, BANDS + 1)
    places = [(hertz >= low) & (hertz < high) for low, high in pairwise(edges)]
    bands = np.stack([energy[:, place].sum(axis=1) for place in places if place.any()], axis=1)
    level = 10 * np.log10(bands + 1.0)
    return np.asarray(np.maximum(level - (level.max() - FLOOR_DB), 0.0))
