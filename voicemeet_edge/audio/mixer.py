"""Loudness and mixing of frames, pure; one rule: a sum saturates, it never wraps round."""

from __future__ import annotations

import numpy as np

from voicemeet_edge.voice.format import PERIOD_SAMPLES, Samples

VOLUME_RANGE_DB = 40.0  # dB between volume 1 and 100: loudness is heard in ratios, so the knob is in dB
SPEECH_UNDER_TONE = 0.35  # about -9 dB: a warning tone is heard over speech, and speech is still understood
PEAK = np.float32(32767.0)  # full scale of 16 bits, the same on both sides so that clipping stays symmetric


def db_to_gain(gain_db: float) -> float:
    """Turn decibels into an amplitude factor."""
    return float(10.0 ** (gain_db / 20.0))


def volume_gain(percent: float) -> float:
    """Turn a volume of 0..100 into an amplitude factor; 0 is silence, 100 is unchanged."""
    if percent <= 0.0:
        return 0.0
    return db_to_gain((min(percent, 100.0) - 100.0) * VOLUME_RANGE_DB / 100.0)


class Mixer:
    """Scale and add frames in buffers of its own, so that the sound threads allocate nothing."""

    def __init__(self, samples: int = PERIOD_SAMPLES) -> None:
        self._sum = np.zeros(samples, np.float32)
        self._part = np.zeros(samples, np.float32)
        self._out = np.zeros(samples, np.int16)
        self._silence = bytes(2 * samples)

    def scale(self, frame: Samples, gain: float) -> Samples:
        """Return `frame` times `gain`, saturated; the result may be this object's buffer."""
        if gain == 1.0:
            return frame
        if 0.0 <= gain < 1.0:  # the usual case, and nothing can saturate: one pass is enough
            np.multiply(frame, np.float32(gain), out=self._out, casting="unsafe")
            return self._out
        np.multiply(frame, np.float32(gain), out=self._sum)
        return self._saturate()

    def mix(self, speech: bytes | None, tone: Samples | None, gain: float) -> bytes:
        """Return s16le, tone over speech; the gain is the tone's, and speech comes at its own volume."""
        if tone is None:
            return self._silence if speech is None else speech
        np.multiply(tone, np.float32(gain), out=self._sum)
        if speech is not None:
            np.multiply(np.frombuffer(speech, np.int16), np.float32(SPEECH_UNDER_TONE), out=self._part)
            np.add(self._sum, self._part, out=self._sum)
        return self._saturate().tobytes()

    def _saturate(self) -> Samples:
        # The two ufuncs are what np.clip calls in the end, at a third of its price for so few samples.
        np.minimum(self._sum, PEAK, out=self._sum)
        np.maximum(self._sum, -PEAK, out=self._sum)
        # Truncation is fine: half a quantisation step at 16 bits is below any loudspeaker's noise.
        np.copyto(self._out, self._sum, casting="unsafe")
        return self._out
