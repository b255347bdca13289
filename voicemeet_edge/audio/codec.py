"""What the engine needs of a codec, and the real one; the only place that joins audio/ to voice/.

One rule: an encoder lives in the capture thread alone; a playout is pulled by the playback thread and
pushed to by that thread or by the loop, and has to bear both.
"""

from __future__ import annotations

from typing import Protocol

from voicemeet_edge.audio.events import VoiceOptions
from voicemeet_edge.voice.opus import CLEAN_BITRATE, OpusEncoder
from voicemeet_edge.voice.packet import RtpAudio
from voicemeet_edge.voice.playout import Playout, PlayoutStats
from voicemeet_edge.voice.red import RedPacker
from voicemeet_edge.voice.sender import VoiceSender

FRAME_SAMPLES = 960  # 20 ms: two periods make one Opus frame


class Encoder(Protocol):
    """Turns 20 ms of sound into one payload, by the loss the peer reports."""

    def encode(self, pcm: bytes, timestamp: int) -> bytes:
        """Encode FRAME_SAMPLES samples."""

    def report_loss(self, fraction: float) -> None:
        """Take the loss of one receiver report, 0..1."""

    def close(self) -> None:
        """Free it."""


class FixedRateSender:
    """Opus at the one bit rate of the settings, with in-band FEC as strong as the loss."""

    def __init__(self, bitrate: int, complexity: int, red_payload_type: int | None = None) -> None:
        self._encoder = OpusEncoder(bitrate, complexity, fec=True)
        self._packer = None if red_payload_type is None else RedPacker(red_payload_type)

    def encode(self, pcm: bytes, timestamp: int) -> bytes:
        """Encode one frame; as RED without copies where the other side was promised RED."""
        payload = self._encoder.encode(pcm)
        return payload if self._packer is None else self._packer.pack(payload, timestamp)

    def report_loss(self, fraction: float) -> None:
        """Take the loss of one receiver report, 0..1."""
        self._encoder.set_loss(round(100.0 * fraction))

    def close(self) -> None:
        """Free the encoder."""
        self._encoder.close()


class PlayoutBuffer(Protocol):
    """Turns received packets into a steady stream of periods."""

    @property
    def stats(self) -> PlayoutStats:
        """What was decided so far; from any thread."""

    def push(self, packet: RtpAudio, now: float) -> None:
        """Take a packet; from the loop."""

    def wants_packets(self) -> bool:
        """Say whether the coming pull can use packets; those that then lie there come with the next."""

    def pull_pcm(self, now: float, gain: float) -> bytes:
        """Return the next 10 ms as s16le, so loud; from the playback thread."""


class Codec(Protocol):
    """Makes both for one call."""

    def encoder(self, red_payload_type: int | None) -> Encoder:
        """Called in the capture thread."""

    def playout(self) -> PlayoutBuffer:
        """Called on the loop, when the call starts."""


class OpusCodec:
    """Opus with the sender and the adaptive playout of voice/."""

    def __init__(self, options: VoiceOptions) -> None:
        self._bitrate = options.bitrate
        self._complexity = options.complexity
        # The first one loads libopus, 16 ms that the first call shall not wait for.
        Playout()

    def encoder(self, red_payload_type: int | None) -> Encoder:
        """Return what sends by the loss reports, or at a fixed rate when the settings name another one."""
        if self._bitrate is not None and self._bitrate != CLEAN_BITRATE:
            return FixedRateSender(self._bitrate, self._complexity, red_payload_type)
        return VoiceSender(complexity=self._complexity, red_payload_type=red_payload_type)

    def playout(self) -> PlayoutBuffer:
        """Return an empty playout."""
        return Playout()
