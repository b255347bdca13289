"""The kernel's modules as they go into a slot."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import cast

from imaging.kernel import prune
from imaging.project import Build

TEXTS = ("alias", "symbols", "builtin.alias")  # of what depmod(8) writes, what kmod does not read


def test_modules_have_the_same_dates_whenever_they_were_made(tmp_path: Path) -> None:
    """What is older than the release keeps its date in the slot."""
    folder = tmp_path / "usr/lib/modules/7.0.0-amd64"
    (folder / "kernel/drivers/nobody/has").mkdir(parents=True)

    def depmod(_command: Sequence[str | Path]) -> None:
        for name in ("dep", "dep.bin", *TEXTS):
            (folder / f"modules.{name}").touch()

    prune(cast(Build, SimpleNamespace(tools=SimpleNamespace(run=depmod))), folder, ["*"])
    assert sorted(path.name for path in folder.iterdir()) == ["modules.dep.bin", "modules.dep.text"]
    assert len({path.stat().st_mtime for path in (folder.parent, *folder.parent.rglob("*"))}) == 1
