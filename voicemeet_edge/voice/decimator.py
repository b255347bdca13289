"""From the card's 48 kHz to the 16 kHz that speech is worked on: pure.

One rule: what lies above 8 kHz is gone and what lies below 7 stays as it was. All that is sent ends at 8 kHz
(voice/opus.py), so canceller and encoder need not carry three times as many samples.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from voicemeet_edge.voice.format import FRAME_SAMPLES, SAMPLE_RATE, VOICE_FRAME_SAMPLES, VOICE_RATE, Samples

STEP = SAMPLE_RATE // VOICE_RATE
TAPS = 97  # 1 ms of delay; 60 dB down within 1.8 kHz
CUTOFF_HZ = 7_800.0  # 6 dB down
KAISER = 5.65  # 60 dB (Kaiser's formula)
BLOCK = 20  # samples made at once, by one row of a product of matrices: that is what processors are fast at
_WIDTH = STEP * (BLOCK - 1) + TAPS  # samples that a block is made of
_ROWS = VOICE_FRAME_SAMPLES // BLOCK
PEAK = np.float32(32767.0)


def _response() -> npt.NDArray[np.float64]:
    """Return the filter: a windowed sinc."""
    place = np.arange(TAPS) - TAPS // 2
    taps = np.sinc(2.0 * CUTOFF_HZ / SAMPLE_RATE * place) * np.kaiser(TAPS, KAISER)
    return np.asarray(taps / taps.sum())


class Decimator:
    """Takes frames of several channels at 48 kHz, gives them at 16 kHz, a millisecond later."""

    def __init__(self, channels: int) -> None:
        self._filter = np.zeros((_WIDTH, BLOCK), np.float32)
        for column in range(BLOCK):
            self._filter[STEP * column : STEP * column + TAPS, column] = _response()
        self._past = np.zeros((channels, TAPS - 1 + FRAME_SAMPLES), np.float32)
        self._rows = np.lib.stride_tricks.as_strided(
            self._past,
            (channels, _ROWS, _WIDTH),
            (self._past.strides[0], STEP * BLOCK * self._past.itemsize, self._past.itemsize),
            writeable=False,
        )
        self._blocks = np.empty((channels * _ROWS, _WIDTH), np.float32)
        self._out = np.empty((channels * _ROWS, BLOCK), np.float32)
        self._shape = channels, VOICE_FRAME_SAMPLES

    def process(self, pcm: bytes) -> Samples:
        """Take a frame of each channel, one behind the other as s16le; returns them, one a row.

        What is returned is the caller's.
        """
        past, out = self._past, self._out
        past[:, : TAPS - 1] = past[:, FRAME_SAMPLES:]
        past[:, TAPS - 1 :] = np.frombuffer(pcm, np.int16).reshape(-1, FRAME_SAMPLES)
        np.copyto(self._blocks.reshape(self._rows.shape), self._rows)
        np.matmul(self._blocks, self._filter, out=out)
        np.rint(out, out=out)
        # A sum may overshoot what 16 bits hold.
        np.minimum(out, PEAK, out=out)
        np.maximum(out, -PEAK, out=out)
        return out.astype(np.int16).reshape(self._shape)
