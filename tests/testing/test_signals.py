from __future__ import annotations

import numpy as np
import pytest

from voicemeet_edge.audio.wav import resample
from voicemeet_edge.testing.room import Room, erle_db
from voicemeet_edge.testing.signals import correlation, likeness, speech_like


def tone(hz: float, rate: int, seconds: float = 1.0) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    samples: np.ndarray[tuple[int], np.dtype[np.float64]] = 10_000 * np.sin(
        2 * np.pi * hz * np.arange(round(rate * seconds)) / rate
    )
    return samples


def test_speech_is_the_same_for_the_same_seed_and_has_a_usual_level() -> None:
    one, again, other = speech_like(2, seed=1), speech_like(2, seed=1), speech_like(2, seed=2)
    np.testing.assert_array_equal(one, again)
    assert correlation(np.concatenate([one, other]), other)[0] > 0.99
    assert 20 * np.log10(np.sqrt(np.mean((one / 32768.0) ** 2))) == pytest.approx(-23, abs=1)
    assert np.abs(one.astype(int)).max() < 32_767


def test_correlation_finds_the_place_and_tells_voices_apart() -> None:
    said = speech_like(1, seed=5)
    heard = np.concatenate([np.zeros(7000, np.int16), said // 3, np.zeros(100, np.int16)])
    score, place = correlation(heard, said)
    assert score > 0.99
    assert place == 7000
    assert correlation(speech_like(3, seed=6, pitch_hz=210), said)[0] < 0.3
    assert abs(correlation(np.zeros(60_000, np.int16), said)[0]) < 0.01
    with pytest.raises(ValueError, match="shorter"):
        correlation(said[:10], said)


def test_resampling_by_ppm_moves_the_end() -> None:
    signal = tone(300, 48_000, 2.0)
    slower = resample(signal, 1 + 1e-3)
    assert len(slower) == 96_096
    # The same sample, 0.1 % later.
    assert slower[48_048] == pytest.approx(signal[48_000], abs=50)


def test_room_gives_the_echo_its_level_delay_and_drift() -> None:
    far = speech_like(4, seed=2)
    room = Room(echo_db=-12.0, delay_ms=50.0, noise_dbfs=-120.0)
    echo = room.echo(far)
    level = 20 * np.log10(np.sqrt(np.mean(echo**2)) / np.sqrt(np.mean((far / 32768.0) ** 2)))
    assert level == pytest.approx(-12, abs=0.5)
    heard = (echo * 32768).astype(np.int16)
    assert correlation(heard, far[: 3 * 48_000])[1] == pytest.approx(2400, abs=5)
    drifting = (Room(noise_dbfs=-120.0, delay_ms=50.0, drift_ppm=1000).echo(far) * 32768).astype(np.int16)
    assert correlation(drifting[96_000:], far[96_000:120_000])[1] == pytest.approx(2400 + 108, abs=15)


def test_erle_counts_only_seconds_with_something_to_remove() -> None:
    loud, silent = np.full(48_000, 1000, np.int16), np.zeros(48_000, np.int16)
    gains = erle_db(np.concatenate([loud, silent]), np.concatenate([loud // 10, silent]))
    assert gains[0] == pytest.approx(20.0)
    assert gains[1] is None


def test_likeness_bears_gaps_and_moving_delay_and_tells_voices_apart() -> None:
    said = speech_like(4, seed=5)
    heard = np.concatenate([np.zeros(3000, np.int16), said[:70_000], np.zeros(700, np.int16), said[71_000:]])
    heard[100_000:103_000] = 0
    assert likeness(heard, said) > 0.9
    assert likeness(speech_like(4, seed=6, pitch_hz=210), said) < 0.3
    assert likeness(heard[:10], said) == 0.0
