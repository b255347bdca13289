"""The format of sound in this project: 48 kHz, mono, signed 16-bit little endian.

The one exception is what a call does with the microphone's sound between card and encoder: that is at 16 kHz,
for nothing above 8 kHz is sent.

A *period* is what the sound card gives and takes at a time, a *frame* what one Opus packet carries.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

SAMPLE_RATE = 48_000  # Hz; Opus' own rate and RTP clock (RFC 7587 §4.1), and what USB cards do natively
MS = SAMPLE_RATE // 1000  # samples in a millisecond
PERIOD_MS = 10  # ms; the only length that AEC3 knows
PERIOD_S = PERIOD_MS / 1000  # s
PERIOD_SAMPLES = PERIOD_MS * MS
PERIOD_BYTES = PERIOD_SAMPLES * 2
FRAME_MS = 20  # ms; what we send, and what every browser sends
FRAME_S = FRAME_MS / 1000  # s
FRAME_SAMPLES = FRAME_MS * MS
FRAME_BYTES = FRAME_SAMPLES * 2
VOICE_RATE = 16_000  # Hz; a third of the work for canceller and encoder (docs/decisions.md)
VOICE_FRAME_SAMPLES = VOICE_RATE * FRAME_MS // 1000
VOICE_PERIOD_SAMPLES = VOICE_RATE * PERIOD_MS // 1000

Samples = npt.NDArray[np.int16]
