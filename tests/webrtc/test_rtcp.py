"""RTCP: reports read back, anything else reports nothing, and the round trip is told from them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voicemeet_edge.webrtc import rtcp
from voicemeet_edge.webrtc.rtp import RtpHeader


def test_reports_read_back() -> None:
    reception = rtcp.ReceptionReport(1, 25, 100, 65600, 48, 0x12345678, 65536)
    data = rtcp.pack_report(rtcp.ReportFigures(7, "name", 0x0123456789ABCDEF, 960, 50, 4000), reception)
    assert rtcp.parse_reports(data) == [rtcp.SenderReport(7, 0x0123456789ABCDEF), reception]
    assert rtcp.parse_reports(rtcp.pack_bye(7)) == []


@given(st.binary(max_size=120))
def test_any_rtcp_is_reports_or_nothing(data: bytes) -> None:
    for prefix in (b"", b"\x81\xc8\x00", b"\x81\xc9\x00\x07", b"\x81\xca\x00\x06"):
        rtcp.parse_reports(prefix + data)


def header(sequence: int, ssrc: int = 2) -> RtpHeader:
    return RtpHeader(111, sequence, sequence * 960, ssrc, 12, 100)


def test_two_ends_learn_loss_and_round_trip_of_each_other() -> None:
    ours, theirs = rtcp.Reporter(1), rtcp.Reporter(2)
    for sequence in range(10):
        theirs.count_sent(sequence * 960, 88, 110)
        if sequence != 5:
            ours.count_received(header(sequence), 110, sequence * 0.02)
    theirs.count_received(header(7, ssrc=1), 110, 0.2)
    ours.take_in(theirs.report(1.0, 1001.0), 11.05, 1.05)  # 50 ms on the way; each end has its own clocks
    theirs.take_in(ours.report(11.25, 1.25), 1.3, 1001.3)
    assert theirs.round_trip_s == pytest.approx(0.1, abs=0.001)
    assert theirs.remote_loss == pytest.approx(0.1, abs=0.01)
    assert theirs.reports == 1
    assert ours.round_trip_s is None  # nothing of ours had been reported on with a time
    assert theirs.sent == (10, 1100)
    assert ours.received == (9, 990)


def test_a_report_on_somebody_else_tells_nothing() -> None:
    ours, theirs = rtcp.Reporter(1), rtcp.Reporter(2)
    theirs.count_received(header(7, ssrc=3), 110, 0.2)
    ours.take_in(theirs.report(1.0, 1001.0), 1.0, 1001.0)
    assert ours.reports == 0


def test_streams_are_bounded() -> None:
    reporter = rtcp.Reporter(1)
    for ssrc in range(1000):
        reporter.count_received(header(1, ssrc), 110, ssrc * 0.02)
    assert len(reporter._streams) == rtcp.MAX_STREAMS
    assert reporter.incoming is not None
    assert reporter.incoming.received == 1
