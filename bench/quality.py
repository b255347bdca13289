"""How good is what was heard: PESQ-WB and STOI per 2 s segment, each aligned for itself, and the delay.

Time stretching moves segments against each other, so one alignment for a whole file says nothing. The
one rule: silence is not scored, and every segment that holds speech is.
"""

from __future__ import annotations

import wave
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy.signal import resample_poly

from voicemeet_edge.voice.format import SAMPLE_RATE

WIDE_RATE = 16_000  # Hz; PESQ-WB (ITU-T P.862.2) knows no other
SEGMENT = 2 * WIDE_RATE  # samples, 2 s
WINDOW = WIDE_RATE // 2  # samples, 0.5 s; one reading of the delay
EARLIEST = WIDE_RATE // 20  # samples, 50 ms before; a search that finds less is broken
LATEST = WIDE_RATE  # samples, 1 s; the longest delay looked for
SPEECH_RMS = 100.0  # of 32768, -50 dBFS; quieter segments are pauses
SURE = 0.5  # normalised correlation below which a delay reading is not one

Sound = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Segment:
    """The score of 2 s of speech."""

    start_s: float
    pesq: float
    stoi: float
    delay_ms: float


@dataclass(frozen=True, slots=True)
class Quality:
    """The scores of a whole recording."""

    segments: tuple[Segment, ...]
    delays_ms: tuple[tuple[float, float], ...]
    """(time in seconds, delay in ms), one reading each half second with speech in it."""

    @property
    def pesq(self) -> float:
        """Median PESQ-WB over the segments."""
        return float(np.median([segment.pesq for segment in self.segments])) if self.segments else 0.0

    @property
    def stoi(self) -> float:
        """Median STOI over the segments."""
        return float(np.median([segment.stoi for segment in self.segments])) if self.segments else 0.0

    def delay(self, percent: float) -> float:
        """Delay in ms that `percent` of the readings do not exceed."""
        return (
            float(np.percentile([delay for _, delay in self.delays_ms], percent)) if self.delays_ms else 0.0
        )


def load(path: Path) -> npt.NDArray[np.int16]:
    """Read a 16-bit WAV of any rate as mono at 48 kHz."""
    with wave.open(str(path)) as file:
        if file.getsampwidth() != 2:
            raise ValueError(f"{path}: 16-bit samples are needed")
        rate, channels = file.getframerate(), file.getnchannels()
        raw = np.frombuffer(file.readframes(file.getnframes()), dtype="<i2")
    mono = raw.reshape(-1, channels).mean(axis=1)
    if rate != SAMPLE_RATE:
        divisor = int(np.gcd(rate, SAMPLE_RATE))
        mono = resample_poly(mono, SAMPLE_RATE // divisor, rate // divisor)
    sound: npt.NDArray[np.int16] = np.clip(np.rint(mono), -32768, 32767).astype(np.int16)
    return sound


def save(path: Path, sound: npt.NDArray[np.int16]) -> None:
    """Write mono 48 kHz 16 bit."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE)
        file.writeframes(sound.astype("<i2").tobytes())


def score(spoken: npt.NDArray[np.int16], heard: npt.NDArray[np.int16]) -> Quality:
    """Compare two recordings on one time axis, both at 48 kHz."""
    from pesq import NoUtterancesError, pesq
    from pystoi import stoi

    reference = _wide(spoken)
    degraded = _wide(heard)
    segments = []
    for start in range(0, len(reference) - SEGMENT + 1, SEGMENT):
        part = reference[start : start + SEGMENT]
        if _rms(part) < SPEECH_RMS:
            continue
        lag, _ = _lag(part, degraded, start)
        got = _cut(degraded, start + lag, SEGMENT)
        try:
            mos = float(pesq(WIDE_RATE, part / 32768, got / 32768, "wb")) if _rms(got) > 1 else 1.0
        except NoUtterancesError:
            continue
        clear = float(stoi(part, got, WIDE_RATE)) if _rms(got) > 1 else 0.0
        segments.append(Segment(start / WIDE_RATE, mos, clear, lag * 1000 / WIDE_RATE))
    return Quality(tuple(segments), tuple(_delays(reference, degraded)))


def _delays(reference: Sound, degraded: Sound) -> list[tuple[float, float]]:
    readings = []
    for start in range(0, len(reference) - WINDOW + 1, WINDOW):
        part = reference[start : start + WINDOW]
        if _rms(part) < SPEECH_RMS * 2:
            continue
        lag, sure = _lag(part, degraded, start)
        if sure >= SURE:
            readings.append((start / WIDE_RATE, lag * 1000 / WIDE_RATE))
    return readings


def _wide(sound: npt.NDArray[np.int16]) -> Sound:
    wide: Sound = resample_poly(sound.astype(np.float64), 1, SAMPLE_RATE // WIDE_RATE)
    return wide


def _rms(sound: Sound) -> float:
    return float(np.sqrt(np.mean(sound * sound))) if len(sound) else 0.0


def _cut(sound: Sound, start: int, count: int) -> Sound:
    """Take a stretch, with silence where the recording has none."""
    out = np.zeros(count)
    low, high = max(start, 0), min(start + count, len(sound))
    if high > low:
        out[low - start : high - start] = sound[low:high]
    return out


def _lag(part: Sound, degraded: Sound, start: int) -> tuple[int, float]:
    """Find how much later `part` is heard, in samples, and how sure that is (normalised correlation)."""
    span = _cut(degraded, start - EARLIEST, len(part) + EARLIEST + LATEST)
    size = 1 << int(np.ceil(np.log2(len(span) + len(part))))
    spectrum = np.fft.rfft(span, size) * np.conj(np.fft.rfft(part, size))
    correlation = np.fft.irfft(spectrum, size)[: EARLIEST + LATEST]
    power = np.concatenate(([0.0], np.cumsum(span * span)))
    energy = power[len(part) : len(part) + len(correlation)] - power[: len(correlation)]
    normal = correlation / np.sqrt(np.maximum(energy, 1.0) * max(float(np.dot(part, part)), 1.0))
    best = int(np.argmax(normal))
    return best - EARLIEST, float(normal[best])
