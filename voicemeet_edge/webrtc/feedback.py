"""What arrived, packet by packet: congestion control feedback in RTCP (RFC 8888), both ways of it.

Reduced-size RTCP (RFC 5506), one stream, in a fixed rhythm: its size and its times tell what the line did
and nothing of what was said. The one rule: a malformed report is None, and never more than MAX_PACKETS.
"""

from __future__ import annotations

import struct
from collections import deque
from math import inf
from typing import NamedTuple

from voicemeet_edge.voice.control import SendControl
from voicemeet_edge.voice.delays import PacketFate
from voicemeet_edge.webrtc.rtp import RtpHeader

RTPFB = 205  # transport layer feedback (RFC 4585 §6.1)
CCFB = 11  # its format (RFC 8888 §3.1)
HEADER = struct.Struct("!BBHLLHH")  # up to and with begin_seq and num_reports
ENTRY = struct.Struct("!H")  # received, ECN, arrival time offset
CLOCK = struct.Struct("!L")  # report timestamp: the middle 32 bits of an NTP clock
TICKS = 1024  # of an arrival time offset, a second
NOT_KNOWN = 0x1FFF  # of an offset: after the report's own time (RFC 8888 §3.1)
TOO_OLD = 0x1FFE  # 8 s and more before it
MAX_PACKETS = 128  # packets a report tells of: 2.5 s of 20 ms, five reports
MAX_BYTES = 1200  # of a whole RTCP datagram that is looked at
AGAIN = 6  # packets told of again in the next report, for the late and for a report that was lost
MORE_AGAIN = 30  # where reports do get lost
STEP = 4  # packets by which reports differ in length: in a steady rhythm they do not
HISTORY = 512  # packets remembered on either side, 10 s
RECEIVED = 0x8000
THERE_S = 0.5  # s since the other side's last packet in which it is there


class Arrivals(NamedTuple):
    """One report: which packets of a stream came, and when."""

    ssrc: int
    """Of the stream reported on."""
    begin: int
    """Sequence number of the first packet told of."""
    ages: tuple[float | None, ...]
    """For each packet, how long before the report it came, in seconds; None: it did not."""
    reported_at: float
    """Seconds of the reporter's clock, modulo 65536."""


def pack_arrivals(sender_ssrc: int, arrivals: Arrivals) -> bytes:
    """Return the RTCP packet (RFC 8888 §3.1)."""
    count = len(arrivals.ages)
    entries = b"".join(ENTRY.pack(_entry(age)) for age in arrivals.ages)
    padding = bytes(-len(entries) % 4)
    words = (HEADER.size + len(entries) + len(padding) + CLOCK.size) // 4 - 1
    header = HEADER.pack(0x80 | CCFB, RTPFB, words, sender_ssrc, arrivals.ssrc, arrivals.begin, count)
    clock = CLOCK.pack(int(arrivals.reported_at * 65536) & 0xFFFFFFFF)
    return header + entries + padding + clock


def _entry(age: float | None) -> int:
    if age is None:
        return 0
    ticks = round(age * TICKS)
    return RECEIVED | (NOT_KNOWN if ticks < 0 else min(ticks, TOO_OLD))


def parse_arrivals(data: bytes, ssrc: int) -> Arrivals | None:
    """Read what a decrypted RTCP datagram reports on our stream; None when it does not, or is malformed."""
    position = 0
    if len(data) > MAX_BYTES:
        return None
    while position + 4 <= len(data):
        first, kind, words = struct.unpack_from("!BBH", data, position)
        end = position + 4 * (words + 1)
        if first >> 6 != 2 or end > len(data):
            return None
        if kind == RTPFB and first & 0x1F == CCFB and not first & 0x20:
            return _parse_one(data[position:end], ssrc)
        position = end
    return None


def _parse_one(data: bytes, ssrc: int) -> Arrivals | None:
    if len(data) < HEADER.size + CLOCK.size:
        return None
    *_, about, begin, count = HEADER.unpack_from(data)
    size = HEADER.size + 2 * count + 2 * (count % 2) + CLOCK.size
    if about != ssrc or count > MAX_PACKETS or size != len(data):
        return None
    ages = []
    for (entry,) in ENTRY.iter_unpack(data[HEADER.size : HEADER.size + 2 * count]):
        ticks = entry & 0x1FFF
        known = entry & RECEIVED and ticks < TOO_OLD
        ages.append(ticks / TICKS if known else None)
    (clock,) = CLOCK.unpack_from(data, len(data) - CLOCK.size)
    return Arrivals(about, begin, tuple(ages), clock / 65536)


class ArrivalLog:
    """Remember when packets came of the stream that is received, and tell it in reports.

    One thread notes, one reports: each slot is one assignment.
    """

    def __init__(self) -> None:
        self._ssrc: int | None = None
        self._highest = 0
        self._told = 0  # the sequence number the last report ended before
        self._arrivals: list[tuple[int, float] | None] = [None] * HISTORY

    def note(self, ssrc: int, sequence: int, arrival: float) -> None:
        """Take an authenticated packet in; `arrival` is monotonic."""
        if ssrc != self._ssrc:
            self._ssrc, self._highest, self._told = ssrc, sequence, sequence
            self._arrivals = [None] * HISTORY
        ahead = (sequence - self._highest + 0x8000 & 0xFFFF) - 0x8000
        if abs(ahead) >= HISTORY:
            if ahead < 0:
                return
            self._told = sequence
        self._highest = self._highest + max(ahead, 0) & 0xFFFF
        slot = sequence % HISTORY
        known = self._arrivals[slot]
        if known is None or known[0] != sequence:
            self._arrivals[slot] = sequence, arrival

    def report(self, now: float, again: int = AGAIN) -> Arrivals | None:
        """Return what came since the last report and the end of what was told then; None when nothing did."""
        if self._ssrc is None:
            return None
        ended = self._highest + 1  # another thread may take in more meanwhile
        new = ended - self._told & 0xFFFF
        if not new or new > 0x8000:
            return None
        # In steps, so that one packet more or less between two reports does not show in their size.
        count = min(-(-(new + again) // STEP) * STEP, MAX_PACKETS)
        begin = ended - count & 0xFFFF
        self._told = ended & 0xFFFF
        ages = []
        for step in range(count):
            sequence = begin + step & 0xFFFF
            known = self._arrivals[sequence % HISTORY]
            came = known is not None and known[0] == sequence
            ages.append(max(now - known[1], 0.0) if known is not None and came else None)
        return Arrivals(self._ssrc, begin, tuple(ages), now % 65536.0)


class Departure(NamedTuple):
    """A packet that was sent."""

    sequence: int
    sent_at: float
    octets: int
    pair: bool
    behind: bool


class DepartureLog:
    """Remember what was sent, and make fates of the reports on it.

    A packet is told of once: as arrived when a report says so, as lost when one that tells of a packet AGAIN
    places later does not have it. One thread notes, one takes reports: each slot is one assignment.
    """

    def __init__(self) -> None:
        self._sent: list[Departure | None] = [None] * HISTORY
        self._done: deque[int] = deque(maxlen=HISTORY)  # sequence numbers whose fate was told
        self._settled: set[int] = set()
        self.round_trip_s: float | None = None
        """From the last packet reported, sent and back."""

    def note(
        self, sequence: int, now: float, octets: int, *, pair: bool = False, behind: bool = False
    ) -> None:
        """Take a packet that leaves now; `pair`: right behind the one before; `behind` a report."""
        self._sent[sequence % HISTORY] = Departure(sequence, now, octets, pair, behind)

    def settle(self, arrivals: Arrivals, now: float) -> list[PacketFate]:
        """Return the fate of each packet that this report decides, in the order sent."""
        fates: list[PacketFate] = []
        last = len(arrivals.ages) - 1
        for place, age in enumerate(arrivals.ages):
            sequence = arrivals.begin + place & 0xFFFF
            sent = self._sent[sequence % HISTORY]
            if sent is None or sent.sequence != sequence or sequence in self._settled:
                continue
            if age is None and last - place < AGAIN:
                continue  # it may only be late
            self._settle(sequence)
            at = None if age is None else arrivals.reported_at - age
            fates.append(PacketFate(sent.sent_at, sent.octets, at, sent.pair, sent.behind))
            if age is not None:
                self.round_trip_s = max(now - sent.sent_at - age, 0.0)
        return fates

    def _settle(self, sequence: int) -> None:
        if len(self._done) == HISTORY:
            self._settled.discard(self._done[0])
        self._done.append(sequence)
        self._settled.add(sequence)


class Feedback:
    """Both ways of feedback of one connection: what arrived here is told, what is told is taken in.

    Where the other side does not report arrivals (a browser), its voice is watched for how full its line
    is, and round trips for how full ours is.
    """

    def __init__(self, ssrc: int) -> None:
        self.control: SendControl | None = None
        """Set while this connection carries the call's voice."""
        self.mutual = False
        """Both sides report arrivals."""
        self._ssrc = ssrc
        self._departures = DepartureLog()
        self._arrivals = ArrivalLog()
        self._last_timestamp: int | None = None
        self._due_at = 0.0
        self._came_at = -inf
        self._reported = False  # since the last packet

    def sent(self, sequence: int, timestamp: int, octets: int, now: float) -> None:
        """Note a packet that leaves; `octets` on the wire, IP and all."""
        pair = timestamp == self._last_timestamp
        self._last_timestamp = timestamp
        self._departures.note(sequence, now, octets, pair=pair, behind=self._reported)
        self._reported = False
        if self.mutual and self.control is not None and now - self._came_at < THERE_S:
            self.control.is_there(now)

    def received(self, header: RtpHeader, octets: int, arrival: float) -> None:
        """Note an authenticated packet; `octets` on the wire."""
        self._came_at = arrival
        if self.mutual:
            self._arrivals.note(header.ssrc, header.sequence, arrival)
        elif self.control is not None:
            self.control.incoming.note(header.sequence, header.timestamp, octets, arrival)

    def take_in(self, data: bytes, now: float) -> None:
        """Take a decrypted RTCP datagram."""
        control = self.control
        if control is None or not self.mutual:
            return
        arrivals = parse_arrivals(data, self._ssrc)
        if arrivals is None:
            return
        fates = self._departures.settle(arrivals, now)
        if fates:
            control.arrivals(fates, now, self._departures.round_trip_s or 0.0)

    def ahead(self, now: float) -> bytes | None:
        """Return the report that is due and has to go before the packet that is about to be sent.

        Behind a packet it is least in the way. But into a queue that is full a packet fits whenever there is
        just room for it, and then there never is for what comes right behind: where both lines are full,
        neither end would learn of it.
        """
        control = self.control
        return self.due(now) if control is not None and control.is_unheard(now) else None

    def due(self, now: float) -> bytes | None:
        """Return the report that is due now, if one is; from one thread at a time."""
        control = self.control
        if control is None or not self.mutual or now < self._due_at:
            return None
        interval = control.report_interval(now)
        # In step with the clock and not with the packets: the rhythm tells nothing.
        self._due_at = max(self._due_at + interval, now + interval / 2)
        arrivals = self._arrivals.report(now, MORE_AGAIN if control.is_unheard(now) else AGAIN)
        if arrivals is None:
            return None
        self._reported = True
        return pack_arrivals(self._ssrc, arrivals)
