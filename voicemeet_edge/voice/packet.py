"""What sound and network share: one received packet, and the one door for voice between them."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from voicemeet_edge.voice.control import SendControl


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


class VoiceLink(Protocol):
    """The one door for voice to the other side and back, for as long as a call lasts.

    There is one RTP clock: who sends counts it, and what is said here is what stands on the wire (but for a
    constant each connection adds, RFC 3550 §5.1).
    """

    @property
    def control(self) -> SendControl:
        """What this link carries, and how to send by it."""

    @property
    def red_payload_type(self) -> int | None:
        """What Opus is called inside RFC 2198 payloads; None when the other side does not take them."""

    @property
    def sends_in_any_thread(self) -> bool:
        """Whether `send` may be called from any thread now: not over TCP and TLS."""

    def next_timestamp(self) -> int:
        """Return where the clock stands now: a stream that begins goes on from here (32 bits)."""

    def send(self, payload: bytes, timestamp: int, *, red: bool = False) -> None:
        """Send one payload, Opus or (`red`) RFC 2198; dropped while there is no connection."""

    def receive(self) -> list[RtpAudio]:
        """Return what has come; from one thread, right before it needs sound. Never blocks."""
