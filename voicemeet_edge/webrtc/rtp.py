"""RTP headers and receiver statistics: pure, and a malformed packet is `None`, never an error."""

from __future__ import annotations

import struct
from typing import NamedTuple

CLOCK_HZ = 48000  # RFC 7587 §4.1: Opus always counts at 48 kHz
HEADER = struct.Struct("!BBHLL")
HEADER_BYTES = HEADER.size
VERSION_2 = 0x80
MAX_MISORDER = 3000  # RFC 3550 A.1: a larger jump is a new stream, not 62,000 lost packets


class RtpHeader(NamedTuple):
    """The fields of RFC 3550 §5.1 we use, and where the payload lies; a tuple, for one is made per packet."""

    payload_type: int
    sequence: int
    timestamp: int
    ssrc: int
    start: int
    end: int


def pack_rtp(
    payload_type: int, sequence: int, timestamp: int, ssrc: int, payload: bytes, *, marker: bool
) -> bytes:
    """Return a packet without extensions, CSRCs or padding: nothing but what RTP needs."""
    return (
        HEADER.pack(VERSION_2, payload_type | (0x80 if marker else 0), sequence, timestamp & 0xFFFFFFFF, ssrc)
        + payload
    )


def parse_rtp(data: bytes) -> RtpHeader | None:
    """Read an RTP header (RFC 3550 §5.1, extensions skipped as RFC 8285 allows); None when malformed."""
    length = len(data)
    if length < HEADER_BYTES:
        return None
    flags, marker_and_type, sequence, timestamp, ssrc = HEADER.unpack_from(data)
    if flags >> 6 != 2:
        return None
    start = HEADER_BYTES + 4 * (flags & 0x0F)
    end = length
    if flags & 0x10:
        if length < start + 4:
            return None
        start += 4 + 4 * int.from_bytes(data[start + 2 : start + 4], "big")
    if flags & 0x20:
        if not data[-1]:
            return None
        end -= data[-1]
    if start > end:
        return None
    return RtpHeader(marker_and_type & 0x7F, sequence, timestamp, ssrc, start, end)


def is_rtcp(data: bytes) -> bool:
    """Tell RTCP from RTP on one port (RFC 5761 §4)."""
    return len(data) >= 2 and 192 <= data[1] <= 223


class ReceiverStatistics:
    """What a receiver report says about one SSRC (RFC 3550 §6.4.1, appendices A.3 and A.8)."""

    def __init__(self) -> None:
        self.received = 0
        self.last_fraction = 0
        self._base = 0
        self._highest = -1  # extended by the number of wraps
        self._expected_before = 0
        self._received_before = 0
        self._jitter = 0.0  # in timestamp units
        self._transit: float | None = None

    def add(self, sequence: int, timestamp: int, arrival: float) -> None:
        """Count one packet."""
        if self._highest < 0:
            self._base = self._highest = sequence
        else:
            ahead = (sequence - self._highest + 0x8000 & 0xFFFF) - 0x8000
            if abs(ahead) > MAX_MISORDER:
                # The sender jumped (restart, or an outage of a minute): its silence is not our loss.
                self._restart(sequence)
            elif ahead > 0:
                self._highest += ahead
            elif self._highest + ahead < self._base:
                self._base = self._highest + ahead
        self.received += 1
        transit = arrival * CLOCK_HZ - timestamp
        if self._transit is not None:
            # The difference of two transits, folded to 32 bits: timestamps wrap every 24.8 hours.
            difference = abs((transit - self._transit + 2**31) % 2**32 - 2**31)
            self._jitter += (min(difference, CLOCK_HZ) - self._jitter) / 16
        self._transit = transit

    def _restart(self, sequence: int) -> None:
        self._base = self._highest = sequence
        self.received = 0
        self._expected_before = self._received_before = 0
        self._transit = None

    @property
    def highest(self) -> int:
        """Extended highest sequence number received, 32 bits."""
        return self._highest & 0xFFFFFFFF

    @property
    def expected(self) -> int:
        """Packets that should have come, from the first to the highest."""
        return self._highest - self._base + 1 if self._highest >= 0 else 0

    @property
    def lost(self) -> int:
        """Cumulative loss, clamped to 24 signed bits; negative when packets came twice."""
        return max(-0x800000, min(self.expected - self.received, 0x7FFFFF))

    @property
    def jitter_ticks(self) -> int:
        """Interarrival jitter in timestamp units."""
        return int(self._jitter)

    @property
    def jitter_s(self) -> float:
        """Interarrival jitter in seconds."""
        return self._jitter / CLOCK_HZ

    def take_fraction(self) -> int:
        """Return the loss since the last call as a fraction of 256 and begin a new interval."""
        expected, received = self.expected, self.received
        due = expected - self._expected_before
        missing = due - (received - self._received_before)
        self._expected_before, self._received_before = expected, received
        self.last_fraction = min(255, (missing << 8) // due) if due > 0 and missing > 0 else 0
        return self.last_fraction
