"""What the commands share: a small file is read, and no more of it than is asked for."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from voicemeet_edge.cli_common import MAX_KEY_FILE, text_of
from voicemeet_edge.errors import LocalError


def test_a_file_and_standard_input_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "key").write_text("abc\n")
    monkeypatch.setattr("sys.stdin", io.StringIO("def\n"))
    assert (text_of(str(tmp_path / "key")), text_of("-")) == ("abc\n", "def\n")


def test_of_a_large_file_no_more_is_read_than_a_key_has(tmp_path: Path) -> None:
    # Fails when all of it is read first: what comes behind is no text.
    (tmp_path / "card.img").write_bytes(b"0" * 1_000_000 + b"\xff")
    assert text_of(str(tmp_path / "card.img")) == "0" * MAX_KEY_FILE


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(LocalError, match="missing: not a readable text file"):
        text_of(str(tmp_path / "missing"))
