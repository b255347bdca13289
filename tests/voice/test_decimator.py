"""What is below 7 kHz comes through as it was, a millisecond later; what is above 9 does not."""

from __future__ import annotations

import numpy as np
import pytest

from voicemeet_edge.testing.room import frames
from voicemeet_edge.testing.signals import speech_like
from voicemeet_edge.voice.decimator import TAPS, Decimator
from voicemeet_edge.voice.format import SAMPLE_RATE, VOICE_FRAME_SAMPLES, VOICE_RATE, Samples

DELAY_S = (TAPS // 2) / SAMPLE_RATE


def tone(hz: float, amplitude: float = 10_000.0) -> Samples:
    return (amplitude * np.sin(2 * np.pi * hz * np.arange(SAMPLE_RATE) / SAMPLE_RATE)).astype(np.int16)


def run(*signals: Samples) -> Samples:
    decimator = Decimator(len(signals))
    rows = zip(*(frames(signal) for signal in signals), strict=True)
    return np.concatenate([decimator.process(b"".join(f.tobytes() for f in row)) for row in rows], axis=1)


@pytest.mark.parametrize("hz", [0.0, 50.0, 1000.0, 3500.0, 6800.0])
def test_speech_comes_through_as_it_was(hz: float) -> None:
    said = tone(hz) if hz else np.full(SAMPLE_RATE, 10_000, np.int16)
    heard = run(said)[0]
    at = np.arange(len(heard)) / VOICE_RATE - DELAY_S
    expected = 10_000 * np.sin(2 * np.pi * hz * at) if hz else np.full(len(heard), 10_000.0)
    settled = slice(200, None)
    assert np.abs(heard[settled] - expected[settled]).max() < 120  # 0.1 dB


@pytest.mark.parametrize("hz", [9000.0, 12_000.0, 20_000.0])
def test_what_would_fold_back_is_taken_out(hz: float) -> None:
    assert np.abs(run(tone(hz))[0][200:].astype(int)).max() < 10_000 * 10 ** (-50 / 20)


def test_channels_do_not_touch_each_other_and_the_past_of_a_frame_is_its_own() -> None:
    one, other = speech_like(1.0, seed=1), speech_like(1.0, seed=2)
    both = run(one, other)
    assert both.shape == (2, 50 * VOICE_FRAME_SAMPLES)
    # Products of matrices of other sizes are added up in another order: the last bit may differ.
    np.testing.assert_allclose(both[0], run(one)[0], atol=1)
    np.testing.assert_allclose(both[1], run(other)[0], atol=1)


def test_what_overshoots_saturates_and_what_was_returned_stays() -> None:
    square = np.where(np.arange(SAMPLE_RATE) // 40 % 2, 32_767, -32_768).astype(np.int16)
    decimator = Decimator(1)
    first = decimator.process(square[:960].tobytes())
    kept = first.copy()
    decimator.process(square[960:1920].tobytes())
    np.testing.assert_array_equal(first, kept)
    assert first.max() == 32_767
    assert np.abs(np.diff(run(square)[0].astype(int))).max() < 65_000  # no wrap from one end to the other
