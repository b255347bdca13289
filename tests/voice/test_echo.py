from __future__ import annotations

import importlib
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest

from voicemeet_edge.testing.room import Room, at_voice_rate, erle_db, frames
from voicemeet_edge.testing.signals import speech_like
from voicemeet_edge.voice import echo
from voicemeet_edge.voice.echo import Aec3, EchoCanceller, HalfDuplex, Off, Watched, choose
from voicemeet_edge.voice.format import SAMPLE_RATE, VOICE_FRAME_SAMPLES, VOICE_RATE, Samples

SECOND = VOICE_RATE
FRAME = VOICE_FRAME_SAMPLES
DELAY = Aec3.delay_samples
NOBODY = np.zeros(1, np.int16)


@cache
def far_at_card() -> Samples:
    """What the loudspeaker plays; rooms are at the card's rate."""
    return speech_like(16, seed=3)


@cache
def near_at_card() -> Samples:
    return speech_like(16, seed=9, pitch_hz=200)


@cache
def far_voice() -> Samples:
    return at_voice_rate(far_at_card())


@cache
def near_voice() -> Samples:
    return at_voice_rate(near_at_card())


def microphone(room: Room, far: Samples, near: Samples) -> Samples:
    """What the canceller gets of a room, whose both signals are at the card's rate."""
    return at_voice_rate(room.microphone(far, near))


def erle(heard: Samples, cleaned: Samples) -> list[float | None]:
    return erle_db(heard, cleaned, VOICE_RATE)


def run(canceller: EchoCanceller, near: Samples, far: Samples) -> Samples:
    done = [
        canceller.process(n, f).copy() for n, f in zip(frames(near, FRAME), frames(far, FRAME), strict=True)
    ]
    assert all(len(frame) == FRAME and frame.dtype == np.int16 for frame in done)
    return np.concatenate(done)


def likeness(said: Samples, heard: Samples, delay: int = 0) -> float:
    from pystoi import stoi  # and with it SciPy, which takes each worker a second

    length = len(heard) - delay
    return float(stoi(said[:length].astype(float), heard[delay:].astype(float), SECOND))


@pytest.fixture
def aec3() -> EchoCanceller:
    pytest.importorskip("pywebrtc_audio")
    return choose("aec3")


@pytest.mark.parametrize(
    "room", [Room(), Room(drift_ppm=100), Room(drift_ppm=-100), Room(delay_ms=200)], ids=repr
)
def test_aec3_removes_30_db_after_3_s(aec3: EchoCanceller, room: Room) -> None:
    heard = microphone(room, far_at_card(), NOBODY)
    cleaned = run(aec3, heard, far_voice())
    gains = [gain for gain in erle(heard, cleaned)[3:] if gain is not None]
    assert len(gains) > 8
    assert np.mean(gains) >= 30.0
    assert min(gains) >= 25.0


def test_aec3_leaves_the_near_talker_alone(aec3: EchoCanceller) -> None:
    """The far end speaks for 8 s, so that the filter is set; then only the near one."""
    far = far_at_card().copy()
    far[8 * SAMPLE_RATE :] = 0
    said = near_at_card().copy()
    said[: 9 * SAMPLE_RATE] = 0
    cleaned = run(aec3, microphone(Room(), far, said), at_voice_rate(far))
    assert likeness(at_voice_rate(said)[9 * SECOND :], cleaned[9 * SECOND :], DELAY) >= 0.97


def test_a_reference_that_is_early_is_harmless(aec3: EchoCanceller) -> None:
    heard = microphone(Room(), far_at_card(), NOBODY)
    early = np.concatenate([far_voice()[80 * 16 :], np.zeros(80 * 16, np.int16)])
    gains = [gain for gain in erle(heard, run(aec3, heard, early))[3:15] if gain is not None]
    assert np.mean(gains) >= 30.0


def test_without_any_echo_the_talker_passes_untouched_while_both_speak(aec3: EchoCanceller) -> None:
    assert isinstance(aec3, Watched)
    said, far = near_voice(), far_voice()
    cleaned = run(aec3, said, far)
    assert aec3.echo_free
    late = 12 * SECOND
    np.testing.assert_array_equal(cleaned[late:], said[late - DELAY : len(cleaned) - DELAY])


def test_a_faint_echo_is_not_taken_for_none(aec3: EchoCanceller) -> None:
    assert isinstance(aec3, Watched)
    heard = microphone(Room(echo_db=-35.0, noise_dbfs=-90.0), far_at_card(), near_at_card())
    run(aec3, heard, far_voice())
    assert not aec3.echo_free


@pytest.mark.parametrize("echo_db", [-6.0, -12.0, -24.0])
def test_it_says_how_loud_the_echo_is(aec3: EchoCanceller, echo_db: float) -> None:
    assert aec3.echo_db is None
    run(aec3, microphone(Room(echo_db=echo_db, noise_dbfs=-90.0), far_at_card(), NOBODY), far_voice())
    assert aec3.echo_db == pytest.approx(echo_db, abs=6.0)


def test_the_near_talker_is_clearer_than_aec3_leaves_him_while_both_speak(aec3: EchoCanceller) -> None:
    said, far = near_voice(), far_voice()
    heard = microphone(Room(echo_db=-12.0), far_at_card(), near_at_card())
    late = slice(6 * SECOND, 15 * SECOND)
    bare = likeness(said[late], run(Aec3(), heard, far)[late], DELAY)
    assert likeness(said[late], run(aec3, heard, far)[late], DELAY) >= bare + 0.03


def test_what_was_put_back_for_the_talker_does_not_outlive_him(aec3: EchoCanceller) -> None:
    far, said = far_voice(), near_at_card().copy()
    said[8 * SAMPLE_RATE :] = 0
    heard = microphone(Room(), far_at_card(), said)
    gains = [gain for gain in erle(heard, run(aec3, heard, far))[9:15] if gain is not None]
    assert min(gains) >= 25.0


def test_a_canceller_without_work_rests_and_is_warm_before_it_counts_again() -> None:
    class Counting:
        name = "counting"
        echo_db: float | None = None
        calls = 0

        def process(self, near: Samples, far: Samples) -> Samples:
            self.calls += 1
            return near

    inner = Counting()
    watched = Watched(inner, DELAY)
    frames_of_said = frames(near_voice(), FRAME)
    silence = np.zeros(FRAME, np.int16)

    def hear(first: int, count: int) -> Samples:
        done = [watched.process(frames_of_said[n], silence).copy() for n in range(first, first + count)]
        return np.concatenate(done)

    watched._watch.echo_free = True
    hear(0, 1)
    assert inner.calls == 1
    hear(1, 99)
    assert inner.calls == 1
    watched._watch.echo_free = False
    back = hear(100, echo.WARM_FRAMES)
    assert inner.calls == 1 + echo.WARM_FRAMES
    said = near_voice()[100 * FRAME - DELAY : (100 + echo.WARM_FRAMES) * FRAME - DELAY]
    np.testing.assert_array_equal(back, said)


def test_stepping_aside_and_back_does_not_click() -> None:
    class Constant:
        name = "constant"
        echo_db: float | None = None

        def process(self, near: Samples, far: Samples) -> Samples:
            return np.full(FRAME, 1000, np.int16)

    watched = Watched(Constant(), 0)
    silence = np.zeros(FRAME, np.int16)
    watched._watch.echo_free = True
    joined = np.concatenate([watched.process(silence, silence).copy() for _ in range(3)])
    watched._watch.echo_free = False
    joined = np.concatenate([joined, *(watched.process(silence, silence).copy() for _ in range(80))])
    assert np.abs(np.diff(joined.astype(int), prepend=1000)).max() <= 12
    assert joined[2 * FRAME] == 0
    assert joined[-1] == 1000


def test_half_duplex_ducks_while_the_far_end_speaks_and_150_ms_longer() -> None:
    canceller = HalfDuplex()
    near = np.full(FRAME, 10_000, np.int16)
    far = np.full(FRAME, 8000, np.int16)
    silence = np.zeros(FRAME, np.int16)
    assert canceller.process(near, silence)[0] == 10_000
    for _ in range(3):
        out = canceller.process(near, far).copy()
    assert np.abs(out).max() <= 100
    after = np.concatenate([canceller.process(near, silence).copy() for _ in range(12)])
    levels = [int(np.abs(period).max()) for period in after.reshape(-1, FRAME // 2)]
    assert all(level <= 100 for level in levels[:14])
    assert levels[-1] == 10_000
    assert sum(100 < level < 10_000 for level in levels) >= 2  # it comes up gently


def test_half_duplex_removes_the_echo_and_leaves_the_near_talker() -> None:
    heard = microphone(Room(), far_at_card(), NOBODY)
    cleaned = run(HalfDuplex(), heard, far_voice())
    assert np.mean([gain for gain in erle(heard, cleaned)[1:] if gain is not None]) >= 30.0
    silent = np.zeros_like(near_voice())
    np.testing.assert_array_equal(run(HalfDuplex(), near_voice(), silent), near_voice())


def test_off_changes_nothing() -> None:
    np.testing.assert_array_equal(run(Off(), near_voice(), far_voice()), near_voice())


def without(*modules: str) -> Callable[[str], Any]:
    real = importlib.import_module

    def load(name: str) -> Any:
        if name in modules:
            raise ImportError(name)
        return real(name)

    return load


def test_auto_takes_what_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib, "import_module", without("pywebrtc_audio"))
    assert choose("auto").name == "half_duplex"
    assert choose("aec3").name == "half_duplex"
    assert choose("off").name == "off"


def test_unknown_name_is_refused() -> None:
    with pytest.raises(ValueError, match="expected one of auto, aec3"):
        choose("magic")


def test_every_name_can_be_chosen() -> None:
    assert {choose(name).name for name in echo.NAMES} <= set(echo.CANCELLERS)
    assert len(echo.NAMES) == 4
