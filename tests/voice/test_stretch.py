"""Tempo without pitch: one period out or in, ends untouched, nothing to hear at the joint."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.voice.speech import voiced
from voicemeet_edge.voice import stretch
from voicemeet_edge.voice.format import Samples


def tone(period: int, count: int) -> Samples:
    wave: Samples = (
        np.sin(2 * np.pi * np.arange(count) / period) * 8000
        + np.sin(4 * np.pi * np.arange(count) / period) * 3000
    ).astype(np.int16)
    return wave


@pytest.mark.parametrize("period", [130, 200, 300, 441, 600, 719])
def test_finds_the_period_of_a_voice(period: int) -> None:
    found = stretch.find_pitch(tone(period, stretch.NEEDED))
    assert found is not None
    # Any whole number of periods serves as well as one.
    away = found.samples % period
    assert min(away, period - away) <= 3
    assert found.similarity > 0.97


def test_silence_gives_the_longest_cut_at_once() -> None:
    found = stretch.find_pitch(np.zeros(stretch.NEEDED, dtype=np.int16))
    assert found == stretch.PitchPeriod(stretch.MAX_PERIOD, 1.0)


def test_noise_is_said_to_be_unlike_itself() -> None:
    noise = np.random.default_rng(3).integers(-8000, 8000, stretch.NEEDED).astype(np.int16)
    found = stretch.find_pitch(noise)
    assert found is not None
    assert found.similarity < 0.6


def test_too_short_a_sound_has_no_period() -> None:
    assert stretch.find_pitch(tone(200, stretch.OVERLAP + stretch.MIN_PERIOD - 1)) is None
    assert stretch.find_pitch(tone(200, stretch.NEEDED), longest=stretch.MIN_PERIOD - 1) is None


def test_a_tone_comes_out_as_the_same_tone() -> None:
    sound = tone(240, 2400)
    found = stretch.find_pitch(sound)
    assert found is not None
    for changed in (
        stretch.accelerate(sound, found.samples),
        stretch.preemptive_expand(sound, found.samples),
    ):
        np.testing.assert_allclose(changed, tone(240, len(changed)), atol=40)


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 90_000), st.integers(stretch.NEEDED, 4000), st.integers(120, 720))
def test_length_ends_and_continuity(start: int, count: int, longest: int) -> None:
    sound = SPEECH[start : start + count]
    found = stretch.find_pitch(sound, longest)
    assert found is not None
    assert stretch.MIN_PERIOD <= found.samples <= longest
    steepest = np.abs(np.diff(sound.astype(np.int32))).max()
    for changed, length in (
        (stretch.accelerate(sound, found.samples), len(sound) - found.samples),
        (stretch.preemptive_expand(sound, found.samples), len(sound) + found.samples),
    ):
        assert len(changed) == length
        assert changed[0] == sound[0]
        assert changed[-1] == sound[-1]
        # A cross-fade adds at most the level difference spread over its length.
        assert np.abs(np.diff(changed.astype(np.int32))).max() <= steepest + 32768 / stretch.OVERLAP * 2 + 2


@given(st.integers(1, 600))
def test_cross_fade_goes_from_one_to_the_other(count: int) -> None:
    one = np.full(count, 1000, dtype=np.int16)
    other = np.full(count, -1000, dtype=np.int16)
    blended = stretch.cross_fade(one, other)
    assert blended[0] == 1000
    assert np.all(np.diff(blended) <= 0)
    assert np.array_equal(stretch.cross_fade(one, one), one)


SPEECH = voiced(2.0)
