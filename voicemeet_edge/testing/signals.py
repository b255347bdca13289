"""Sounds made by code for tests, demos and benches, and how alike two sounds are; pure.

One rule: everything is 48 kHz mono int16, and the same seed gives the same samples.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from voicemeet_edge.voice.format import SAMPLE_RATE, Samples

VOICE_RMS = 0.07  # of full scale, -23 dBFS: the level speech is usually delivered at
FORMANTS_HZ = ((270, 2290, 3010), (530, 1840, 2480), (730, 1090, 2440), (570, 840, 2410), (300, 870, 2240))
"""First three formants of five vowels (Peterson and Barney, 1952)."""


def _resonate(excitation: npt.NDArray[np.float64], formants: tuple[int, ...]) -> npt.NDArray[np.float64]:
    """Shape a source by vowel resonances, in the frequency domain."""
    spectrum = np.fft.rfft(excitation)
    hz = np.fft.rfftfreq(len(excitation), 1.0 / SAMPLE_RATE)
    shape = sum(
        (1.0 / (1.0 + ((hz - centre) / (60.0 + centre * 0.05)) ** 2) for centre in formants),
        np.zeros(len(hz)),
    )
    return np.asarray(np.fft.irfft(spectrum * (shape + 0.003), len(excitation)))


def speech_like(duration_s: float, *, seed: int = 1, pitch_hz: float = 120.0) -> Samples:
    """Return something with the pitch, vowels, hisses, syllables and pauses of speech, but no words."""
    random = np.random.default_rng(seed)
    total = round(duration_s * SAMPLE_RATE)
    out = np.zeros(total)
    position = 0
    while position < total:
        count = round(random.uniform(0.12, 0.32) * SAMPLE_RATE)
        if random.random() < 0.15:  # between words
            position += count
            continue
        if random.random() < 0.25:
            sound = _resonate(random.standard_normal(count), (3500, 5500, 7500)) * 0.5
        else:
            glide = np.linspace(random.uniform(0.85, 1.2), random.uniform(0.85, 1.2), count)
            phase = np.cumsum(pitch_hz * glide / SAMPLE_RATE)
            pulses = (np.diff(np.floor(phase), prepend=0.0) > 0).astype(np.float64)
            breath = random.standard_normal(count) * 0.01
            sound = _resonate(pulses + breath, FORMANTS_HZ[random.integers(len(FORMANTS_HZ))])
        sound *= np.sin(np.pi * np.arange(count) / count) ** 0.5 / (np.sqrt(np.mean(sound**2)) + 1e-9)
        end = min(position + count, total)
        out[position:end] += sound[: end - position] * random.uniform(0.5, 1.0)
        position += round(count * 0.85)
    out *= VOICE_RMS / (np.sqrt(np.mean(out**2)) + 1e-9)
    return np.asarray(np.clip(out, -0.98, 0.98) * 32767.0).astype(np.int16)


def correlation(heard: Samples, said: Samples) -> tuple[float, int]:
    """Find `said` in `heard`: return the normalised correlation there and the sample it begins at.

    1.0 means the very same waveform; speech through Opus reaches 0.9 and more, other speech under 0.2.
    """
    if len(heard) < len(said) or len(said) == 0:
        raise ValueError("the recording is shorter than what is looked for")
    long, short = heard.astype(np.float64), said.astype(np.float64)
    size = 1 << (len(long) + len(short) - 1).bit_length()
    product = np.fft.rfft(long, size) * np.conj(np.fft.rfft(short, size))
    raw = np.fft.irfft(product, size)[: len(long) - len(short) + 1]
    power = np.concatenate([[0.0], np.cumsum(long**2)])
    energy = power[len(short) :] - power[: len(long) - len(short) + 1]
    # Where next to nothing is heard the ratio means nothing: rounding noise must not look like speech.
    floor = max(float(energy.max()) * 1e-4, 1.0)
    score = raw / np.sqrt(np.maximum(energy, floor) * max(float(np.sum(short**2)), 1.0))
    best = int(np.argmax(score))
    return float(score[best]), best


PIECE_S = 0.3  # s; within so short a piece a playout that stretches and squeezes keeps the waveform


def likeness(heard: Samples, said: Samples) -> float:
    """Say how much of `said` is in `heard`: the median of the correlations of its loud pieces.

    Bears concealment, tempo changes and delay that moves: speech that arrived has 0.5 to 1.0, another
    voice under 0.2.
    """
    length = round(PIECE_S * SAMPLE_RATE)
    pieces = [said[start : start + length] for start in range(0, len(said) - length + 1, length)]
    power = [float(np.mean(piece.astype(np.float64) ** 2)) for piece in pieces]
    loud = [piece for piece, level in zip(pieces, power, strict=True) if level > 0.2 * max(power)]
    if not loud or len(heard) < length:
        return 0.0
    return float(np.median([correlation(heard, piece)[0] for piece in loud]))
