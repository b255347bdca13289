from __future__ import annotations

import json
from pathlib import Path

from voicemeet_edge.system.image_state import MAX_TEXT, ImageState, fault_of, read_image_state


def image(tmp_path: Path) -> None:
    (tmp_path / "slot").write_text("b\n")
    (tmp_path / "release").write_text(
        'NAME="x"\nBOARD=voicemeet-edge-device-arm64\nSUPPORT_UNTIL=2031-12-31\n'
    )


def read(tmp_path: Path) -> ImageState | None:
    return read_image_state(tmp_path, tmp_path / "release")


def test_a_system_of_ones_own_says_nothing(tmp_path: Path) -> None:
    assert read(tmp_path) is None


def test_slot_board_and_support_are_read(tmp_path: Path) -> None:
    image(tmp_path)
    assert read(tmp_path) == ImageState("b", "voicemeet-edge-device-arm64", "2031-12-31")


def test_what_happened_is_told(tmp_path: Path) -> None:
    image(tmp_path)
    told = {"trial": True, "last": "Updated to 0.2.0.", "offered": "0.3.0", "failed": 2}
    (tmp_path / "update.json").write_text(json.dumps(told))
    (tmp_path / "integrity-lost").touch()
    (tmp_path / "data-remade").write_text("not ext4\n")
    state = read(tmp_path)
    assert state is not None
    assert (state.on_trial, state.last_update, state.offered, state.updates_failed) == (
        *(True, "Updated to 0.2.0.", "0.3.0", 2),
    )
    assert (state.integrity_lost, state.data_remade) == (True, "not ext4")


def test_spoiled_files_do_no_harm(tmp_path: Path) -> None:
    image(tmp_path)
    for text in ("", "[]", "{", json.dumps({"last": "x" * 2000, "failed": "y", "trial": 5})):
        (tmp_path / "update.json").write_text(text)
        state = read(tmp_path)
        assert state is not None
        assert len(state.last_update) <= MAX_TEXT
        assert (state.updates_failed, state.on_trial) == (0, False)


def test_the_lamp_says_the_worst() -> None:
    assert fault_of(ImageState("a", updates_failed=3)) is None
    assert fault_of(ImageState("a", update_refused=True)) == "update_refused"
    assert fault_of(ImageState("a", update_refused=True, integrity_lost=True)) == "integrity_lost"
