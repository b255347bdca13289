"""Echo cancellation: one interface, WebRTC's AEC3 from two packages, and half duplex without any.

One rule: `process(near, far)` gets 10 ms of both in lock-step, and the far frame is the one that is about
to be heard. AEC3 finds the way from there by itself, up to 250 ms; far after its own echo is useless.

Which one, measured on a synthetic room (bench/echo.py): AEC3 removes more than 30 dB also over drifting
clocks and an overdriven loudspeaker; its price is the near talker's quality while both talk.
"""

from __future__ import annotations

import importlib
import logging
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
SPEECH_DBFS = -45.0  # dBFS rms; a far frame above this can be heard back from a loudspeaker
OPEN_MS = 30  # ms in which the microphone comes up again; a jump would click

Frame = npt.NDArray[np.int16]


class EchoCanceller(Protocol):
    """Takes the loudspeaker's sound out of the microphone's."""

    @property
    def name(self) -> str:
        """The word of the settings."""

    def process(self, near: Frame, far: Frame) -> Frame:
        """Return the near frame without the far one's echo; 480 samples each."""


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
        self._threshold = (32768.0 * 10.0 ** (SPEECH_DBFS / 20.0)) ** 2 * PERIOD_SAMPLES
        self._wide = np.zeros(PERIOD_SAMPLES, np.float32)
        self._out = np.zeros(PERIOD_SAMPLES, np.int16)

    def process(self, near: Frame, far: Frame) -> Frame:
        """Return the near frame, or next to nothing of it while the far end speaks."""
        np.copyto(self._wide, far)
        if float(np.dot(self._wide, self._wide)) > self._threshold:
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
    """WebRTC's AEC3 from `pywebrtc-audio`: 0.4 MB, no threads of its own."""

    name = "aec3"

    def __init__(self) -> None:
        module = importlib.import_module("pywebrtc_audio")
        self._canceller: Any = module.EchoCanceller(SAMPLE_RATE, 1, STREAM_DELAY_MS)

    def process(self, near: Frame, far: Frame) -> Frame:
        """Return the near frame without echo; the result is 8 ms later than the input."""
        cleaned: Frame = self._canceller.process(near, far)
        return cleaned


class Livekit:
    """WebRTC's AEC3 from `livekit`: bigger, with threads, commercially maintained."""

    name = "livekit"

    def __init__(self) -> None:
        rtc = importlib.import_module("livekit.rtc")
        self._frame: Callable[..., Any] = rtc.AudioFrame
        self._module: Any = rtc.AudioProcessingModule(
            echo_cancellation=True, noise_suppression=False, high_pass_filter=True, auto_gain_control=False
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
    "aec3": Aec3,
    "livekit": Livekit,
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
