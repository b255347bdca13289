"""Fuzz target of what comes out of SRTP: RTP headers, RTCP reports, RED.

Accept list: None from webrtc/rtp.py and webrtc/rtcp.py, `RedError` from voice/red.py.
Only the peer of an encrypted call can send these.
"""

from __future__ import annotations

from tests.fuzz import fuzz_red
from voicemeet_edge.voice import red
from voicemeet_edge.webrtc import rtcp, rtp


def fuzz_one(data: bytes) -> None:
    """Read one datagram as each of them."""
    rtp.is_rtcp(data)
    header = rtp.parse_rtp(data)
    if header is not None:
        assert rtp.HEADER_BYTES <= header.start <= header.end <= len(data)
        statistics = rtp.ReceiverStatistics()
        for step in (0, 1, 40_000):
            statistics.add(header.sequence + step & 0xFFFF, header.timestamp, 1.0)
            assert 0 <= statistics.take_fraction() <= 255
            assert statistics.lost >= -0x800000
    fuzz_red.fuzz_one(data)
    rtcp.parse_reports(data)


_RTP = rtp.pack_rtp(111, 7, 960, 99, bytes(80), marker=True)
_RED = red.pack([red.RedBlock(111, 960, bytes(80)), red.RedBlock(111, 0, bytes(80))])
_FIGURES = rtcp.ReportFigures(ssrc=99, cname="name", ntp=1 << 40, rtp_timestamp=5, packets=6, octets=7)
_RECEPTION = rtcp.ReceptionReport(
    ssrc=98, fraction_lost=1, lost=2, highest=3, jitter=4, last_sender_report=5, delay_since=6
)
SEEDS = (
    _RTP,
    bytes((0x91,)) + _RTP[1:12] + bytes(4) + b"\xbe\xde\x00\x01\x10\x05\x00\x00" + bytes(80),
    bytes((0xA0,)) + _RTP[1:-1] + b"\x04",
    _RED,
    _RTP[:12] + _RED,
    red.pack(
        [red.RedBlock(111, 1920, bytes(60)), red.RedBlock(111, 960, bytes(60)), red.RedBlock(111, 0, b"x")]
    ),
    rtcp.pack_report(_FIGURES, _RECEPTION),
    rtcp.pack_report(_FIGURES, None),
    rtcp.pack_bye(99),
)
TOKENS = (b"\x80", b"\x90", b"\xbe\xde", b"\xef", b"\xef\x00\x00\x00", b"\x6f", b"\xc8", b"\xc9", b"\x81\xca")
