"""RTCP: what each end reports of the other's packets (RFC 3550 §6), in aiortc's packet classes.

One rule: a malformed packet reports nothing and raises nothing.
"""

from __future__ import annotations

import binascii
import secrets
import struct

from aiortc.rtp import (
    RtcpByePacket,
    RtcpPacket,
    RtcpReceiverInfo,
    RtcpRrPacket,
    RtcpSdesPacket,
    RtcpSenderInfo,
    RtcpSourceInfo,
    RtcpSrPacket,
)

from voicemeet_edge.records import dataclass
from voicemeet_edge.webrtc.rtp import ReceiverStatistics, RtpHeader

NTP_EPOCH = 2208988800  # s from 1900 to 1970 (RFC 868)
RTT_SMOOTHING = 0.85  # weight of the past in the round trip shown
MAX_STREAMS = 8  # SSRCs followed at once; a peer has one, and one more after each restart


@dataclass(frozen=True, slots=True)
class ReceptionReport:
    """One report block (RFC 3550 §6.4.1)."""

    ssrc: int
    fraction_lost: int
    lost: int
    highest: int
    jitter: int
    last_sender_report: int
    delay_since: int
    """In 1/65536 s."""


@dataclass(frozen=True, slots=True)
class SenderReport:
    """What a sender report says of the sender's clocks."""

    ssrc: int
    ntp: int


@dataclass(frozen=True, slots=True)
class ReportFigures:
    """What goes into our own sender report."""

    ssrc: int
    cname: str
    ntp: int
    rtp_timestamp: int
    packets: int
    octets: int


def pack_report(figures: ReportFigures, reception: ReceptionReport | None) -> bytes:
    """Return a compound SR + SDES (RFC 3550 §6.1)."""
    blocks = []
    if reception is not None:
        blocks.append(
            RtcpReceiverInfo(
                ssrc=reception.ssrc,
                fraction_lost=reception.fraction_lost,
                packets_lost=reception.lost,
                highest_sequence=reception.highest,
                jitter=reception.jitter,
                lsr=reception.last_sender_report,
                dlsr=reception.delay_since,
            )
        )
    sender = RtcpSenderInfo(
        ntp_timestamp=figures.ntp,
        rtp_timestamp=figures.rtp_timestamp,
        packet_count=figures.packets & 0xFFFFFFFF,
        octet_count=figures.octets & 0xFFFFFFFF,
    )
    source = RtcpSourceInfo(ssrc=figures.ssrc, items=[(1, figures.cname.encode())])
    return bytes(RtcpSrPacket(ssrc=figures.ssrc, sender_info=sender, reports=blocks)) + bytes(
        RtcpSdesPacket(chunks=[source])
    )


def pack_bye(ssrc: int) -> bytes:
    """Return an empty receiver report and a BYE (RFC 3550 §6.6)."""
    return bytes(RtcpRrPacket(ssrc=ssrc)) + bytes(RtcpByePacket(sources=[ssrc]))


def parse_reports(data: bytes) -> list[SenderReport | ReceptionReport]:
    """Return what a compound RTCP packet reports; empty when malformed."""
    try:
        packets = RtcpPacket.parse(data)
    except (ValueError, struct.error, binascii.Error, IndexError):
        return []
    found: list[SenderReport | ReceptionReport] = []
    for packet in packets:
        if isinstance(packet, RtcpSrPacket):
            found.append(SenderReport(packet.ssrc, packet.sender_info.ntp_timestamp))
        if isinstance(packet, RtcpSrPacket | RtcpRrPacket):
            found.extend(
                ReceptionReport(
                    block.ssrc,
                    block.fraction_lost,
                    block.packets_lost,
                    block.highest_sequence,
                    block.jitter,
                    block.lsr,
                    block.dlsr,
                )
                for block in packet.reports
            )
    return found


class Reporter:
    """What one connection knows and says of the packets in both directions.

    Each count has one writer: `count_sent` is called by whoever sends, `count_received` and `take_in` by
    whoever receives; both may be threads of their own, and single assignments carry the figures over.
    """

    def __init__(self, ssrc: int) -> None:
        self.cname = secrets.token_urlsafe(12)  # fresh, as the SSRC: nothing links two calls
        self.sent = (0, 0)
        """Packets, and bytes on the wire."""
        self.received = (0, 0)
        self.last_rtp_at: float | None = None
        self.remote_loss = 0.0
        self.reports = 0
        """How many reports on our packets have come."""
        self.round_trip_s: float | None = None
        self._ssrc = ssrc
        self._octets = 0
        self._last_timestamp = 0
        self._streams: dict[int, ReceiverStatistics] = {}
        self._current: int | None = None
        self._sender_report: tuple[int, float] | None = None  # middle of its NTP, arrival

    @property
    def incoming(self) -> ReceiverStatistics | None:
        """Statistics of the stream that is received now."""
        return self._streams.get(self._current) if self._current is not None else None

    def count_sent(self, timestamp: int, payload_bytes: int, wire_bytes: int) -> None:
        """Count a packet that left."""
        packets, on_wire = self.sent
        self.sent = (packets + 1, on_wire + wire_bytes)
        self._octets += payload_bytes
        self._last_timestamp = timestamp

    def count_received(self, header: RtpHeader, wire_bytes: int, arrival: float) -> None:
        """Count an authenticated packet of voice."""
        self.last_rtp_at = arrival
        packets, on_wire = self.received
        self.received = (packets + 1, on_wire + wire_bytes)
        statistics = self._streams.get(header.ssrc)
        if statistics is None:
            while len(self._streams) >= MAX_STREAMS:
                del self._streams[next(iter(self._streams))]
            statistics = self._streams[header.ssrc] = ReceiverStatistics()
        self._current = header.ssrc
        statistics.add(header.sequence, header.timestamp, arrival)

    def report(self, now: float, wall: float) -> bytes:
        """Return the next compound report.

        Args:
            now: monotonic seconds.
            wall: seconds since 1970; for NTP only.
        """
        figures = ReportFigures(
            ssrc=self._ssrc,
            cname=self.cname,
            ntp=int((wall + NTP_EPOCH) * 2**32) & 0xFFFFFFFFFFFFFFFF,
            rtp_timestamp=self._last_timestamp,
            packets=self.sent[0],
            octets=self._octets,
        )
        current, statistics = self._current, self.incoming
        if current is None or statistics is None:
            return pack_report(figures, None)
        middle, since = 0, 0
        if self._sender_report is not None:
            middle = self._sender_report[0]
            since = int((now - self._sender_report[1]) * 65536) & 0xFFFFFFFF
        reception = ReceptionReport(
            ssrc=current,
            fraction_lost=statistics.take_fraction(),
            lost=statistics.lost,
            highest=statistics.highest,
            jitter=statistics.jitter_ticks,
            last_sender_report=middle,
            delay_since=since,
        )
        return pack_report(figures, reception)

    def bye(self) -> bytes:
        """Return the packet that ends our stream."""
        return pack_bye(self._ssrc)

    def take_in(self, data: bytes, now: float, wall: float) -> None:
        """Take in a decrypted compound packet of the other side; clocks as for `report`."""
        for report in parse_reports(data):
            if isinstance(report, SenderReport):
                self._sender_report = (report.ntp >> 16 & 0xFFFFFFFF, now)
            elif report.ssrc == self._ssrc:
                self._take_reception(report, wall)

    def _take_reception(self, report: ReceptionReport, wall: float) -> None:
        self.remote_loss = report.fraction_lost / 256
        self.reports += 1
        if report.last_sender_report and report.delay_since:
            # RFC 3550 §6.4.1: now - LSR - DLSR, in the middle 32 bits of NTP.
            middle = int((wall + NTP_EPOCH) * 65536) & 0xFFFFFFFF
            ticks = middle - report.last_sender_report - report.delay_since & 0xFFFFFFFF
            if ticks < 0x80000000:
                sample, before = ticks / 65536, self.round_trip_s
                self.round_trip_s = (
                    sample if before is None else RTT_SMOOTHING * before + (1 - RTT_SMOOTHING) * sample
                )
