"""The sound self-test on rooms made of numbers."""

from __future__ import annotations

import numpy as np
import pytest

from voicemeet_edge.audio.chirp import chirp, look_for
from voicemeet_edge.voice.format import SAMPLE_RATE, Samples


def room(gain_db: float, delay_ms: float, noise_db: float = -60.0) -> Samples:
    random = np.random.default_rng(7)
    heard = random.standard_normal(int(1.5 * SAMPLE_RATE)) * 32_768 * 10 ** (noise_db / 20)
    said, at = chirp(), int(delay_ms * SAMPLE_RATE / 1000)
    heard[at : at + len(said)] += said * 10 ** (gain_db / 20)
    return np.clip(heard, -32_768, 32_767).astype(np.int16)


@pytest.mark.parametrize(("gain_db", "delay_ms"), [(0.0, 60.0), (-20.0, 150.0), (-30.0, 5.0)])
def test_delay_and_level(gain_db: float, delay_ms: float) -> None:
    heard = look_for(chirp(), room(gain_db, delay_ms))
    assert heard.sure
    assert heard.delay_ms == pytest.approx(delay_ms, abs=0.2)
    assert heard.level_db == pytest.approx(-15.2 + gain_db, abs=1.5)
    assert heard.clipped == 0.0


@pytest.mark.parametrize("seed", range(20))
def test_noise_is_no_chirp(seed: int) -> None:
    noise = np.random.default_rng(seed).normal(0, 3000, int(1.5 * SAMPLE_RATE)).astype(np.int16)
    assert not look_for(chirp(), noise).sure


def test_silence_and_too_little_are_no_chirp() -> None:
    assert not look_for(chirp(), np.zeros(72_000, np.int16)).sure
    assert not look_for(chirp(), np.zeros(100, np.int16)).sure


def test_clipping_is_seen() -> None:
    assert look_for(chirp(), room(30.0, 60.0)).clipped > 0.3
