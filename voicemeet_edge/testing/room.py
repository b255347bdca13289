"""A room made by numbers: what a microphone hears of a loudspeaker and of a talker; pure.

One rule: levels are given, not guessed, so that what an echo canceller did can be measured against what
was there. One room of one kind: use it for regressions and rankings, not as field truth.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from voicemeet_edge.audio.wav import resample
from voicemeet_edge.records import dataclass
from voicemeet_edge.voice.decimator import Decimator
from voicemeet_edge.voice.format import FRAME_SAMPLES, SAMPLE_RATE, Samples

Signal = npt.NDArray[np.float64]

SILENCE_DBFS = -55.0  # dBFS; seconds quieter than this say nothing about a canceller


@dataclass(frozen=True, slots=True)
class Room:
    """The way from loudspeaker to microphone."""

    delay_ms: float = 40.0
    response_ms: float = 130.0
    reverberation_s: float = 0.2
    """RT60: time in which the sound falls by 60 dB."""
    direct_to_reverberant_db: float = 6.0
    echo_db: float = -6.0
    """Level of the echo against the far signal."""
    overdrive: float = 1.5
    """How far the loudspeaker is driven into soft clipping."""
    second_harmonic: float = 0.02
    noise_dbfs: float = -62.0
    drift_ppm: float = 0.0
    """How much faster the microphone's clock runs than the loudspeaker's."""
    seed: int = 7

    def echo(self, far: Samples) -> Signal:
        """Return what the microphone hears of `far`, as fractions of full scale."""
        random = np.random.default_rng(self.seed)
        driven = far.astype(np.float64) / 32768.0
        driven = np.tanh(self.overdrive * driven) / self.overdrive + self.second_harmonic * driven**2
        count = round(self.response_ms * 1e-3 * SAMPLE_RATE)
        decay = 10.0 ** (-3.0 * np.arange(count) / (self.reverberation_s * SAMPLE_RATE))
        response = random.standard_normal(count) * decay
        response /= np.sqrt(np.sum(response**2))
        response[0] += 10.0 ** (self.direct_to_reverberant_db / 20.0)
        echo = _convolve(driven, response)
        echo *= 10.0 ** (self.echo_db / 20.0) * _rms(far.astype(np.float64) / 32768.0) / (_rms(echo) + 1e-12)
        echo = np.concatenate([np.zeros(round(self.delay_ms * 1e-3 * SAMPLE_RATE)), echo])[: len(far)]
        if self.drift_ppm:
            echo = resample(echo, 1.0 + self.drift_ppm * 1e-6)
            echo = np.concatenate([echo, np.zeros(max(len(far) - len(echo), 0))])[: len(far)]
        heard: Signal = echo + random.standard_normal(len(far)) * 10.0 ** (self.noise_dbfs / 20.0)
        return heard

    def microphone(self, far: Samples, near: Samples) -> Samples:
        """Return what the microphone hears of both; as long as `far`."""
        talker = np.zeros(len(far))
        talker[: len(near)] = near[: len(far)] / 32768.0
        return np.asarray(np.clip((self.echo(far) + talker) * 32768.0, -32768, 32767)).astype(np.int16)


def _rms(signal: Signal) -> float:
    return float(np.sqrt(np.mean(signal**2))) if len(signal) else 0.0


def _convolve(signal: Signal, response: Signal) -> Signal:
    size = 1 << (len(signal) + len(response)).bit_length()
    product = np.fft.rfft(signal, size) * np.fft.rfft(response, size)
    return np.asarray(np.fft.irfft(product, size)[: len(signal)])


def erle_db(before: Samples, after: Samples, rate: int = SAMPLE_RATE) -> list[float | None]:
    """Return the echo return loss enhancement of each second; None where there was nothing to remove.

    Use it on stretches where only the far end speaks.
    """
    gains: list[float | None] = []
    floor = 32768.0 * 10.0 ** (SILENCE_DBFS / 20.0)
    for start in range(0, min(len(before), len(after)) - rate + 1, rate):
        had = _rms(before[start : start + rate].astype(np.float64))
        left = _rms(after[start : start + rate].astype(np.float64))
        gains.append(20.0 * float(np.log10(had / max(left, 0.5))) if had > floor else None)
    return gains


def frames(samples: Samples, size: int = FRAME_SAMPLES) -> npt.NDArray[np.int16]:
    """Cut a signal into whole 20 ms frames, one per row."""
    return samples[: len(samples) // size * size].reshape(-1, size)


def at_voice_rate(samples: Samples) -> Samples:
    """Return a signal as echo cancellers and encoders get it: at 16 kHz."""
    decimator = Decimator(1)
    return np.concatenate([decimator.process(frame.tobytes())[0] for frame in frames(samples)])
