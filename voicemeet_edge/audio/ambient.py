"""How loud it is where the box hangs, and how much louder it has to be for that; pure.

One rule: what counts is the quiet between the words. The level is that which a tenth of the last seconds stay
below, so whoever talks, here or out of the loudspeaker, does not count as noise.
"""

from __future__ import annotations

import math
from collections import deque

import numpy as np

EVERY_FRAMES = 10  # frames between two looks: five a second are enough, and cost nothing
LOOKS = 50  # ten seconds
LEAST_LOOKS = 10  # two seconds until something is said
SHARE = 0.1  # of the looks that are quieter than what counts as noise
QUIET_DB, LOUD_DB = -60.0, -35.0  # dB of full scale: a quiet room, and a street
MOST_DB = 10.0  # dB louder at a street


class AmbientLevel:
    """Told frames of the microphone in one thread, asked in any."""

    def __init__(self) -> None:
        self._levels: deque[float] = deque(maxlen=LOOKS)
        self._frames = 0

    def take(self, pcm: bytes) -> None:
        """Take 20 ms of the near end, s16le, after the echo was taken out."""
        self._frames += 1
        if self._frames % EVERY_FRAMES:
            return
        sound = np.frombuffer(pcm, np.int16).astype(np.float32)
        power = float(np.dot(sound, sound)) / max(1, len(sound))
        self._levels.append(10 * math.log10(power + 1.0) - 90.3)

    def reset(self) -> None:
        """Begin anew: another call."""
        self._levels.clear()

    @property
    def level_db(self) -> float | None:
        """The noise in dB of full scale; None before enough was heard."""
        levels = sorted(self._levels)
        return levels[int(SHARE * len(levels))] if len(levels) >= LEAST_LOOKS else None

    @property
    def boost_db(self) -> float:
        """How much louder the loudspeaker has to be."""
        level = self.level_db
        if level is None:
            return 0.0
        share = (level - QUIET_DB) / (LOUD_DB - QUIET_DB)
        return MOST_DB * min(1.0, max(0.0, share))
