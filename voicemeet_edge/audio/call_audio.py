"""What one call shares between the loop and the two sound threads.

One rule: each field has one writer (named in its docstring); deques and single assignments are safe
between threads, so nobody waits for a lock in the middle of a period.
"""

from __future__ import annotations

import asyncio
import time

from voicemeet_edge.audio.codec import Codec, Encoder
from voicemeet_edge.audio.frame_sender import FrameSender
from voicemeet_edge.voice.format import VOICE_RATE
from voicemeet_edge.voice.packet import RtpAudio, VoiceLink


class CallAudio:
    """One call's sound."""

    def __init__(
        self,
        link: VoiceLink,
        codec: Codec,
        loop: asyncio.AbstractEventLoop,
        rate: int = VOICE_RATE,
    ) -> None:
        """Prepare; `rate` in Hz is that of the sound to encode."""
        self.link = link
        """Asked by the playback thread for packets before it needs sound."""
        self._control = link.control
        self._red_payload_type = link.red_payload_type
        self.sender = FrameSender(loop, link, red=self._red_payload_type is not None)
        self.received = 0
        """Written by whoever receives: the playback thread, or the loop while nobody polls."""
        self.heard = False
        """Written by the playback thread: FirstAudioPlayed was said."""
        self.playout = codec.playout()
        """Pushed to by whoever receives, pulled by the playback thread; it is made for that."""
        self._codec = codec
        self._rate = rate
        self._encoder: Encoder | None = None
        self._timestamp = 0  # the RTP clock of this call, counted with the samples

    def receive(self, packet: RtpAudio, now: float) -> None:
        """Hand a packet to the playout; in the playback thread, or on the loop when that was not asked."""
        self.received += 1
        self.playout.push(packet, now)

    def skip(self, samples: int) -> None:
        """Let the RTP clock run on over sound that was lost; in the capture thread."""
        self._timestamp = (self._timestamp + samples) & 0xFFFFFFFF

    def encode(self, pcm: bytes, samples: int) -> None:
        """Encode one frame, which took `samples` of the RTP clock, and send it; in the capture thread."""
        if self._encoder is None:
            self._encoder = self._codec.encoder(self._red_payload_type, self._control, self._rate)
            self._timestamp = self.link.next_timestamp()
        packet = self._encoder.encode(pcm, self._timestamp)
        self.skip(samples)
        if packet is None:
            return
        self.sender.put(*packet)
        if self._control.wants_pair(time.monotonic()):
            self.sender.put(*packet)  # how far apart the two come tells how fast the line is
