"""The playback thread's work: playout, tones, volume, the far reference, loudspeaker.

One rule: what is written to the card was given to the echo canceller's queue just before. And what is to be
played is decided when the card has room for it (audio/playback_clock.py), not a period before: but for the
second half of a frame, about which nothing new can come.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

from voicemeet_edge.audio.call_audio import CallAudio
from voicemeet_edge.audio.card import PlaybackStream, SoundCard
from voicemeet_edge.audio.echo_reference import EchoReference
from voicemeet_edge.audio.events import (
    EngineEvent,
    FirstAudioPlayed,
    PlaybackOpened,
    SoundFailed,
    SoundRecovered,
)
from voicemeet_edge.audio.mixer import Mixer
from voicemeet_edge.audio.playback_clock import PlaybackClock
from voicemeet_edge.audio.tones import TonePlayer
from voicemeet_edge.audio.worker import PacedSilence, StreamHooks, StreamWorker
from voicemeet_edge.errors import XrunError
from voicemeet_edge.voice.format import PERIOD_S

LINGER_S = 0.5  # s of silence after the last sound: lets the card play out, and the next tone start at once
LEAN_PERIODS = 3  # a card that holds so many can wait for two at a time
COMMAND_LIMIT = 32  # tones asked for and not yet seen; more is a bug, the oldest are forgotten


class PlaybackThread:
    """Everything between received packets and the loudspeaker."""

    def __init__(
        self,
        card: SoundCard,
        reference: EchoReference,
        emit: Callable[[EngineEvent], None],
        *,
        real_time: bool,
    ) -> None:
        self.call: CallAudio | None = None
        """Set by the loop."""
        self.gain = 1.0
        self.hold_until = 0.0
        """Monotonic time until which the card stays open with nothing to say."""
        self.commands: deque[Callable[[TonePlayer], None]] = deque(maxlen=COMMAND_LIMIT)
        """What the loop asks of the tone player, which belongs to this thread."""
        self.open = False
        self._reference = reference
        self._emit = emit
        self._tones = TonePlayer()
        self._mixer = Mixer()
        self._clock = PlaybackClock()
        self.worker: StreamWorker[PlaybackStream] = StreamWorker(
            "sound-playback",
            StreamHooks(
                wanted=self._wanted,
                open=card.open_playback,
                step=self._step,
                opening=lambda: None,
                opened=self._opened,
                closed=self._closed,
                failed=lambda error: emit(SoundFailed(error, capture=False)),
                recovered=lambda: emit(SoundRecovered(capture=False)),
            ),
            real_time=real_time,
        )

    def _opened(self) -> None:
        self._clock.lost()
        self.open = True
        self._emit(PlaybackOpened())

    def _closed(self) -> None:
        self.open = False

    def _wanted(self) -> bool:
        if self.commands:
            self._apply_requests()
        if self.call is not None:
            return True  # and `stop_call` says when it ends
        now = time.monotonic()
        if self._tones.active:
            self.hold_until = max(self.hold_until, now + LINGER_S)
        return now < self.hold_until

    def _apply_requests(self) -> None:
        while self.commands:
            self.commands.popleft()(self._tones)

    def _step(self, stream: PlaybackStream | PacedSilence) -> None:
        call, clock = self.call, self._clock
        lean = stream.periods >= LEAN_PERIODS
        rest_s = clock.rest(time.monotonic(), lean=lean)
        if rest_s > 0.0:
            time.sleep(rest_s)
        now = time.monotonic()
        if call is not None and call.playout.wants_packets():
            for packet in call.link.receive():
                call.receive(packet, now)
        self._put(stream, call, now, fills=not (lean and clock.is_known))
        if lean and (call is None or not call.playout.wants_packets()):
            # The rest of a frame that was decoded: a packet that came meanwhile would change nothing of it.
            clock.another()
            self._put(stream, call, now + PERIOD_S, fills=True)
        if call is not None and not call.heard and call.playout.stats.decoded > 0:
            call.heard = True
            self._emit(FirstAudioPlayed(time.monotonic()))

    def _put(
        self, stream: PlaybackStream | PacedSilence, call: CallAudio | None, now: float, *, fills: bool
    ) -> None:
        """Play one period; `fills`: then there should be no more room."""
        speech = call.playout.pull_pcm(now, self.gain) if call is not None else None
        tone = self._tones.next_frame() if self._tones.active else None
        pcm = self._mixer.mix(speech, tone, self.gain)
        self._reference.put(pcm)
        watched = fills and self._clock.watched
        before = time.monotonic() if watched else 0.0
        try:
            stream.write(pcm)
        except XrunError:
            self.worker.xruns += 1
            stream.write(pcm)
            self._clock.full(time.monotonic())
            return
        if watched:
            self._clock.wrote(before, time.monotonic())
