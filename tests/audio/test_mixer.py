from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from voicemeet_edge.audio.mixer import SPEECH_UNDER_TONE, Mixer, db_to_gain, volume_gain


def frame(value: int) -> np.ndarray[tuple[int], np.dtype[np.int16]]:
    return np.full(480, value, np.int16)


def test_volume_is_a_ratio_per_step() -> None:
    assert volume_gain(100) == 1.0
    assert volume_gain(0) == volume_gain(-5) == 0.0
    assert volume_gain(150) == 1.0
    assert volume_gain(50) == pytest.approx(0.1)
    assert volume_gain(60) / volume_gain(50) == pytest.approx(volume_gain(90) / volume_gain(80))


def test_decibels() -> None:
    assert db_to_gain(0) == 1.0
    assert db_to_gain(20) == pytest.approx(10.0)


def mixed(speech: int | None, tone: int | None, gain: float, mixer: Mixer | None = None) -> int:
    """Return what a constant speech and a constant tone give."""
    pcm = (mixer or Mixer()).mix(
        None if speech is None else frame(speech).tobytes(), None if tone is None else frame(tone), gain
    )
    assert len(pcm) == 960
    sound = np.frombuffer(pcm, np.int16)
    assert (sound == sound[0]).all()
    return int(sound[0])


def test_nothing_is_silence() -> None:
    assert mixed(None, None, 1.0) == 0


def test_speech_alone_passes_untouched() -> None:
    speech = frame(1234).tobytes()
    assert Mixer().mix(speech, None, 0.5) is speech


def test_tone_lies_over_quieter_speech() -> None:
    assert mixed(1000, 2000, 0.5) == pytest.approx(0.5 * 2000 + SPEECH_UNDER_TONE * 1000, abs=1)


def test_buffer_does_not_keep_the_former_frame() -> None:
    mixer = Mixer()
    mixed(1000, 1000, 1.0, mixer)
    assert mixed(None, 10, 1.0, mixer) == 10
    assert mixed(None, None, 1.0, mixer) == 0


@given(
    speech=st.integers(-32768, 32767),
    tone=st.integers(-32768, 32767),
    gain=st.floats(0.0, 100.0),
)
def test_sum_saturates_and_never_wraps(speech: int, tone: int, gain: float) -> None:
    exact = gain * tone + SPEECH_UNDER_TONE * speech
    assert mixed(speech, tone, gain) == pytest.approx(
        min(max(exact, -32767), 32767), abs=2 + abs(exact) * 1e-6
    )


@given(value=st.integers(-32768, 32767), gain=st.floats(0.0, 1.0))
def test_scaling_down_keeps_sign_and_size(value: int, gain: float) -> None:
    assert int(Mixer().scale(frame(value), gain)[0]) == pytest.approx(value * gain, abs=1.01)
