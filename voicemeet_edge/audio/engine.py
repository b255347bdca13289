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

from voicemeet_edge.audio.call_audio import CallAudio
from voicemeet_edge.audio.capture import CaptureThread
from voicemeet_edge.audio.card import SoundCard
from voicemeet_edge.audio.codec import Codec, OpusCodec
from voicemeet_edge.audio.echo_reference import EchoReference
from voicemeet_edge.audio.events import EngineEvent, EngineStats
from voicemeet_edge.audio.mixer import db_to_gain, volume_gain
from voicemeet_edge.audio.playback import PlaybackThread
from voicemeet_edge.call.signs import Tone
from voicemeet_edge.settings import AudioSettings
from voicemeet_edge.voice.echo import choose
from voicemeet_edge.voice.format import SAMPLE_RATE
from voicemeet_edge.voice.packet import RtpAudio, VoiceLink

logger = logging.getLogger(__name__)

CLOSE_TIMEOUT_S = 2.0  # s; a thread that hangs in a driver longer than this is left behind
TRY_S = 0.2  # s; two periods and the time to open
PREPARE_S = 60.0  # s; a loudspeaker opened early for a call that never comes is closed again
MAX_WORDS_S = 30  # s; nothing this device says is longer


class VoiceEngine:
    """Own the two sound threads, the call's encoder and playout, the tones and the echo canceller."""

    def __init__(
        self,
        card: SoundCard,
        settings: AudioSettings,
        *,
        loop: asyncio.AbstractEventLoop,
        on_event: Callable[[EngineEvent], None],
        codec: Codec | None = None,
        real_time: bool = True,
    ) -> None:
        self._loop = loop
        self._on_event = on_event
        self._codec = codec if codec is not None else OpusCodec(settings)
        self._call: CallAudio | None = None
        self._closed = False
        self._past = EngineStats()
        self._reference = EchoReference()
        canceller = choose("half_duplex" if settings.half_duplex else settings.echo)
        logger.info("echo canceller: %s", canceller.name)
        self._capture = CaptureThread(card, canceller, self._reference, self._emit, real_time=real_time)
        self._playback = PlaybackThread(card, self._reference, self._emit, real_time=real_time)
        self.set_volume(settings.volume)
        self._capture.gain = db_to_gain(settings.microphone_gain_db)

    # Tones ------------------------------------------------------------------------------------

    def play(self, tone: Tone, *, repeat: bool = False) -> None:
        """Play a tone after those already asked for; opens the loudspeaker when needed.

        Every tone but the click of a button ends the repeating one.
        """
        self._tell_tones(lambda player: player.play(tone, repeat=repeat))

    def play_samples(self, samples: npt.NDArray[np.int16]) -> None:
        """Say something: 48 kHz mono samples, over the speech of the other side."""
        if len(samples) > MAX_WORDS_S * SAMPLE_RATE:
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

    def try_playback(self) -> None:
        """Open the loudspeaker for a moment: `PlaybackOpened` or `SoundFailed` says what came of it."""
        if not self._closed:
            self._playback.hold_until = max(self._playback.hold_until, time.monotonic() + TRY_S)
            self._playback.worker.wake()

    def start_call(self, link: VoiceLink) -> None:
        """Open both directions, each in its thread; every 20 ms a frame goes out by `link.send`.

        In the capture thread while the link allows it, else on the loop. The playback thread asks
        `link.receive` for packets when it needs sound; what comes otherwise is given to `receive` here.
        """
        if self._closed:
            return
        self.stop_call()
        self._call = CallAudio(link, self._codec, self._loop, self._capture.rate)
        self._playback.call = self._call
        self._capture.call = self._call
        self._playback.worker.wake()
        self._capture.worker.wake()

    def start_listening(self, link: VoiceLink) -> None:
        """Open the loudspeaker alone: what comes is heard, the microphone stays closed."""
        if self._closed:
            return
        self.stop_call()
        self._call = CallAudio(link, self._codec, self._loop)
        self._playback.call = self._call
        self._playback.worker.wake()

    def receive(self, packet: RtpAudio) -> None:
        """Take a decrypted packet that came on the loop; dropped when there is no call."""
        call = self._call
        if call is None:
            return
        call.receive(packet, time.monotonic())

    def stop_call(self) -> None:
        """Send nothing more from now on and close the microphone; tones play to their end."""
        self._playback.hold_until = 0.0
        call, self._call = self._call, None
        self._capture.call = self._playback.call = None
        if call is not None:
            call.sender.stop()
            self._past = self._with_call(self._past, call)

    def set_volume(self, percent: float) -> None:
        """Set the loudness of everything, 0..100."""
        self.volume = percent
        self._boost_db = 0.0
        self._playback.gain = volume_gain(percent)

    def follow_noise(self) -> None:
        """In a call, be as much louder as it is loud at the microphone; else as loud as was set."""
        self._boost_db = self._capture.ambient.boost_db if self._call is not None else 0.0
        self._playback.gain = min(1.0, volume_gain(self.volume) * db_to_gain(self._boost_db))

    def set_microphone_gain(self, gain_db: float) -> None:
        """Amplify the microphone after the echo canceller, with saturation."""
        self._capture.gain = db_to_gain(gain_db)

    @property
    def capture_open(self) -> bool:
        """Whether the microphone's stream is open, or may already be."""
        return self._capture.open

    @property
    def playback_open(self) -> bool:
        """Whether the loudspeaker's stream is open."""
        return self._playback.open

    @property
    def capture_alive_at(self) -> float | None:
        """When the capture thread last served a period (monotonic); None while no microphone is wanted."""
        return self._capture.worker.alive_at

    @property
    def playback_alive_at(self) -> float | None:
        """When the playback thread last served a period (monotonic); None while nothing is to be played."""
        return self._playback.worker.alive_at

    def stats(self) -> EngineStats:
        """Return the counters."""
        counted = self._with_call(self._past, self._call) if self._call is not None else self._past
        capture, playback = self._capture.worker, self._playback.worker
        return replace(
            counted,
            capture_xruns=capture.xruns,
            playback_xruns=playback.xruns,
            sound_losses=capture.losses + playback.losses,
            thread_errors=capture.errors + playback.errors,
            ambient_db=self._capture.ambient.level_db,
            echo_db=self._capture.echo_db,
            noise_boost_db=self._boost_db,
            reference_gaps=self._reference.gaps,
            reference_slips=self._reference.slips,
        )

    @staticmethod
    def _with_call(stats: EngineStats, call: CallAudio) -> EngineStats:
        return replace(
            stats,
            frames_sent=stats.frames_sent + call.sender.sent,
            frames_dropped=stats.frames_dropped + call.sender.dropped,
            packets_received=stats.packets_received + call.received,
            playout=call.playout.stats,
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
