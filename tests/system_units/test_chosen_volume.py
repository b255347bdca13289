"""The volume chosen at the buttons outlives a start, and gives way to the settings."""

from __future__ import annotations

from pathlib import Path

import pytest

from voicemeet_edge.system.chosen_volume import remember, remembered


def test_it_counts_while_the_setting_is_the_same(tmp_path: Path) -> None:
    file = tmp_path / "volume"
    assert remembered(80, file) is None
    remember(80, 50, file)
    assert remembered(80, file) == 50
    assert remembered(70, file) is None
    assert [one.name for one in tmp_path.iterdir()] == ["volume"]


@pytest.mark.parametrize("text", ["", "80", "80 101", "80 -1", "loud", "80 50 3", "\0" * 60])
def test_what_is_no_volume_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "volume").write_text(text)
    assert remembered(80, tmp_path / "volume") is None


def test_without_a_place_it_is_forgotten(tmp_path: Path) -> None:
    remember(80, 50, tmp_path / "none" / "volume")
    assert remembered(80, tmp_path / "none" / "volume") is None
