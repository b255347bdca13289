"""Comfort noise: what is heard when nothing has come for long, at the level the room had.

The one rule: never louder than the quietest the other side was lately, and never above the cap.
"""

from __future__ import annotations

from math import sqrt
from operator import mul

import numpy as np

from voicemeet_edge.voice.format import Samples

CAP_RMS = 100.0  # of 32768, -50 dBFS; noise above this is no comfort
LEARN_EVERY = 4  # frames, 80 ms; pauses between words are longer, and a look costs half as much as decoding
RISE = 1.04  # per look; the floor doubles in 1.4 s when the room got louder
RISE_STEP = 0.04  # of 32768, per look; it rises from silence too
POOL_SAMPLES = 9_600  # 200 ms of noise made once; its repetition cannot be heard


class ComfortNoise:
    """Track the floor of the received sound and give noise of that level."""

    def __init__(self) -> None:
        self.gain = 1.0
        """What the frames learnt from were multiplied by, and the noise is to be."""
        # A fixed seed: no randomness is needed here, and tests want the same noise again.
        white = np.random.default_rng(2198).standard_normal(POOL_SAMPLES + 3)
        soft = white[:-3] + white[1:-2] + white[2:-1] + white[3:]  # a gentle low-pass, like a room
        self._pool = (soft / np.std(soft)).astype(np.float32)
        self._floor = CAP_RMS
        self._position = 0
        self._until_look = 0  # frames

    def learn(self, pcm: bytes) -> None:
        """Take one decoded frame (s16le) of LEARN_EVERY into the floor: down at once, up slowly."""
        if self._until_look:
            self._until_look -= 1
            return
        self._until_look = LEARN_EVERY - 1
        # With cold caches a list of 120 numbers costs a fifth of what the same by array operations does.
        coarse = memoryview(pcm).cast("h")[::8].tolist()
        if coarse and self.gain > 0.0:
            level = sqrt(sum(map(mul, coarse, coarse)) / len(coarse)) / self.gain
            self._floor = min(level, self._floor * RISE + RISE_STEP, CAP_RMS)

    def make(self, count: int) -> Samples:
        """Return `count` samples of noise at the floor's level."""
        noise = np.take(self._pool, np.arange(self._position, self._position + count), mode="wrap")
        self._position = (self._position + count) % POOL_SAMPLES
        scaled: Samples = np.rint(noise * (self._floor * self.gain)).astype(np.int16)
        return scaled
