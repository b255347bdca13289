"""One received RTP audio packet, as the seam hands it to the playout."""

from __future__ import annotations

from typing import NamedTuple


class RtpAudio(NamedTuple):
    """A decrypted RTP packet that carries Opus (RFC 3550 §5.1, RFC 7587)."""

    sequence: int
    """16 bits, wraps."""
    timestamp: int
    """32 bits, 48 kHz, wraps."""
    ssrc: int
    """A new one means the sender started afresh."""
    payload: bytes
    """One Opus packet, or several in RFC 2198 wrapping when `red` says so."""
    arrival: float
    """Seconds, monotonic."""
    red: bool = False
    """The payload type was the negotiated audio/red one: `payload` is for voice/red.py."""
