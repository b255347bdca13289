"""Speech-like sound for the voice tests, made by code: no file, no synthesiser needed."""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt

from voicemeet_edge.voice.format import Samples


@cache
def voiced(seconds: float, pitch: float = 120.0, seed: int = 1) -> Samples:
    """Return a gliding buzz with formants and syllables, 48 kHz, peak about -6 dBFS."""
    count = int(seconds * 48_000)
    at = np.arange(count) / 48_000
    glide = pitch * (1 + 0.15 * np.sin(2 * np.pi * 0.7 * at))
    phase = 2 * np.pi * np.cumsum(glide) / 48_000
    sound = np.zeros(count)
    for harmonic in range(1, 24):
        centre = harmonic * pitch
        weight = np.exp(-(((centre - 600) / 500) ** 2)) + 0.5 * np.exp(-(((centre - 1800) / 600) ** 2)) + 0.03
        sound += weight * np.sin(harmonic * phase)
    syllables = 0.35 + 0.65 * np.clip(np.sin(2 * np.pi * 2.5 * at) + 0.4, 0, 1)
    breath = np.random.default_rng(seed).standard_normal(count) * 0.01
    mixed = sound / np.abs(sound).max() * syllables + breath
    sounded: Samples = (mixed * 15_000).astype(np.int16)
    sounded.flags.writeable = False  # many tests share it
    return sounded


def frames(sound: Samples) -> list[bytes]:
    """Cut sound into 20 ms frames of s16le."""
    return [sound[start : start + 960].tobytes() for start in range(0, len(sound) - 959, 960)]


def rms(sound: npt.NDArray[np.int16]) -> float:
    """Level of a sound."""
    return float(np.sqrt(np.mean(sound.astype(np.float64) ** 2)))
