"""What one call shares between the loop and the two sound threads.

One rule: each field has one writer (named in its docstring); deques and single assignments are safe
between threads, so nobody waits for a lock in the middle of a period.
"""

from __future__ import annotations

import secrets
import time
from collections import deque

from voicemeet_edge.audio.codec import Codec, Encoder, PlayoutBuffer
from voicemeet_edge.audio.mixer import Frame
from voicemeet_edge.audio.uplink import Uplink
from voicemeet_edge.voice.packet import RtpAudio

INBOX_LIMIT = 100  # packets (2 s); a playback thread that stood still longer has nothing to catch up with


class Line:
    """One call's sound."""

    def __init__(self, uplink: Uplink, codec: Codec) -> None:
        self.uplink = uplink
        self.loss_percent = 0
        """Written by the loop."""
        self.last_arrival = time.monotonic()
        """Written by the loop; moved on by the playback thread after a stall of the machine."""
        self.silent = False
        """The loop said PathSilent."""
        self.silence_asked = False
        """The playback thread asked the loop to look; cleared by the loop."""
        self.received = 0
        self.dropped = 0
        self.heard = False
        """Written by the playback thread: FirstAudioPlayed was said."""
        self._codec = codec
        self._inbox: deque[RtpAudio] = deque(maxlen=INBOX_LIMIT)
        self._playout: PlayoutBuffer | None = None
        self._encoder: Encoder | None = None
        self._told_loss = 0
        # RFC 3550 §5.1: the initial timestamp should be random.
        self._timestamp = secrets.randbits(32)

    # On the loop ------------------------------------------------------------------------------

    def receive(self, packet: RtpAudio) -> None:
        """Queue a packet for the playback thread."""
        self.received += 1
        if len(self._inbox) == INBOX_LIMIT:
            self.dropped += 1
        self._inbox.append(packet)

    # In the playback thread -------------------------------------------------------------------

    @property
    def playout(self) -> PlayoutBuffer | None:
        """The playout, once the playback thread has made it."""
        return self._playout

    def pull(self, now: float) -> Frame:
        """Return the next 10 ms of the peer."""
        if self._playout is None:
            self._playout = self._codec.playout()
        while self._inbox:
            packet = self._inbox.popleft()
            # Its own arrival, not ours: what it waited in this queue is not the network's jitter.
            self._playout.push(packet, packet.arrival)
        return self._playout.pull(now)

    # In the capture thread --------------------------------------------------------------------

    def skip(self, samples: int) -> None:
        """Let the RTP clock run on over sound that was lost before it could be encoded."""
        self._timestamp = (self._timestamp + samples) & 0xFFFFFFFF

    def encode(self, pcm: bytes, samples: int) -> None:
        """Encode one frame and hand it to the loop."""
        if self._encoder is None:
            self._encoder = self._codec.encoder()
        if self._told_loss != self.loss_percent:
            self._told_loss = self.loss_percent
            self._encoder.set_loss(self._told_loss)
        self.uplink.put(self._encoder.encode(pcm), self._timestamp)
        self.skip(samples)
