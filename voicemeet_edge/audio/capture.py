"""The capture thread's work: microphone, echo canceller, gain, Opus, and off to the loop.

One rule: every period of the microphone meets exactly one far period, in step, before anything else is
done to it. They are paired as they come and worked on in frames of two: what runs in a wake runs with cold
caches, so it is done once and not twice.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from voicemeet_edge.audio.card import PERIOD_MS, PERIOD_SAMPLES, CaptureStream, SoundCard
from voicemeet_edge.audio.codec import FRAME_SAMPLES
from voicemeet_edge.audio.events import CaptureClosed, CaptureOpened, EngineEvent, SoundFailed, SoundRecovered
from voicemeet_edge.audio.line import Line
from voicemeet_edge.audio.mixer import Frame, Mixer
from voicemeet_edge.audio.reference import FarReference
from voicemeet_edge.audio.worker import PacedSilence, StreamHooks, StreamWorker
from voicemeet_edge.errors import XrunError
from voicemeet_edge.voice.echo import EchoCanceller

FRAME_S = FRAME_SAMPLES / 48_000  # s
SILENCE = bytes(2 * FRAME_SAMPLES)
REST_SLACK_S = 0.0004  # s after a frame should be there; woken too early, a second wake would follow
REST_FRAMES = 50  # frames (1 s) between two looks at the card's own clock: at 500 ppm it moved 0.5 ms


class CaptureSide:
    """Everything between the microphone and `Line.encode`."""

    def __init__(
        self,
        card: SoundCard,
        canceller: EchoCanceller,
        reference: FarReference,
        emit: Callable[[EngineEvent], None],
        *,
        real_time: bool,
    ) -> None:
        self.line: Line | None = None
        """Set by the loop; the microphone is open only while there is one."""
        self.muted = False
        self.gain = 1.0
        self.open = False
        """True from before the stream opens until it is surely closed."""
        self._canceller = canceller
        self._reference = reference
        self._emit = emit
        self._told_open = False
        self._mixer = Mixer()
        self._half: tuple[bytes, Frame] | None = None  # the frame's first period and its far end
        self._served: Line | None = None
        self._last_read = 0.0
        self._gap = True
        self._frame_at: float | None = None  # when the card had the last frame whole; None: not known
        self._rests = 0
        self.worker: StreamWorker[CaptureStream] = StreamWorker(
            "sound-capture",
            StreamHooks(
                wanted=lambda: self.line is not None,
                open=card.open_capture,
                step=self._step,
                opening=self._opening,
                opened=self._opened,
                closed=self._closed,
                failed=lambda error: emit(SoundFailed(error, capture=True)),
                recovered=lambda: emit(SoundRecovered(capture=True)),
            ),
            real_time=real_time,
        )

    def _opening(self) -> None:
        self.open = True

    def _opened(self) -> None:
        self._gap = True
        self._frame_at = None
        self._reference.resync()
        self._told_open = True
        self._emit(CaptureOpened())

    def _closed(self) -> None:
        self.open = False
        if self._told_open:
            self._told_open = False
            self._emit(CaptureClosed())

    def _step(self, stream: CaptureStream | PacedSilence) -> None:
        line = self.line
        if line is not self._served:
            self._served, self._half, self._last_read = line, None, time.monotonic()
        if self._half is None:
            self._rest()
        try:
            pcm = stream.read()
        except XrunError:
            # As much of the far end's sound went by unheard as of the near end's.
            self._reference.resync()
            self._gap = True
            self._frame_at = None
            raise
        far = self._reference.take()
        if line is None or line is not self.line:
            return  # hung up while we waited: not one more frame leaves
        self._keep_rtp_clock(line)
        if self._half is None:
            self._half = pcm, far
            return
        first, first_far = self._half
        self._half = None
        # Joining bytes is a fraction of what joining arrays costs.
        both_far = np.frombuffer(b"".join((first_far.data, far.data)), np.int16)
        near = self._canceller.process(np.frombuffer(first + pcm, np.int16), both_far)
        if self.muted:
            line.encode(SILENCE, FRAME_SAMPLES)
        else:
            line.encode(self._amplified(near).tobytes(), FRAME_SAMPLES)
        if self._frame_at is None:
            self._frame_at = self._last_read

    def _amplified(self, frame: Frame) -> Frame:
        if self.gain == 1.0:
            return frame
        # The mixer works in periods, and in one buffer.
        scaled = np.empty(FRAME_SAMPLES, np.int16)
        scaled[:PERIOD_SAMPLES] = self._mixer.scale(frame[:PERIOD_SAMPLES], self.gain)
        scaled[PERIOD_SAMPLES:] = self._mixer.scale(frame[PERIOD_SAMPLES:], self.gain)
        return scaled

    def _rest(self) -> None:
        """Sleep until both periods of the next frame are there: one wake for each frame instead of two.

        Nothing is sent before the second one anyway. A wake costs 50 µs of CPU on x86, and whatever runs
        after it begins with cold caches.
        """
        if self._frame_at is None:
            return  # the reads wait for the card itself, and the second one says when it had the frame
        self._frame_at += FRAME_S
        wait = self._frame_at + REST_SLACK_S - time.monotonic()
        self._rests += 1
        if wait <= 0 or self._rests >= REST_FRAMES:
            self._frame_at, self._rests = None, 0
        else:
            time.sleep(wait)

    def _keep_rtp_clock(self, line: Line) -> None:
        """After an overrun or a new stream, skip what was lost, so that the peer's delay stays true."""
        now = time.monotonic()
        if self._gap:
            self._gap = False
            lost_s = now - self._last_read - PERIOD_MS * 1e-3
            line.skip(max(int(lost_s / FRAME_S), 0) * FRAME_SAMPLES)
        self._last_read = now
