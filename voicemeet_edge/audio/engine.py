"""The voice engine: everything between the sound card and the network, as the loop sees it.

One rule: no method here waits. Cards are opened, read, written and closed by two threads
(audio/capture.py, audio/playback.py); the loop only sets what they shall do, and is told by events.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from voicemeet_edge.audio.capture import CaptureSide
from voicemeet_edge.audio.card import SoundCard
from voicemeet_edge.audio.codec import Codec, OpusCodec
from voicemeet_edge.audio.events import (
    CaptureClosed,
    CaptureOpened,
    EngineEvent,
    EngineStats,
    FirstAudioPlayed,
    PathBack,
    PathSilent,
    SoundFailed,
    SoundRecovered,
    VoiceOptions,
)
from voicemeet_edge.audio.line import Line
from voicemeet_edge.audio.mixer import db_to_gain, volume_gain
from voicemeet_edge.audio.playback import PATH_SILENT_S, PlaybackSide
from voicemeet_edge.audio.reference import FarReference
from voicemeet_edge.audio.uplink import Uplink
from voicemeet_edge.call.signs import Tone
from voicemeet_edge.voice.echo import choose
from voicemeet_edge.voice.packet import RtpAudio

__all__ = [
    "CaptureClosed",
    "CaptureOpened",
    "EngineEvent",
    "EngineStats",
    "FirstAudioPlayed",
    "PathBack",
    "PathSilent",
    "SoundFailed",
    "SoundRecovered",
    "VoiceEngine",
    "VoiceOptions",
]

logger = logging.getLogger(__name__)

CLOSE_TIMEOUT_S = 2.0  # s; a thread that hangs in a driver longer than this is left behind
PREPARE_S = 60.0  # s; a loudspeaker opened early for a call that never comes is closed again
MAX_WORDS_S = 30  # s; nothing this device says is longer
LOOP_TURNS = 2  # after that many turns of the loop, what waited in the sockets has been received


class VoiceEngine:
    """Own the two sound threads, the call's encoder and playout, the tones and the echo canceller."""

    def __init__(
        self,
        card: SoundCard,
        options: VoiceOptions,
        *,
        loop: asyncio.AbstractEventLoop,
        on_event: Callable[[EngineEvent], None],
        codec: Codec | None = None,
    ) -> None:
        self._loop = loop
        self._on_event = on_event
        self._codec = codec if codec is not None else OpusCodec(options)
        self._line: Line | None = None
        self._closed = False
        self._past = EngineStats()
        self._reference = FarReference()
        canceller = choose("half_duplex" if options.half_duplex else options.echo)
        logger.info("echo canceller: %s", canceller.name)
        self._capture = CaptureSide(card, canceller, self._reference, self._emit, real_time=options.real_time)
        self._playback = PlaybackSide(
            card, self._reference, self._emit, self._ask_about_silence, real_time=options.real_time
        )
        self.set_volume(options.volume_percent)
        self._capture.gain = db_to_gain(options.microphone_gain_db)

    # Tones ------------------------------------------------------------------------------------

    def play(self, tone: Tone, *, repeat: bool = False) -> None:
        """Play a tone after those already asked for; opens the loudspeaker when needed.

        Every tone but the click of a button ends the repeating one.
        """
        self._tell_tones(lambda player: player.play(tone, repeat=repeat))

    def play_samples(self, samples: npt.NDArray[np.int16]) -> None:
        """Say something: 48 kHz mono samples, over the speech of the other side."""
        if len(samples) > MAX_WORDS_S * 48_000:
            raise ValueError(f"more than {MAX_WORDS_S} s to say")
        self._tell_tones(lambda player: player.play_samples(samples))

    def stop_tone(self) -> None:
        """End the repeating tone and those that wait; the one that sounds ends by itself."""
        self._tell_tones(lambda player: player.stop())

    def _tell_tones(self, command: Callable[..., None]) -> None:
        if not self._closed:
            self._playback.commands.append(command)
            self._playback.worker.wake()

    # Calls ------------------------------------------------------------------------------------

    def prepare(self) -> None:
        """Open the loudspeaker early and have both threads ready; the microphone stays closed."""
        if self._closed:
            return
        self._playback.hold_until = time.monotonic() + PREPARE_S
        self._playback.worker.wake()
        self._capture.worker.wake()

    def start_call(
        self,
        send: Callable[[bytes, int], None],
        *,
        red_payload_type: int | None = None,
        any_thread: Callable[[], bool] | None = None,
        poll: Callable[[], None] | None = None,
    ) -> None:
        """Open both directions, each in its thread; every 20 ms `send(payload, timestamp)`.

        Args:
            send: called on the loop, or while `any_thread()` is true in the capture thread.
            red_payload_type: Opus' own (see `VoiceSender`); then every payload is an audio/red one.
            any_thread: whether `send` may be called in the capture thread just now.
            poll: called in the playback thread when sound is needed; may call `receive` with what came.
        """
        if self._closed:
            return
        self.stop_call()
        self._line = Line(Uplink(self._loop, send, any_thread), self._codec, red_payload_type, poll)
        self._playback.line = self._line
        self._capture.line = self._line
        self._playback.worker.wake()
        self._capture.worker.wake()

    def receive(self, packet: RtpAudio) -> None:
        """Take a decrypted packet, on the loop or from `poll`; dropped when there is no call."""
        line = self._line
        if line is None:
            return
        now = time.monotonic()
        silence_s = now - line.last_arrival
        line.receive(packet, now)
        if line.silent:
            line.silent = False
            self._emit(PathBack(silence_s))

    def stop_call(self) -> None:
        """Send nothing more from now on and close the microphone; tones play to their end."""
        self._playback.hold_until = 0.0
        line, self._line = self._line, None
        self._capture.line = self._playback.line = None
        if line is not None:
            line.uplink.stop()
            self._past = self._with_line(self._past, line)

    def set_loss(self, fraction: float) -> None:
        """Take the loss of one receiver report of the peer, 0..1; call it once for each report."""
        if self._line is not None:
            self._line.loss_reports.append(min(max(fraction, 0.0), 1.0))

    def set_volume(self, percent: float) -> None:
        """Set the loudness of everything, 0..100."""
        self._playback.gain = volume_gain(percent)

    def set_muted(self, muted: bool) -> None:
        """Send silence instead of the microphone; packets and their sizes stay the same."""
        self._capture.muted = muted

    @property
    def muted(self) -> bool:
        """Whether silence is sent."""
        return self._capture.muted

    @property
    def capture_open(self) -> bool:
        """Whether the microphone's stream is open, or may already be."""
        return self._capture.open

    @property
    def playback_open(self) -> bool:
        """Whether the loudspeaker's stream is open."""
        return self._playback.open

    def stats(self) -> EngineStats:
        """Return the counters."""
        counted = self._with_line(self._past, self._line) if self._line is not None else self._past
        capture, playback = self._capture.worker, self._playback.worker
        return replace(
            counted,
            capture_xruns=capture.xruns,
            playback_xruns=playback.xruns,
            sound_losses=capture.losses + playback.losses,
            thread_errors=capture.errors + playback.errors,
            reference_gaps=self._reference.gaps,
            reference_slips=self._reference.slips,
        )

    @staticmethod
    def _with_line(stats: EngineStats, line: Line) -> EngineStats:
        return replace(
            stats,
            frames_sent=stats.frames_sent + line.uplink.sent,
            frames_dropped=stats.frames_dropped + line.uplink.dropped,
            packets_received=stats.packets_received + line.received,
            playout=line.playout.stats,
        )

    async def close(self) -> None:
        """End the call and both threads; waits for them, with a limit. Idempotent."""
        self.stop_call()
        self._closed = True
        ended = await asyncio.gather(
            asyncio.to_thread(self._capture.worker.close, CLOSE_TIMEOUT_S),
            asyncio.to_thread(self._playback.worker.close, CLOSE_TIMEOUT_S),
        )
        if not all(ended):
            logger.error("a sound thread hangs in its driver and is left behind")

    # From the threads -------------------------------------------------------------------------

    def _emit(self, event: EngineEvent) -> None:
        try:
            self._loop.call_soon_threadsafe(self._on_event, event)
        except RuntimeError:  # the loop is closed: nobody is left to be told
            logger.debug("an event came after the loop's end")

    def _ask_about_silence(self, line: Line) -> None:
        try:
            self._loop.call_soon_threadsafe(self._confirm_silence, line, LOOP_TURNS)
        except RuntimeError:
            logger.debug("an event came after the loop's end")

    def _confirm_silence(self, line: Line, turns: int) -> None:
        """Say PathSilent only when it was the network that was silent, and not the loop that was busy."""
        if turns > 0:
            self._loop.call_soon(self._confirm_silence, line, turns - 1)
            return
        line.silence_asked = False
        silence_s = time.monotonic() - line.last_arrival
        if line is self._line and silence_s >= PATH_SILENT_S:
            line.silent = True
            self._on_event(PathSilent(silence_s))
