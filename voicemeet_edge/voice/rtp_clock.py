"""The RTP clock of a call: where it stands after a pause, so that a gap on the wire is as long as it was.

One rule: while frames follow each other whoever makes them counts; this only says where to begin.
"""

from __future__ import annotations

from voicemeet_edge.voice.format import FRAME_S, FRAME_SAMPLES

GAP_FRAMES = 4  # a pause this long shows in the timestamps; below it is jitter of threads
MAX_GAP_FRAMES = 3_000  # a minute; beyond it the exact length tells the peer nothing


class RtpClock:
    """Remembers the last frame that was sent, and when."""

    def __init__(self) -> None:
        self.sent_at: float | None = None
        """Monotonic seconds; None before the first frame."""
        self._timestamp = -FRAME_SAMPLES

    def sent(self, timestamp: int, now: float) -> None:
        """Note a frame that leaves."""
        self._timestamp = timestamp
        self.sent_at = now

    def at(self, now: float) -> int:
        """Return the timestamp of a frame that would be sent now, after whatever pause (32 bits)."""
        gap = 1 if self.sent_at is None else round((now - self.sent_at) / FRAME_S)
        frames = 1 if gap < GAP_FRAMES else min(gap, MAX_GAP_FRAMES)
        return (self._timestamp + frames * FRAME_SAMPLES) & 0xFFFFFFFF
