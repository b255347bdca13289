"""Echo cancellation: one interface, WebRTC's AEC3 from two packages, and half duplex without any.

One rule: `process(near, far)` gets 10 ms of both in lock-step, and the far frame is the one that is about
to be heard. AEC3 finds the way from there by itself, up to 250 ms; far after its own echo is useless.

Which one, measured on a synthetic room (bench/echo.py): AEC3 removes more than 30 dB also over drifting
clocks and an overdriven loudspeaker. Its price is the near talker's quality while both talk, also where
there is no echo at all; so `EchoWatch` lets the microphone pass untouched while nothing comes back (a
headset, a handset, a card that cancels by itself).
"""

from __future__ import annotations

import importlib
import logging
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

logger = logging.getLogger(__name__)

SAMPLE_RATE = 48_000  # Hz
PERIOD_SAMPLES = 480  # 10 ms, the only frame AEC3 knows
STREAM_DELAY_MS = 60  # ms; where AEC3 begins to look: 40 ms in the loudspeaker's buffer, 20 on the way back

TAIL_MS = 150  # ms; how long the microphone stays down after the far end fell silent: a room's echo
DUCKED_GAIN = 0.01  # -40 dB; below the noise of the line, and not a dead line
NOISE_LEVEL = 0  # of 0..3, the mildest: 6 ms more delay, and a quieter room behind the talker
SPEECH_DBFS = -45.0  # dBFS rms; a far frame above this can be heard back from a loudspeaker
WATCH_PATH = 30  # periods (300 ms): AEC3 itself looks no further
WATCH_MOMENTS = 400  # moments with a loud far end (4 s of them) before the room is judged
WATCH_EVERY = 20  # moments between two judgements
WATCH_POWER = (32768.0 * 10.0 ** (-40.0 / 20.0)) ** 2  # -40 dBFS; quieter, an echo would drown in noise
FREE_BELOW = 10.0 ** (-55.0 / 10.0)  # power; an echo 55 dB under the far end is heard by nobody
BACK_BELOW = 10.0 ** (-50.0 / 10.0)  # power; above this the canceller comes back, so it does not flutter
OPEN_MS = 30  # ms in which the microphone comes up again; a jump would click

Frame = npt.NDArray[np.int16]


def _power(frame: Frame) -> float:
    wide = frame.astype(np.float32)
    return float(np.dot(wide, wide)) / PERIOD_SAMPLES


class EchoCanceller(Protocol):
    """Takes the loudspeaker's sound out of the microphone's."""

    @property
    def name(self) -> str:
        """The word of the settings."""

    def process(self, near: Frame, far: Frame) -> Frame:
        """Return the near frame without the far one's echo; 480 samples each."""


class Delay:
    """Delay a signal by a fixed number of samples."""

    def __init__(self, samples: int) -> None:
        self._line = np.zeros(samples + PERIOD_SAMPLES, np.int16)

    def process(self, frame: Frame) -> Frame:
        """Take 10 ms in and return the 10 ms of `samples` ago; a buffer of this object."""
        self._line[:-PERIOD_SAMPLES] = self._line[PERIOD_SAMPLES:]
        self._line[-PERIOD_SAMPLES:] = frame
        return self._line[:PERIOD_SAMPLES]


class EchoWatch:
    """Tell whether the loudspeaker is heard by the microphone at all.

    Where the far end has been loud for the longest way an echo may take, the microphone hears at least
    the echo, whoever else speaks. The quietest twentieth of such moments is an upper bound of the echo.
    """

    def __init__(self) -> None:
        self._far: deque[float] = deque(maxlen=WATCH_PATH)
        self._level = 0.0  # of the far end, smoothed
        self._loud_for = 0  # periods in a row with a loud far end
        self._ratios = np.zeros(WATCH_MOMENTS, np.float64)
        self._moments = 0
        self.echo_free = False

    def look(self, near: Frame, far: Frame) -> None:
        """Take 10 ms of both."""
        self._level += 0.3 * (_power(far) - self._level)
        self._far.append(self._level)
        # Counted first: most periods end here, and this runs a hundred times a second.
        self._loud_for = self._loud_for + 1 if self._level >= WATCH_POWER else 0
        if self._loud_for < WATCH_PATH:
            return
        self._ratios[self._moments % WATCH_MOMENTS] = _power(near) / min(self._far)
        self._moments += 1
        if self._moments >= WATCH_MOMENTS and self._moments % WATCH_EVERY == 0:
            bound = float(np.partition(self._ratios, WATCH_MOMENTS // 20)[WATCH_MOMENTS // 20])
            self.echo_free = bound < (BACK_BELOW if self.echo_free else FREE_BELOW)


class Watched:
    """A canceller that steps aside while the room gives nothing back; it goes on listening."""

    def __init__(self, inner: EchoCanceller, delay_samples: int) -> None:
        self._inner = inner
        self._watch = EchoWatch()
        self._delay = Delay(delay_samples)
        self._share = 0.0  # of the untouched signal
        self._ramp = np.linspace(0.0, 1.0, PERIOD_SAMPLES, dtype=np.float32)
        self._out = np.zeros(PERIOD_SAMPLES, np.int16)

    @property
    def name(self) -> str:
        """The inner one's."""
        return self._inner.name

    @property
    def echo_free(self) -> bool:
        """Whether the microphone passes untouched."""
        return self._watch.echo_free

    def process(self, near: Frame, far: Frame) -> Frame:
        """Return the cleaned frame, the untouched one, or on the way between both a mix."""
        self._watch.look(near, far)
        untouched = self._delay.process(near)
        cleaned = self._inner.process(near, far)
        wanted = 1.0 if self._watch.echo_free else 0.0
        if wanted == self._share:
            return untouched if wanted else cleaned
        share = self._ramp if wanted else self._ramp[::-1]
        self._share = wanted
        self._out[:] = cleaned + share * (untouched.astype(np.float32) - cleaned)
        return self._out


class Off:
    """No canceller: for headsets, and for cards that cancel by themselves."""

    name = "off"

    def process(self, near: Frame, far: Frame) -> Frame:
        """Return the near frame."""
        return near


class HalfDuplex:
    """Duck the microphone while the far end speaks, and 150 ms longer."""

    name = "half_duplex"

    def __init__(self) -> None:
        self._tail = 0
        self._gain = 1.0
        self._threshold = (32768.0 * 10.0 ** (SPEECH_DBFS / 20.0)) ** 2
        self._wide = np.zeros(PERIOD_SAMPLES, np.float32)
        self._out = np.zeros(PERIOD_SAMPLES, np.int16)

    def process(self, near: Frame, far: Frame) -> Frame:
        """Return the near frame, or next to nothing of it while the far end speaks."""
        if _power(far) > self._threshold:
            self._tail = TAIL_MS // 10
        elif self._tail > 0:
            self._tail -= 1
        # Down at once, for the reference comes before its echo but not by much; up gently.
        target = DUCKED_GAIN if self._tail > 0 else min(1.0, self._gain + 10.0 / OPEN_MS)
        if target == self._gain == 1.0:
            return near
        ramp = np.linspace(self._gain, target, PERIOD_SAMPLES, dtype=np.float32)
        self._gain = target
        np.multiply(near, ramp, out=self._wide)
        np.copyto(self._out, self._wide, casting="unsafe")
        return self._out


class Aec3:
    """WebRTC's AEC3 and noise suppressor from `pywebrtc-audio`: 0.4 MB, no threads of its own."""

    name = "aec3"
    delay_samples = 720
    """15 ms, measured: 9 of the filter bank, 6 of the noise suppressor."""

    def __init__(self) -> None:
        module = importlib.import_module("pywebrtc_audio")
        self._canceller: Any = module.AudioProcessor(
            SAMPLE_RATE,
            1,
            echo_cancellation=True,
            noise_suppression=True,
            high_pass_filter=True,
            ns_level=NOISE_LEVEL,
            stream_delay_ms=STREAM_DELAY_MS,
        )

    def process(self, near: Frame, far: Frame) -> Frame:
        """Return the near frame without echo."""
        cleaned: Frame = self._canceller.process(near, far)
        return cleaned


class Livekit:
    """WebRTC's AEC3 from `livekit`: bigger, with threads, commercially maintained."""

    name = "livekit"
    delay_samples = 720
    """15 ms, measured."""

    def __init__(self) -> None:
        rtc = importlib.import_module("livekit.rtc")
        self._frame: Callable[..., Any] = rtc.AudioFrame
        self._module: Any = rtc.AudioProcessingModule(
            echo_cancellation=True, noise_suppression=True, high_pass_filter=True, auto_gain_control=False
        )
        self._module.set_stream_delay_ms(STREAM_DELAY_MS)

    def process(self, near: Frame, far: Frame) -> Frame:
        """Return the near frame without echo: far in first, always."""
        self._module.process_reverse_stream(self._wrap(far))
        frame = self._wrap(near)
        self._module.process_stream(frame)
        return np.frombuffer(frame.data, np.int16)

    def _wrap(self, frame: Frame) -> Any:
        # A bytearray, for livekit works in place.
        return self._frame(bytearray(frame.tobytes()), SAMPLE_RATE, 1, PERIOD_SAMPLES)


CANCELLERS: dict[str, Callable[[], EchoCanceller]] = {
    "aec3": lambda: Watched(Aec3(), Aec3.delay_samples),
    "livekit": lambda: Watched(Livekit(), Livekit.delay_samples),
    "half_duplex": HalfDuplex,
    "off": Off,
}
AUTO_ORDER = ("aec3", "livekit", "half_duplex")
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
