"""A step's result is kept until what it was made from changes, and is given out as it was made."""

from __future__ import annotations

import os
from pathlib import Path

from imaging.steps import Steps

MADE = 1_700_000_000  # s since 1970


def make(path: Path) -> None:
    path.mkdir()
    (path / "file").write_text("made")
    os.utime(path, (MADE, MADE))


def never(path: Path) -> None:
    raise AssertionError(f"{path.name} is made though it is there")


def test_a_kept_folder_has_the_date_it_was_made_with(tmp_path: Path) -> None:
    """It is the root of a file system, whose date goes into the image."""
    first = Steps(tmp_path).keep("a system", "system", ["this"], make)
    again = Steps(tmp_path).keep("a system", "system", ["this"], never)
    assert again == first
    assert again.stat().st_mtime == MADE


def test_the_two_that_were_used_last_are_kept(tmp_path: Path) -> None:
    steps = Steps(tmp_path)
    one, two = (steps.keep("a system", "system", [number], make) for number in (1, 2))
    for mark, age in ((one, 20), (two, 10)):
        os.utime(tmp_path / "used" / mark.name, (MADE - age, MADE - age))
    assert steps.keep("a system", "system", [1], never) == one  # so the other is the older one now
    three = steps.keep("a system", "system", [3], make)
    assert sorted(tmp_path.glob("system-*")) == sorted((one, three))
    assert sorted(path.name for path in (tmp_path / "used").iterdir()) == sorted((one.name, three.name))
