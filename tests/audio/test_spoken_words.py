"""The spoken check words: right words, one voice, nothing on a command line, never a hang."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from voicemeet_edge.audio import spoken_words
from voicemeet_edge.audio.spoken_words import say, speak
from voicemeet_edge.choices import Language
from voicemeet_edge.voice.format import SAMPLE_RATE

pytestmark = pytest.mark.system

needs_espeak = pytest.mark.skipif(shutil.which("espeak-ng") is None, reason="needs Debian's espeak-ng")


def fake_espeak(directory: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    program = directory / "espeak-ng"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{directory}:/usr/bin:/bin")


@needs_espeak
async def test_three_words_are_a_few_seconds_of_sound() -> None:
    samples = await speak(("artist", "almighty", "minnow"), Language.EN)
    assert samples is not None
    assert 1.0 < len(samples) / SAMPLE_RATE < 8.0
    assert 15_000 < np.abs(samples.astype(np.int32)).max() <= spoken_words.PEAK


@needs_espeak
async def test_other_words_sound_different() -> None:
    one, other = await speak(("aardvark",), Language.EN), await speak(("Zulu",), Language.EN)
    assert one is not None
    assert other is not None
    assert len(one) != len(other) or not np.array_equal(one, other)


async def test_words_go_in_by_the_pipe_and_not_by_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_espeak(tmp_path, f'echo "$@" > {tmp_path}/arguments; cat > {tmp_path}/input; exit 1', monkeypatch)
    assert await speak(("secretword",), Language.EN) is None
    assert "secretword" not in (tmp_path / "arguments").read_text()
    assert "secretword" in (tmp_path / "input").read_text()


@pytest.mark.parametrize(
    ("language", "said", "voice"),
    [
        (Language.EN, "Check words ... artist ... almighty ... minnow", "en-us"),
        (Language.DE, "Prüfzahlen ... 15 ... 5 ... 129", "de"),
        (Language.FR, "Chiffres de contrôle ... 15 ... 5 ... 129", "fr-fr"),
    ],
)
async def test_other_languages_say_the_words_as_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, language: Language, said: str, voice: str
) -> None:
    fake_espeak(tmp_path, f'echo "$@" > {tmp_path}/arguments; cat > {tmp_path}/input; exit 1', monkeypatch)
    assert await speak(("artist", "almighty", "minnow"), language) is None
    assert (tmp_path / "input").read_text() == said
    assert (tmp_path / "arguments").read_text().split()[:2] == ["-v", voice]


@needs_espeak
@pytest.mark.parametrize("language", Language)
async def test_the_synthesiser_has_a_voice_for_each_language(language: Language) -> None:
    assert await say("1 2 3", language) is not None


async def test_a_synthesiser_that_hangs_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_espeak(tmp_path, "exec sleep 60", monkeypatch)
    monkeypatch.setattr(spoken_words, "TIMEOUT_S", 0.2)
    assert await speak(("artist",), Language.EN) is None


async def test_what_is_no_sound_is_not_played(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_espeak(tmp_path, "cat > /dev/null; echo this is no WAV file", monkeypatch)
    assert await speak(("artist",), Language.EN) is None


async def test_without_a_synthesiser_nothing_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert await speak(("artist",), Language.EN) is None
    assert await speak((), Language.EN) is None
