"""RTP packing and statistics against aiortc's own implementation and arbitrary bytes."""

from __future__ import annotations

from aiortc.rtp import RtpPacket
from hypothesis import given, settings
from hypothesis import strategies as st

from voicemeet_edge.webrtc.rtp import (
    MAX_MISORDER,
    ReceiverStatistics,
    is_rtcp,
    pack_rtp,
    parse_rtp,
)

u16, u32 = st.integers(0, 0xFFFF), st.integers(0, 0xFFFFFFFF)


@given(st.integers(0, 127), u16, u32, u32, st.binary(max_size=200), st.booleans())
def test_what_we_pack_others_read(
    payload_type: int, sequence: int, timestamp: int, ssrc: int, payload: bytes, marker: bool
) -> None:
    data = pack_rtp(payload_type, sequence, timestamp, ssrc, payload, marker=marker)
    theirs = RtpPacket.parse(data)
    assert (theirs.payload_type, theirs.sequence_number, theirs.timestamp, theirs.ssrc, theirs.payload) == (
        payload_type,
        sequence,
        timestamp,
        ssrc,
        payload,
    )
    assert bool(theirs.marker) is marker
    ours = parse_rtp(data)
    assert ours is not None
    assert (ours.payload_type, ours.sequence, ours.timestamp, ours.ssrc) == (
        payload_type,
        sequence,
        timestamp,
        ssrc,
    )
    assert data[ours.start : ours.end] == payload


@given(st.binary(max_size=80))
@settings(max_examples=500)
def test_any_bytes_are_read_as_aiortc_reads_them_or_not_at_all(tail: bytes) -> None:
    for data in (tail, b"\x80" + tail, b"\xb1\x6f" + tail):
        ours = parse_rtp(data)
        try:
            theirs = RtpPacket.parse(data)
        except ValueError:
            theirs = None
        if ours is not None and theirs is not None:
            assert data[ours.start : ours.end] == theirs.payload
        if theirs is not None:
            assert ours is not None


def test_rtcp_is_told_apart() -> None:
    assert is_rtcp(bytes((0x80, 200)))
    assert not is_rtcp(bytes((0x80, 111)))
    assert not is_rtcp(bytes((0x80, 0x80 | 63)))
    assert not is_rtcp(b"\x80")


def test_loss_is_counted_over_wraps_and_intervals() -> None:
    statistics = ReceiverStatistics()
    for number in range(65530, 65530 + 100):
        if number % 4:
            statistics.add(number & 0xFFFF, number * 960, number * 0.02)
    assert (statistics.expected, statistics.received, statistics.lost) == (100, 75, 25)
    assert statistics.take_fraction() == 64
    assert statistics.take_fraction() == 0
    assert statistics.jitter_s < 0.001


def test_a_restart_is_not_sixty_thousand_losses() -> None:
    statistics = ReceiverStatistics()
    for number in range(50):
        statistics.add(number, number * 960, number * 0.02)
    for number in range(50):
        statistics.add(number + 40000, number * 960, 2 + number * 0.02)
    assert statistics.take_fraction() == 0
    assert statistics.lost == 0


@given(st.lists(st.tuples(u16, u32, st.floats(0, 1e6)), max_size=200))
def test_any_arrivals_give_figures_that_fit_their_fields(arrivals: list[tuple[int, int, float]]) -> None:
    statistics = ReceiverStatistics()
    for sequence, timestamp, arrival in arrivals:
        statistics.add(sequence, timestamp, arrival)
        assert 0 <= statistics.take_fraction() <= 255
        assert -0x800000 <= statistics.lost <= 0x7FFFFF
        assert 0 <= statistics.jitter_ticks <= 48000
        assert 0 <= statistics.highest <= 0xFFFFFFFF
        assert statistics.expected <= statistics.received * (MAX_MISORDER + 1) + 1
