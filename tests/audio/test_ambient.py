"""The loudspeaker follows the noise, and nobody's voice."""

from __future__ import annotations

import numpy as np
import pytest

from voicemeet_edge.audio.ambient import MOST_DB, AmbientLevel
from voicemeet_edge.testing.signals import speech_like
from voicemeet_edge.voice.format import FRAME_SAMPLES, Samples


def level_of(sound: Samples) -> AmbientLevel:
    ambient = AmbientLevel()
    for at in range(0, len(sound) - FRAME_SAMPLES + 1, FRAME_SAMPLES):
        ambient.take(sound[at : at + FRAME_SAMPLES].tobytes())
    return ambient


def noise(level_db: float, seconds: float = 12.0) -> Samples:
    rms = 32_768 * 10 ** (level_db / 20)
    count = round(seconds * 48_000)
    return np.asarray(np.random.default_rng(1).standard_normal(count) * rms).astype(np.int16)


@pytest.mark.parametrize(
    ("level_db", "boost_db"), [(-70.0, 0.0), (-60.0, 0.0), (-47.5, 5.0), (-30.0, MOST_DB)]
)
def test_noise_is_followed(level_db: float, boost_db: float) -> None:
    ambient = level_of(noise(level_db))
    assert ambient.level_db == pytest.approx(level_db, abs=1.0)
    assert ambient.boost_db == pytest.approx(boost_db, abs=0.5)


def test_a_voice_in_a_quiet_room_is_no_noise() -> None:
    turns = [part for _ in range(3) for part in (speech_like(3.0), noise(-65.0, 1.5))]
    assert level_of(np.concatenate(turns)).boost_db < 1.0


def test_before_enough_was_heard_nothing_is_said() -> None:
    ambient = level_of(noise(-30.0, 1.0))
    assert ambient.level_db is None
    assert ambient.boost_db == 0.0
    ambient = level_of(noise(-30.0))
    ambient.reset()
    assert ambient.level_db is None
