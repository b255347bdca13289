"""What the engine needs of a codec, and the real one; the only place that joins audio/ to voice/.

One rule: an encoder lives in the capture thread alone; a playout is pulled by the playback thread and
pushed to by that thread or by the loop, and has to bear both.
"""

from __future__ import annotations

from typing import Protocol

from voicemeet_edge.settings import AudioSettings
from voicemeet_edge.voice.control import SendControl
from voicemeet_edge.voice.format import VOICE_RATE
from voicemeet_edge.voice.opus import CLEAN_BITRATE, OpusEncoder
from voicemeet_edge.voice.packet import RtpAudio
from voicemeet_edge.voice.playout import Playout, PlayoutStats
from voicemeet_edge.voice.red import RedPacker
from voicemeet_edge.voice.sender import VoiceSender


class Encoder(Protocol):
    """Turns sound into payloads, by what the line carries."""

    def encode(self, pcm: bytes, timestamp: int) -> tuple[bytes, int] | None:
        """Take 20 ms at its rate; returns a payload and its timestamp when there is enough for one."""

    def close(self) -> None:
        """Free it."""


class FixedRateSender:
    """Opus at the one bit rate of the settings, with in-band FEC as strong as the loss."""

    def __init__(
        self,
        control: SendControl,
        bitrate: int,
        complexity: int,
        red_payload_type: int | None = None,
        rate: int = VOICE_RATE,
    ) -> None:
        self._control = control
        self._percent = 0
        self._encoder = OpusEncoder(bitrate, complexity, fec=True, rate=rate)
        self._packer = None if red_payload_type is None else RedPacker(red_payload_type)

    def encode(self, pcm: bytes, timestamp: int) -> tuple[bytes, int]:
        """Encode one frame; as RED without copies where the other side was promised RED."""
        if self._control.chance_percent != self._percent:
            self._percent = self._control.chance_percent
            self._encoder.set_loss(self._percent)
        payload = self._encoder.encode(pcm)
        return (payload if self._packer is None else self._packer.pack(payload, timestamp)), timestamp

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

    def encoder(self, red_payload_type: int | None, control: SendControl, rate: int) -> Encoder:
        """Called in the capture thread."""

    def playout(self) -> PlayoutBuffer:
        """Called on the loop, when the call starts."""


class OpusCodec:
    """Opus with the sender and the adaptive playout of voice/."""

    def __init__(self, settings: AudioSettings) -> None:
        self._bitrate = settings.bitrate
        self._complexity = settings.complexity

    def encoder(self, red_payload_type: int | None, control: SendControl, rate: int) -> Encoder:
        """Return what sends as the line carries, or at a fixed rate when the settings name another one."""
        if self._bitrate != CLEAN_BITRATE:
            return FixedRateSender(control, self._bitrate, self._complexity, red_payload_type, rate)
        return VoiceSender(control, complexity=self._complexity, red_payload_type=red_payload_type, rate=rate)

    def playout(self) -> PlayoutBuffer:
        """Return an empty playout."""
        return Playout()
