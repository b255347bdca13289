from __future__ import annotations

import itertools

import numpy as np
import numpy.typing as npt
import pytest

from voicemeet_edge.audio.tones import MELODIES, PEAK_DBFS, QUEUE_LIMIT, TonePlayer, render
from voicemeet_edge.call.signs import Tone

LOUDEST = 32767 * 10 ** (PEAK_DBFS / 20)


Frame = npt.NDArray[np.int16]


def take(player: TonePlayer) -> Frame | None:
    frame = player.next_frame()
    return None if frame is None else frame.copy()


def frames(player: TonePlayer, count: int) -> list[Frame | None]:
    return [take(player) for _ in range(count)]


def drained(player: TonePlayer) -> Frame:
    parts = list(itertools.takewhile(lambda frame: frame is not None, frames(player, 500)))
    return np.concatenate([part for part in parts if part is not None])


def test_every_tone_has_a_melody_and_no_two_are_alike() -> None:
    assert set(MELODIES) == set(Tone)
    assert len({melody.notes for melody in MELODIES.values()}) == len(Tone)


@pytest.mark.parametrize("tone", Tone)
def test_level_is_bounded_and_edges_are_soft(tone: Tone) -> None:
    samples = render(tone).astype(int)
    assert 0 < np.abs(samples).max() <= LOUDEST + 1
    assert abs(samples[0]) < 0.02 * LOUDEST
    assert abs(samples[-1]) < 0.02 * LOUDEST
    # The steepest step a sine of 1.4 kHz at this level takes; a click would be steeper.
    assert np.abs(np.diff(samples)).max() < LOUDEST * 2 * np.pi * 1450 / 48_000
    assert 0.03 <= len(samples) / 48_000 <= 2.0


def test_rendered_samples_are_shared_and_read_only() -> None:
    assert render(Tone.BUSY) is render(Tone.BUSY)
    with pytest.raises(ValueError, match="read-only"):
        render(Tone.BUSY)[0] = 1


def test_player_plays_the_whole_tone_then_silence() -> None:
    player = TonePlayer()
    assert not player.active
    assert player.next_frame() is None
    player.play(Tone.CONNECTED)
    heard = drained(player)
    expected = render(Tone.CONNECTED)
    np.testing.assert_array_equal(heard[: len(expected)], expected)
    assert not heard[len(expected) :].any()
    assert not player.active


def test_tones_follow_each_other() -> None:
    player = TonePlayer()
    player.play(Tone.ENDED)
    player.play(Tone.REPORT_SENT)
    expected = np.concatenate([render(Tone.ENDED), render(Tone.REPORT_SENT)])
    np.testing.assert_array_equal(drained(player)[: len(expected)], expected)


def test_repeating_tone_comes_again_after_its_pause() -> None:
    player = TonePlayer()
    player.play(Tone.SEEKING, repeat=True)
    sounding = [frame is not None for frame in frames(player, 700)]
    starts = [i for i, (a, b) in enumerate(itertools.pairwise([False, *sounding])) if b and not a]
    assert len(starts) == 4
    assert all(abs(b - a - 220) <= 2 for a, b in itertools.pairwise(starts))
    player.stop()
    assert not player.active


def test_a_new_state_ends_the_repeating_tone_and_a_click_does_not() -> None:
    player = TonePlayer()
    player.play(Tone.RINGBACK, repeat=True)
    player.play(Tone.PRESSED)
    frames(player, 200)
    assert player.active
    player.play(Tone.FAILED)
    frames(player, 200)
    assert not player.active


def test_stop_lets_the_tone_that_sounds_come_to_its_soft_end() -> None:
    player = TonePlayer()
    player.play(Tone.CONNECTED)
    player.play(Tone.BUSY)
    first = take(player)
    assert first is not None
    player.stop()
    heard = np.concatenate([first, drained(player)])
    np.testing.assert_array_equal(heard[: len(render(Tone.CONNECTED))], render(Tone.CONNECTED))
    assert not player.active


def test_queue_is_bounded() -> None:
    player = TonePlayer()
    for _ in range(100):
        player.play_samples(np.ones(480, np.int16))
    assert len(drained(player)) == QUEUE_LIMIT * 480


def test_words_are_said_as_they_are() -> None:
    player = TonePlayer()
    words = np.arange(1000, dtype=np.int16)
    player.play_samples(words)
    np.testing.assert_array_equal(drained(player)[:1000], words)
