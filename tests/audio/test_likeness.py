"""The figure orders lines as an ear does."""

from __future__ import annotations

import numpy as np

from voicemeet_edge.audio.likeness import compare
from voicemeet_edge.testing.signals import speech_like
from voicemeet_edge.voice.format import SAMPLE_RATE, Samples
from voicemeet_edge.voice.opus import OpusDecoder, OpusEncoder

SAID = speech_like(3.0)


def late(samples: Samples, seconds: float = 0.12) -> Samples:
    return np.concatenate((np.zeros(round(seconds * SAMPLE_RATE), np.int16), samples))


def holes(share: float) -> Samples:
    out = SAID.copy()
    random = np.random.default_rng(3)
    for start in range(0, len(out), 960):
        if random.random() < share:
            out[start : start + 960] = 0
    return out


def test_the_same_later_and_softer_is_the_same() -> None:
    found = compare(SAID, late((SAID // 3).astype(np.int16)))
    assert found.score > 0.97
    assert abs(found.delay_ms - 120) < 1


def test_what_a_call_makes_of_it_is_nearly_the_same() -> None:
    encoder, decoder = OpusEncoder(32_000, 5, fec=True), OpusDecoder()
    frames = [SAID[at : at + 960].tobytes() for at in range(0, len(SAID) - 959, 960)]
    heard = np.concatenate([decoder.decode(encoder.encode(one)) for one in frames])
    encoder.close()
    assert compare(SAID, heard).score > 0.75


def test_gaps_make_it_worse_and_other_speech_or_silence_is_nothing() -> None:
    clean, some, many = (compare(SAID, late(holes(share))).score for share in (0.0, 0.05, 0.3))
    assert clean > some > many
    assert many < 0.7
    assert compare(SAID, late(speech_like(3.0, seed=9))).score < 0.6
    assert compare(SAID, np.zeros(4 * SAMPLE_RATE, np.int16)).score == 0.0
    assert compare(SAID, np.zeros(100, np.int16)).score == 0.0
