"""The file that says a factory reset was asked for."""

from __future__ import annotations

from pathlib import Path

import pytest

from voicemeet_edge.system.reset_request import leave_request


def test_it_is_made_where_the_unit_has_room(tmp_path: Path) -> None:
    path = leave_request({"RUNTIME_DIRECTORY": str(tmp_path)})
    assert path == tmp_path / "factory-reset"
    assert path.read_bytes() == b""
    assert path.stat().st_mode & 0o777 == 0o600
    assert leave_request({"RUNTIME_DIRECTORY": str(tmp_path)}) == path  # asked for twice


@pytest.mark.parametrize("folder", ["", "/nowhere/at/all"])
def test_without_room_it_says_so_and_no_more(folder: str, caplog: pytest.LogCaptureFixture) -> None:
    assert leave_request({"RUNTIME_DIRECTORY": folder}) is None
    assert len(caplog.records) == 1
