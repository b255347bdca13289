"""What one call shares between the loop and the two sound threads.

One rule: each field has one writer (named in its docstring); deques and single assignments are safe
between threads, so nobody waits for a lock in the middle of a period.
"""

from __future__ import annotations

import secrets
import time
from collections import deque
from collections.abc import Callable

from voicemeet_edge.audio.codec import Codec, Encoder
from voicemeet_edge.audio.uplink import Uplink
from voicemeet_edge.voice.packet import RtpAudio

REPORT_LIMIT = 8  # loss reports; one comes a second, and the capture thread looks fifty times as often


class Line:
    """One call's sound."""

    def __init__(
        self,
        uplink: Uplink,
        codec: Codec,
        red_payload_type: int | None = None,
        poll: Callable[[], None] | None = None,
    ) -> None:
        self.uplink = uplink
        self.poll = poll
        """Called by the playback thread before it needs sound."""
        self.loss_reports: deque[float] = deque(maxlen=REPORT_LIMIT)
        """Put in by the loop, taken out by the capture thread."""
        self.last_arrival = time.monotonic()
        """Written by whoever receives; moved on by the playback thread after a stall of the machine."""
        self.silent = False
        """The loop said PathSilent."""
        self.silence_asked = False
        """The playback thread asked the loop to look; cleared by the loop."""
        self.received = 0
        self.heard = False
        """Written by the playback thread: FirstAudioPlayed was said."""
        self.playout = codec.playout()
        """Pushed to by whoever receives, pulled by the playback thread; it is made for that."""
        self._codec = codec
        self._encoder: Encoder | None = None
        self._red_payload_type = red_payload_type
        # RFC 3550 §5.1: the initial timestamp should be random.
        self._timestamp = secrets.randbits(32)

    def receive(self, packet: RtpAudio, now: float) -> None:
        """Hand a packet to the playout; on the loop or in the playback thread."""
        self.received += 1
        self.last_arrival = now
        self.playout.push(packet, now)

    def skip(self, samples: int) -> None:
        """Let the RTP clock run on over sound that was lost; in the capture thread."""
        self._timestamp = (self._timestamp + samples) & 0xFFFFFFFF

    def encode(self, pcm: bytes, samples: int) -> None:
        """Encode one frame and send it; in the capture thread."""
        if self._encoder is None:
            self._encoder = self._codec.encoder(self._red_payload_type)
        while self.loss_reports:
            self._encoder.report_loss(self.loss_reports.popleft())
        self.uplink.put(self._encoder.encode(pcm, self._timestamp), self._timestamp)
        self.skip(samples)
