"""The mark of a box that was opened: it stays until the box has other secrets."""

from __future__ import annotations

from pathlib import Path

import pytest

from voicemeet_edge.errors import SettingsError
from voicemeet_edge.settings import Settings
from voicemeet_edge.system.tamper import check, remember

KEYS = ["A" * 43, "B" * 42 + "A"]


def box(key: str = "", shown_pass: str = "", apikey: str = "a.b.c") -> Settings:
    security = {"intercom_keys": [key]} if key else {}
    return Settings.from_dict({"backend": {"apikey": apikey, "pass": shown_pass}, "security": security})


def test_a_box_that_was_never_opened_passes(tmp_path: Path) -> None:
    check(box(KEYS[0]), tmp_path / "mark")


@pytest.mark.parametrize(
    ("opened", "now", "passes"),
    [
        (box(KEYS[0]), box(KEYS[0]), False),
        (box(KEYS[0]), box(), False),  # erased
        (box(KEYS[0]), box("", "", "new"), False),  # a key is not made up for by a pass
        (box(KEYS[0]), box(KEYS[1]), True),
        (box(), box(), False),
        (box(), box("", "", "new"), True),
        (box(), box(KEYS[0]), True),
    ],
)
def test_other_secrets_lift_the_mark(tmp_path: Path, opened: Settings, now: Settings, passes: bool) -> None:
    mark = tmp_path / "mark"
    remember(opened, mark)
    assert not any(key in mark.read_text() for key in (*KEYS, "a.b.c"))
    if not passes:
        for _ in range(2):  # each start anew
            with pytest.raises(SettingsError, match="the box was opened"):
                check(now, mark)
        return
    check(now, mark)
    assert not mark.exists()


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"key"])
def test_a_mark_that_says_nothing_is_a_mark(tmp_path: Path, content: bytes) -> None:
    mark = tmp_path / "mark"
    mark.write_bytes(content)
    with pytest.raises(SettingsError):
        check(box(KEYS[1]), mark)


def test_without_a_place_for_it_it_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").touch()
    remember(box(), tmp_path / "file" / "mark")
    assert "cannot be noted" in caplog.text
