"""The capture thread's work: microphone, down to 16 kHz, echo canceller, gain, Opus, and off to the loop.

One rule: where there is a canceller, every period of the microphone meets exactly one far period, in step,
before anything else is done to it; where there is none, libopus gets the bytes as the card gave them.
Periods are paired as they come and worked on in frames of two: what runs in a wake runs with cold caches, so
it is done once and not twice.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from voicemeet_edge.audio.ambient import AmbientLevel
from voicemeet_edge.audio.call_audio import CallAudio
from voicemeet_edge.audio.card import CaptureStream, SoundCard
from voicemeet_edge.audio.echo_reference import EchoReference
from voicemeet_edge.audio.events import CaptureClosed, CaptureOpened, EngineEvent, SoundFailed, SoundRecovered
from voicemeet_edge.audio.mixer import Mixer
from voicemeet_edge.audio.worker import PacedSilence, StreamHooks, StreamWorker
from voicemeet_edge.errors import XrunError
from voicemeet_edge.voice.decimator import Decimator
from voicemeet_edge.voice.echo import EchoCanceller, Off
from voicemeet_edge.voice.format import FRAME_S, FRAME_SAMPLES, PERIOD_MS, SAMPLE_RATE, VOICE_RATE
from voicemeet_edge.voice.opus import samples_of

REST_SLACK_S = 0.0004  # s after a frame should be there; woken too early, a second wake would follow
REST_FRAMES = 50  # frames (1 s) between two looks at the card's own clock: at 500 ppm it moved 0.5 ms


class CaptureThread:
    """Everything between the microphone and `CallAudio.encode`."""

    def __init__(
        self,
        card: SoundCard,
        canceller: EchoCanceller,
        reference: EchoReference,
        emit: Callable[[EngineEvent], None],
        *,
        real_time: bool,
    ) -> None:
        self.call: CallAudio | None = None
        """Set by the loop; the microphone is open only while there is one."""
        self.gain = 1.0
        self.open = False
        """True from before the stream opens until it is surely closed."""
        self.ambient = AmbientLevel()
        """Told in this thread, asked on the loop."""
        self._canceller = canceller
        self._reference = reference
        self._emit = emit
        self._told_open = False
        self._untouched = isinstance(canceller, Off)
        reference.wanted = not self._untouched
        self.rate = SAMPLE_RATE if self._untouched else VOICE_RATE
        """Hz, of what goes to the encoder."""
        self._mixer = Mixer(int(self.rate * FRAME_S))
        self._decimator = Decimator(2)  # near and far
        self._half: tuple[bytes, bytes] | None = None  # the frame's first period and its far end
        self._served: CallAudio | None = None
        self._last_read = 0.0
        self._gap = True
        self._frame_at: float | None = None  # when the card had the last frame whole; None: not known
        self._rests = 0
        self.worker: StreamWorker[CaptureStream] = StreamWorker(
            "sound-capture",
            StreamHooks(
                wanted=lambda: self.call is not None,
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

    @property
    def echo_db(self) -> float | None:
        """How loud the loudspeaker comes back, dB over what was played, at most; None before it is known."""
        return self._canceller.echo_db

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
        call = self.call
        if call is not self._served:
            self._served, self._half, self._last_read = call, None, time.monotonic()
            self.ambient.reset()
        if self._half is None:
            self._sleep_until_frame()
        try:
            pcm = stream.read()
        except XrunError:
            # As much of the far end's sound went by unheard as of the near end's.
            self._reference.resync()
            self._gap = True
            self._frame_at = None
            raise
        far = b"" if self._untouched else self._reference.take()
        if call is None or call is not self.call:
            return  # hung up while we waited: not one more frame leaves
        self._keep_rtp_clock(call)
        if self._half is None:
            self._half = pcm, far
            return
        first, first_far = self._half
        self._half = None
        # Joining bytes is a fraction of what joining arrays costs.
        near = first + pcm if self._untouched else self._clean(b"".join((first, pcm, first_far, far)))
        self.ambient.take(near)
        if self.gain != 1.0:
            near = self._mixer.scale(samples_of(near), self.gain).tobytes()
        call.encode(near, FRAME_SAMPLES)
        if self._frame_at is None:
            self._frame_at = self._last_read

    def _clean(self, near_and_far: bytes) -> bytes:
        """Return the near end without echo, at 16 kHz."""
        both = self._decimator.process(near_and_far)
        return self._canceller.process(both[0], both[1]).tobytes()

    def _sleep_until_frame(self) -> None:
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

    def _keep_rtp_clock(self, call: CallAudio) -> None:
        """After an overrun or a new stream, skip what was lost, so that the peer's delay stays true."""
        now = time.monotonic()
        if self._gap:
            self._gap = False
            lost_s = now - self._last_read - PERIOD_MS * 1e-3
            call.skip(max(int(lost_s / FRAME_S), 0) * FRAME_SAMPLES)
        self._last_read = now
