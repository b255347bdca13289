"""A recorded sentence is used when it is one."""

from __future__ import annotations

import wave
from pathlib import Path

import pytest

from voicemeet_edge.audio import prompts
from voicemeet_edge.audio.prompts import recorded
from voicemeet_edge.choices import Language
from voicemeet_edge.testing.signals import speech_like


def write(path: Path, rate: int = 48_000) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(speech_like(0.5)[: rate // 2].tobytes())


@pytest.mark.parametrize("rate", [48_000, 16_000])
def test_one_that_is_there_is_used_in_its_language_only(tmp_path: Path, rate: int) -> None:
    write(tmp_path / "de" / "no_answer.wav", rate)
    sentence = recorded("no_answer", Language.DE, tmp_path)
    assert sentence is not None
    assert abs(len(sentence) - 24_000) < 100
    assert recorded("no_answer", Language.EN, tmp_path) is None
    assert recorded("nobody", Language.DE, tmp_path) is None


def test_what_is_no_sound_or_too_long_is_none_and_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "en").mkdir()
    (tmp_path / "en" / "failed.wav").write_bytes(b"RIFF and no more")
    assert recorded("failed", Language.EN, tmp_path) is None
    write(tmp_path / "en" / "nobody.wav")
    monkeypatch.setattr(prompts, "MAX_BYTES", 1000)
    assert recorded("nobody", Language.EN, tmp_path) is None
    assert len(caplog.records) == 2
