"""Reports of what arrived (RFC 8888): the bytes, what is told again, and what becomes of packets."""

from __future__ import annotations

import pytest

from voicemeet_edge.voice.control import SendControl
from voicemeet_edge.voice.ladder import HEADER_BYTES, Limits
from voicemeet_edge.webrtc.feedback import (
    AGAIN,
    MAX_PACKETS,
    STEP,
    ArrivalLog,
    Arrivals,
    DepartureLog,
    Feedback,
    pack_arrivals,
    parse_arrivals,
)
from voicemeet_edge.webrtc.rtp import RtpHeader

SSRC = 0x1234ABCD


def test_a_report_is_what_rfc_8888_draws() -> None:
    report = pack_arrivals(1, Arrivals(SSRC, 0xFFFE, (0.5, None, 0.0), 2.0))
    assert report.hex() == (
        "8bcd0006" "00000001" "1234abcd" "fffe0003" "8200" "0000" "8000" "0000" "00020000"
    )  # fmt: skip
    assert parse_arrivals(report, SSRC) == Arrivals(SSRC, 0xFFFE, (0.5, None, 0.0), 2.0)


def test_it_is_found_behind_other_packets_and_only_for_our_stream() -> None:
    report = pack_arrivals(1, Arrivals(SSRC, 5, (0.1,), 1.0))
    other = bytes([0x80, 201, 0, 1]) + bytes(4)
    assert parse_arrivals(other + report, SSRC) is not None
    assert parse_arrivals(other + report, SSRC + 1) is None


@pytest.mark.parametrize(
    "broken",
    [b"", b"\x8b", bytes.fromhex("8bcd0006"), bytes.fromhex("8bcd0003") + bytes(12)],
)
def test_a_malformed_report_is_none(broken: bytes) -> None:
    assert parse_arrivals(broken, 0) is None


def test_the_log_tells_each_packet_and_the_end_of_what_was_told_again() -> None:
    log = ArrivalLog()
    for sequence in range(65_530, 65_560):
        if sequence % 10:
            log.note(SSRC, sequence & 0xFFFF, 100.0 + (sequence - 65_530) / 50)
    first = log.report(101.0)
    assert first is not None
    assert len(first.ages) % STEP == 0
    assert len(first.ages) >= 29 + AGAIN
    told = dict(zip(range(65_560 - len(first.ages), 65_560), first.ages, strict=True))
    assert [n for n in range(65_531, 65_560) if told[n] is None] == [65_540, 65_550]
    assert log.report(101.1) is None
    log.note(SSRC, 24, 101.2)
    second = log.report(101.25)
    assert second is not None
    assert len(second.ages) == 2 * STEP
    assert second.ages[-1] == pytest.approx(0.05)


def test_a_report_is_bounded_after_a_gap() -> None:
    log = ArrivalLog()
    log.note(SSRC, 0, 1.0)
    log.note(SSRC, 400, 2.0)
    report = log.report(2.0)
    assert report is not None
    assert len(report.ages) == MAX_PACKETS


def test_a_fate_is_told_once_and_a_late_packet_is_not_lost() -> None:
    sent, came = DepartureLog(), ArrivalLog()
    for sequence in range(20):
        sent.note(sequence, sequence / 50, 172)
        if sequence not in (5, 18):
            came.note(SSRC, sequence, 1000 + sequence / 50 + 0.03)
    report = came.report(1000.5)
    assert report is not None
    fates = sent.settle(report, 0.52)
    # The first counts from where the log began; the last but one may only be late.
    assert [round(fate.sent_at * 50) for fate in fates if fate.arrived_at is None] == [5]
    assert all(
        fate.arrived_at - fate.sent_at == pytest.approx(1000.03, abs=0.002)
        for fate in fates
        if fate.arrived_at is not None
    )
    assert sent.round_trip_s is not None
    assert 0.03 < sent.round_trip_s < 0.06
    came.note(SSRC, 18, 1000.6)
    for sequence in range(20, 30):
        sent.note(sequence, sequence / 50, 172)
        came.note(SSRC, sequence, 1000 + sequence / 50 + 0.03)
    report = came.report(1000.75)
    assert report is not None
    again = sent.settle(report, 0.77)
    assert [round(fate.sent_at * 50) for fate in again] == [18, *range(20, 30)]
    assert again[0].arrived_at is not None


def test_a_packet_sent_behind_another_of_the_same_sound_is_a_pair() -> None:
    log = DepartureLog()
    log.note(0, 0.0, 172)
    log.note(1, 0.0, 172, pair=True)
    fates = log.settle(Arrivals(SSRC, 0, (0.1, 0.07), 5.0), 0.2)
    assert [fate.pair for fate in fates] == [False, True]


def connected() -> Feedback:
    feedback = Feedback(1)
    feedback.mutual, feedback.control = True, SendControl(0.0)
    feedback.control.connected(
        0.0, route="", limits=Limits(), header_bytes=HEADER_BYTES, red=True, mutual=True
    )
    return feedback


def voice(feedback: Feedback, sequence: int, now: float) -> None:
    feedback.received(RtpHeader(111, sequence, sequence * 960, 2, 12, 172), 200, now)


def test_reports_go_behind_packets_and_ahead_of_them_when_none_of_the_other_side_comes() -> None:
    feedback = connected()
    assert feedback.due(0.1) is None
    voice(feedback, 0, 0.15)
    assert feedback.ahead(0.2) is None
    assert feedback.due(0.2) is not None
    voice(feedback, 1, 2.0)
    assert feedback.ahead(2.02) is not None
    assert feedback.due(2.02) is None


def test_where_reports_get_lost_each_tells_more_of_what_the_ones_before_told() -> None:
    feedback = connected()
    for sequence in range(60):
        voice(feedback, sequence, sequence / 50)
    assert feedback.ahead(1.3) is not None
    for sequence in range(60, 80):
        voice(feedback, sequence, sequence / 50)
    report = feedback.ahead(1.85)
    assert report is not None
    arrivals = parse_arrivals(report, 2)
    assert arrivals is not None
    assert len(arrivals.ages) >= 20 + 5 * AGAIN


def test_a_pair_with_a_report_between_measures_nothing() -> None:
    feedback = connected()
    voice(feedback, 0, 0.1)
    feedback.sent(0, 0, 172, 0.2)
    assert feedback.due(0.2) is not None
    feedback.sent(1, 0, 172, 0.2)
    feedback.sent(2, 960, 172, 0.22)
    told = feedback._departures.settle(Arrivals(1, 0, (0.1, 0.08, 0.06), 5.0), 0.4)
    assert [(fate.pair, fate.behind) for fate in told] == [(False, False), (True, True), (False, False)]


def test_an_end_that_is_gone_is_no_reason_to_send_less_but_one_that_only_reports_nothing_is() -> None:
    """After an outage long packets would hold the delay up for 20 s."""
    for there in (False, True):
        feedback = connected()
        assert feedback.control is not None
        before = feedback.control.plan
        for sequence in range(250):
            if there:
                voice(feedback, sequence, sequence / 50)
            feedback.sent(sequence, sequence * 960, 172, sequence / 50)
        assert (feedback.control.plan == before) is not there
