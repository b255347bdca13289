"""What the engine needs of a codec, and the real one; the only place that joins audio/ to voice/.

One rule: an encoder lives in the capture thread alone; a playout is pushed to by the loop and pulled by
the playback thread, and has to bear that.
"""

from __future__ import annotations

from typing import Protocol

from voicemeet_edge.audio.events import VoiceOptions
from voicemeet_edge.audio.mixer import Frame
from voicemeet_edge.voice.opus import CLEAN_BITRATE, OpusEncoder
from voicemeet_edge.voice.packet import RtpAudio
from voicemeet_edge.voice.playout import Playout, PlayoutStats

FRAME_SAMPLES = 960  # 20 ms: two periods make one Opus frame


class Encoder(Protocol):
    """Turns 20 ms of sound into one payload."""

    def encode(self, pcm: bytes) -> bytes:
        """Encode FRAME_SAMPLES samples."""

    def set_loss(self, percent: int) -> None:
        """Take the loss the peer reports."""

    def close(self) -> None:
        """Free it."""


class PlayoutBuffer(Protocol):
    """Turns received packets into a steady stream of periods."""

    stats: PlayoutStats

    def push(self, packet: RtpAudio, now: float) -> None:
        """Take a packet; from the loop."""

    def pull(self, now: float) -> Frame:
        """Return the next 10 ms; from the playback thread."""


class Codec(Protocol):
    """Makes both for one call."""

    def encoder(self) -> Encoder:
        """Called in the capture thread."""

    def playout(self) -> PlayoutBuffer:
        """Called on the loop, when the call starts."""


class OpusCodec:
    """Opus with the adaptive playout of voice/."""

    def __init__(self, options: VoiceOptions) -> None:
        self._bitrate = options.bitrate or CLEAN_BITRATE
        self._complexity = options.complexity
        # The first one loads libopus, 16 ms that the first call shall not wait for.
        Playout()

    def encoder(self) -> Encoder:
        """Return an encoder with FEC on; it appears in the packets once loss is reported."""
        return OpusEncoder(self._bitrate, self._complexity, fec=True)

    def playout(self) -> PlayoutBuffer:
        """Return an empty playout."""
        return Playout()
