"""The playback thread's work: playout, tones, volume, the far reference, loudspeaker.

One rule: what is written to the card was given to the echo canceller's queue just before. And what is to be
played is decided when the card has room for it (audio/pace.py), not a period before.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

from voicemeet_edge.audio.card import PlaybackStream, SoundCard
from voicemeet_edge.audio.events import EngineEvent, FirstAudioPlayed, SoundFailed, SoundRecovered
from voicemeet_edge.audio.line import Line
from voicemeet_edge.audio.mixer import Mixer
from voicemeet_edge.audio.pace import Pace
from voicemeet_edge.audio.reference import FarReference
from voicemeet_edge.audio.tones import TonePlayer
from voicemeet_edge.audio.worker import PacedSilence, StreamHooks, StreamWorker
from voicemeet_edge.errors import XrunError

LINGER_S = 0.5  # s of silence after the last sound: lets the card play out, and the next tone start at once
PATH_SILENT_S = 1.0  # s; 50 packets missing in a row is no loss burst any more
STALL_S = 0.3  # s between two periods: the machine stood still, and the peer's silence proves nothing
COMMAND_LIMIT = 32  # tones asked for and not yet seen; more is a bug, the oldest are forgotten


class PlaybackSide:
    """Everything between received packets and the loudspeaker."""

    def __init__(
        self,
        card: SoundCard,
        reference: FarReference,
        emit: Callable[[EngineEvent], None],
        ask_about_silence: Callable[[Line], None],
        *,
        real_time: bool,
    ) -> None:
        self.line: Line | None = None
        """Set by the loop."""
        self.gain = 1.0
        self.hold_until = 0.0
        """Monotonic time until which the card stays open with nothing to say."""
        self.commands: deque[Callable[[TonePlayer], None]] = deque(maxlen=COMMAND_LIMIT)
        """What the loop asks of the tone player, which belongs to this thread."""
        self.open = False
        self._reference = reference
        self._emit = emit
        self._ask_about_silence = ask_about_silence
        self._tones = TonePlayer()
        self._mixer = Mixer()
        self._pace = Pace()
        self._last_step = 0.0
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
        self._pace.lost()
        self.open = True

    def _closed(self) -> None:
        self.open = False

    def _wanted(self) -> bool:
        if self.commands:
            self._obey()
        if self.line is not None:
            return True  # and `stop_call` says when it ends
        now = time.monotonic()
        if self._tones.active:
            self.hold_until = max(self.hold_until, now + LINGER_S)
        return now < self.hold_until

    def _obey(self) -> None:
        while self.commands:
            self.commands.popleft()(self._tones)

    def _step(self, stream: PlaybackStream | PacedSilence) -> None:
        rest_s = self._pace.rest(time.monotonic())
        if rest_s > 0.0:
            time.sleep(rest_s)
        now = time.monotonic()
        line = self.line
        speech = None
        if line is not None:
            if line.poll is not None and line.playout.wants_packets():
                line.poll()
            speech = line.playout.pull_pcm(now, self.gain)
        tone = self._tones.next_frame() if self._tones.active else None
        pcm = self._mixer.mix(speech, tone, self.gain)
        self._reference.put(pcm)
        watched = self._pace.watched
        before = time.monotonic() if watched else 0.0
        try:
            stream.write(pcm)
        except XrunError:
            self.worker.xruns += 1
            self._pace.lost()
            stream.write(pcm)
        if watched:
            self._pace.wrote(before, time.monotonic())
        if line is not None:
            self._watch(line, now)

    def _watch(self, line: Line, now: float) -> None:
        """Notice the first sound of the peer, and a path that went dead."""
        stalled, self._last_step = now - self._last_step, now
        if not line.heard and line.playout.stats.decoded > 0:
            line.heard = True
            self._emit(FirstAudioPlayed(time.monotonic()))
        if stalled > STALL_S:
            line.last_arrival = min(line.last_arrival + stalled, now)
        if now - line.last_arrival >= PATH_SILENT_S and not line.silent and not line.silence_asked:
            line.silence_asked = True
            self._ask_about_silence(line)
