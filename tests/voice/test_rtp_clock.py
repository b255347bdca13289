"""The RTP clock goes on through pauses as long as they were."""

from __future__ import annotations

import pytest

from voicemeet_edge.voice.rtp_clock import GAP_FRAMES, MAX_GAP_FRAMES, RtpClock


def test_the_first_frame_is_at_zero_whenever_it_comes() -> None:
    assert RtpClock().at(1234.5) == 0


@pytest.mark.parametrize(
    ("pause_s", "frames"),
    [(0.0, 1), (0.02, 1), ((GAP_FRAMES - 1) * 0.02, 1), (0.08, 4), (1.0, 50), (3600.0, MAX_GAP_FRAMES)],
)
def test_a_pause_is_as_long_on_the_wire_as_it_was(pause_s: float, frames: int) -> None:
    clock = RtpClock()
    clock.sent(9600, 100.0)
    assert clock.at(100.0 + pause_s) == 9600 + frames * 960


def test_the_clock_wraps() -> None:
    clock = RtpClock()
    clock.sent(2**32 - 960, 5.0)
    assert clock.at(5.02) == 0
