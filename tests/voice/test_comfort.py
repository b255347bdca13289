"""Comfort noise: at the level of the pauses, never loud, never a seam."""

from __future__ import annotations

import numpy as np

from tests.voice.speech import frames, rms, voiced
from voicemeet_edge.voice.comfort import CAP_RMS, LEARN_EVERY, ComfortNoise


def test_takes_the_level_of_the_quietest() -> None:
    comfort = ComfortNoise()
    quiet = (np.random.default_rng(1).standard_normal(960) * 30).astype(np.int16)
    for frame in frames(voiced(1.0)):
        comfort.learn(frame)
    for _ in range(LEARN_EVERY):
        comfort.learn(quiet.tobytes())
    assert 20 < rms(comfort.make(9600)) < 40


def test_is_never_loud() -> None:
    comfort = ComfortNoise()
    loud = np.full(960, 20_000, dtype=np.int16)
    for _ in range(500):
        comfort.learn(loud.tobytes())
    assert rms(comfort.make(9600)) <= CAP_RMS * 1.1


def test_after_digital_silence_it_is_silent() -> None:
    comfort = ComfortNoise()
    comfort.learn(bytes(1920))
    assert not comfort.make(480).any()


def test_goes_on_where_it_was() -> None:
    one, other = ComfortNoise(), ComfortNoise()
    pieces = np.concatenate([one.make(480) for _ in range(50)])
    assert np.array_equal(pieces, other.make(24_000))


def test_turned_down_it_is_as_much_quieter() -> None:
    comfort = ComfortNoise()
    comfort.gain = 0.5
    for _ in range(LEARN_EVERY):
        comfort.learn((np.random.default_rng(1).standard_normal(960) * 30).astype(np.int16).tobytes())
    turned_down = rms(comfort.make(9600))
    comfort.gain = 1.0
    assert 25 < turned_down < 35
    assert 50 < rms(comfort.make(9600)) < 70


def test_turned_off_it_learns_nothing_and_is_silent() -> None:
    comfort = ComfortNoise()
    comfort.gain = 0.0
    comfort.learn(bytes(1920))
    assert not comfort.make(480).any()
    comfort.gain = 1.0
    assert comfort.make(480).any()
