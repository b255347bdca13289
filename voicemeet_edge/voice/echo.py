"""Echo cancellation: one interface, WebRTC's AEC3 from two packages, and half duplex without any.

One rule: `process(near, far)` gets 20 ms of both in lock-step, at 16 kHz, and the far frame is the one that
is about to be heard. AEC3 finds the way from there by itself, up to 250 ms; far that comes after its own echo
is useless.

Which one, measured on a synthetic room (bench/echo.py): AEC3 removes more than 30 dB also over drifting
clocks and an overdriven loudspeaker. Its price is the near talker's quality while both talk, also where
there is no echo at all; so `Watched` puts some of the untouched microphone back where the talker outweighs
the echo, and all of it while nothing comes back (a handset, a card that cancels by itself).
"""

from __future__ import annotations

import importlib
import logging
import math
from collections import deque
from collections.abc import Callable
from itertools import pairwise
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from voicemeet_edge.voice.format import VOICE_FRAME_SAMPLES, VOICE_PERIOD_SAMPLES, VOICE_RATE, Samples

logger = logging.getLogger(__name__)

STREAM_DELAY_MS = 60  # ms; where AEC3 begins to look: 40 ms in the loudspeaker's buffer, 20 on the way back

TAIL_MS = 150  # ms; how long the microphone stays down after the far end fell silent: a room's echo
DUCKED_GAIN = 0.01  # -40 dB; below the noise of the line, and not a dead line
NOISE_LEVEL = 0  # of 0..3, the mildest: 6 ms more delay, and a quieter room behind the talker
SPEECH_DBFS = -45.0  # dBFS rms; a far frame above this can be heard back from a loudspeaker
WATCH_PATH = 30  # periods (300 ms): AEC3 itself looks no further
WATCH_LEAST = 100  # moments with a loud far end (1 s of them, in 2 to 4 s of speech) to judge a room by
WATCH_MOMENTS = 400  # moments remembered
WATCH_FRAMES = 10  # frames (200 ms) between two looks
WATCH_JUDGED = 4  # looks between two judgements: what a room is like does not change in a second
WATCH_POWER = (32768.0 * 10.0 ** (-40.0 / 20.0)) ** 2  # -40 dBFS; quieter, an echo would drown in noise
FREE_BELOW = 10.0 ** (-55.0 / 10.0)  # power; an echo 55 dB under the far end is heard by nobody
BACK_BELOW = 10.0 ** (-50.0 / 10.0)  # power; above this the canceller comes back, so it does not flutter
OPEN_MS = 30  # ms in which the microphone comes up again; a jump would click

MOST_SHARE = 0.3  # -10 dB; more lets more echo through, and PESQ does not rise any more
SHARE_OF_LEFT = 0.5  # by power left: the echo stays 15 dB under a talker as loud, 25 under one 12 dB louder
SHARE_FALL = 0.85  # per frame, -7 dB in 100 ms: over the holes between syllables, not into the next sentence
SHARE_HELD = 0.5  # of the share; while this much is still wanted, it stays
LEAST_SHARE = 0.01  # -40 dB; less is not worth mixing
QUIET_PEAK = 730  # of 32768, -33 dBFS, speech of -45 dBFS; what is left of noise is no talker
WARM_FRAMES = 50  # frames (1 s) in which a canceller learns the room before its output counts again
HEARD_POWER = (32768.0 * 10.0 ** (-50.0 / 20.0)) ** 2  # -50 dBFS; a far end quieter than this has no echo

Wide = npt.NDArray[np.float32]


class EchoCanceller(Protocol):
    """Takes the loudspeaker's sound out of the microphone's."""

    @property
    def name(self) -> str:
        """The word of the settings."""

    @property
    def echo_db(self) -> float | None:
        """How loud the echo comes back, dB over what was played, at most; None where nobody has judged it."""

    def process(self, near: Samples, far: Samples) -> Samples:
        """Return the near frame without the far one's echo; VOICE_FRAME_SAMPLES each.

        Neither is changed, now or later by its owner: a canceller may keep them. What is returned is
        good until the next call.
        """


class EchoWatch:
    """Tell whether the loudspeaker is heard by the microphone at all.

    Where the far end has been loud for the longest way an echo may take, the microphone hears at least
    the echo, whoever else speaks. The quietest twentieth of such moments is an upper bound of the echo.
    It looks five times a second at what was kept until then, so that most frames cost next to nothing.
    """

    def __init__(self) -> None:
        self._kept: list[tuple[Samples, Samples]] = []
        self._looks = 0
        self._level = 0.0  # of the far end, smoothed
        self._far: deque[float] = deque(maxlen=WATCH_PATH)
        self._loud_for = 0  # periods in a row with a loud far end
        self._ratios: deque[float] = deque(maxlen=WATCH_MOMENTS)
        self.echo_free = False
        self.bound = 0.0
        """Power of the echo by that of the far end, at most; 0 before it is known."""
        self.far_heard = False
        """Whether the far end spoke in the last 200 ms looked at."""

    def look(self, near: Samples, far: Samples) -> None:
        """Take a frame of both, and keep them for a while."""
        self._kept.append((near, far))
        if len(self._kept) < WATCH_FRAMES:
            return
        powers = [_powers(frames) for frames in zip(*self._kept, strict=True)]
        self._kept.clear()
        self._collect(*powers)
        self.far_heard = max(powers[1]) >= HEARD_POWER
        self._looks += 1
        if self._looks % WATCH_JUDGED == 0 and len(self._ratios) >= WATCH_LEAST:
            self.bound = sorted(self._ratios)[len(self._ratios) // 20]
            self.echo_free = self.bound < (BACK_BELOW if self.echo_free else FREE_BELOW)

    def _collect(self, near: list[float], far: list[float]) -> None:
        for near_power, far_power in zip(near, far, strict=True):
            self._level += 0.3 * (far_power - self._level)
            self._far.append(self._level)
            self._loud_for = self._loud_for + 1 if self._level >= WATCH_POWER else 0
            if self._loud_for >= WATCH_PATH:
                self._ratios.append(near_power / min(self._far))


def _powers(frames: tuple[Samples, ...]) -> list[float]:
    """Return the mean square of each period."""
    wide = np.concatenate(frames).astype(np.float32).reshape(-1, VOICE_PERIOD_SAMPLES)
    powers: list[float] = (np.einsum("ij,ij->i", wide, wide) / VOICE_PERIOD_SAMPLES).tolist()
    return powers


class Watched:
    """A canceller whose output gets back some of the untouched microphone: all of it where there is no echo.

    AEC3 mutes what the near talker says while the far end is heard, even where the talker is 30 dB above the
    echo (PESQ-WB 2.9 becomes 1.7), and none of the settings that can be reached changes that. How much of
    the microphone's power it left tells how much of that was the talker: that share of a share is put back.
    Where only the far end speaks, nearly nothing is left and nothing is put back.
    """

    def __init__(self, inner: EchoCanceller, delay_samples: int) -> None:
        self._inner = inner
        self._watch = EchoWatch()
        self._late = VOICE_FRAME_SAMPLES - delay_samples  # the inner one's delay is at most a frame
        self._before: Samples = np.zeros(VOICE_FRAME_SAMPLES, np.int16)
        self._share = 0.0  # of the untouched signal
        self._warm = WARM_FRAMES
        self._ramp = np.linspace(0.0, 1.0, VOICE_FRAME_SAMPLES, dtype=np.float32)
        self._out = np.zeros(VOICE_FRAME_SAMPLES, np.int16)
        self._part = np.zeros(VOICE_FRAME_SAMPLES, np.int16)

    @property
    def name(self) -> str:
        """The inner one's."""
        return self._inner.name

    @property
    def echo_free(self) -> bool:
        """Whether the microphone passes untouched."""
        return self._watch.echo_free

    @property
    def echo_db(self) -> float | None:
        """The bound of the watch; what is quieter than the microphone's own noise is that noise."""
        return 10.0 * math.log10(self._watch.bound) if self._watch.bound > 0.0 else None

    def process(self, near: Samples, far: Samples) -> Samples:
        """Return the cleaned frame, the untouched one, or a mix of both."""
        watch = self._watch
        watch.look(near, far)
        before, self._before = self._before, near
        if watch.echo_free and self._share == 1.0:
            self._warm = 0
            return self._untouched(before, near)
        cleaned = self._inner.process(near, far)
        if self._warm < WARM_FRAMES:
            self._warm += 1
            return self._untouched(before, near)
        if not (watch.far_heard or watch.echo_free or self._share):
            return cleaned
        left = int(np.maximum.reduce(cleaned))
        if left < QUIET_PEAK and not self._share and not watch.echo_free:
            return cleaned
        untouched = self._untouched(before, near)
        share = 1.0 if watch.echo_free else self._next_share(left, int(np.maximum.reduce(untouched)))
        return self._mix(cleaned, untouched, share)

    def _untouched(self, before: Samples, near: Samples) -> Samples:
        return np.concatenate((before[self._late :], near[: self._late]))

    def _next_share(self, left: int, heard: int) -> float:
        # Peaks stand for powers: one call each instead of two, and calls are what costs here.
        wanted = 0.0
        if self._watch.far_heard and left >= QUIET_PEAK:
            wanted = min(SHARE_OF_LEFT * (left / max(heard, left)) ** 2, MOST_SHARE)
        if self._share * SHARE_HELD <= wanted <= self._share:
            return self._share  # near enough; a share that stays spares the ramp
        share = max(wanted, min(self._share, MOST_SHARE) * SHARE_FALL)
        return share if share > LEAST_SHARE else 0.0

    def _mix(self, cleaned: Samples, untouched: Samples, share: float) -> Samples:
        former, self._share = self._share, share
        if share == former:
            of_untouched: Wide | np.float32 = np.float32(share)
        else:
            of_untouched = self._ramp * np.float32(share - former) + np.float32(former)
        # Mixed in place, type and all: nothing can saturate, for the two shares make one.
        np.multiply(untouched, of_untouched, out=self._part, casting="unsafe")
        np.multiply(cleaned, np.float32(1.0) - of_untouched, out=self._out, casting="unsafe")
        self._out += self._part
        return self._out


class Off:
    """No canceller: for headsets, and for cards that cancel by themselves."""

    name = "off"
    echo_db: float | None = None

    def process(self, near: Samples, far: Samples) -> Samples:
        """Return the near frame."""
        return near


class HalfDuplex:
    """Duck the microphone while the far end speaks, and 150 ms longer."""

    name = "half_duplex"
    echo_db: float | None = None

    def __init__(self) -> None:
        self._tail = 0
        self._gain = 1.0
        self._threshold = (32768.0 * 10.0 ** (SPEECH_DBFS / 20.0)) ** 2

    def process(self, near: Samples, far: Samples) -> Samples:
        """Return the near frame, or next to nothing of it while the far end speaks."""
        gains = [self._gain]
        for power in _powers((far,)):
            if power > self._threshold:
                self._tail = TAIL_MS // 10
            elif self._tail > 0:
                self._tail -= 1
            # Down at once, for the reference comes before its echo but not by much; up gently.
            gains.append(DUCKED_GAIN if self._tail > 0 else min(1.0, gains[-1] + 10.0 / OPEN_MS))
        self._gain = gains[-1]
        if min(gains) == 1.0:
            return near
        ramps = [np.linspace(*ends, VOICE_PERIOD_SAMPLES, dtype=np.float32) for ends in pairwise(gains)]
        ducked: Samples = (near * np.concatenate(ramps)).astype(np.int16)
        return ducked


class Aec3:
    """WebRTC's AEC3 and noise suppressor from `pywebrtc-audio`: 0.4 MB, no threads of its own."""

    name = "aec3"
    echo_db: float | None = None
    delay_samples = 224
    """14 ms, measured."""

    def __init__(self) -> None:
        module = importlib.import_module("pywebrtc_audio")
        self._canceller: Any = module.AudioProcessor(
            VOICE_RATE,
            1,
            echo_cancellation=True,
            noise_suppression=True,
            high_pass_filter=True,
            ns_level=NOISE_LEVEL,
            stream_delay_ms=STREAM_DELAY_MS,
        )

    def process(self, near: Samples, far: Samples) -> Samples:
        """Return the near frame without echo."""
        cleaned: Samples = self._canceller.process(near, far)
        return cleaned


CANCELLERS: dict[str, Callable[[], EchoCanceller]] = {
    "aec3": lambda: Watched(Aec3(), Aec3.delay_samples),
    "half_duplex": HalfDuplex,
    "off": Off,
}
AUTO_ORDER = ("aec3", "half_duplex")
NAMES = ("auto", *CANCELLERS)


def choose(name: str) -> EchoCanceller:
    """Return the canceller of this name; a missing package falls back to the next that is there.

    `auto` takes the first of AUTO_ORDER. A name that was asked for and cannot be had is a warning, not
    the end: half duplex works everywhere, and a device in the field must go on talking.

    Raises:
        ValueError: the name is not one of NAMES.
    """
    if name not in NAMES:
        raise ValueError(f"echo canceller {name!r}: expected one of {', '.join(NAMES)}")
    order = AUTO_ORDER if name == "auto" else (name, *AUTO_ORDER)
    for candidate in order:
        try:
            return CANCELLERS[candidate]()
        except (ImportError, AttributeError, OSError, RuntimeError) as error:
            log = logger.info if name == "auto" else logger.warning
            log("echo canceller %s cannot be had (%s)", candidate, type(error).__name__)
    raise AssertionError("half duplex needs nothing and is always in the order")
