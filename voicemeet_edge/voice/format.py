"""The one format of sound in this project: 48 kHz, mono, signed 16-bit little endian.

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

Samples = npt.NDArray[np.int16]
