"""U-Boot's script on arm64 and the loader that stands for it on amd64 count a slot's starts alike."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace

import pytest

from tests.image import card
from tests.image.board import VirtBoard
from tests.image.conftest import ARM64
from tests.image.test_arm64 import SHELL_WORDS
from tests.machine import system
from tests.machine.loader import BootState
from tests.machine.qemu import System

UNCONFIRMED = "systemd.mask=voicemeet-prove.service"  # else the slot gets its starts back

pytestmark = [pytest.mark.machine, pytest.mark.timeout(7200)]


def test_uboots_script_counts_as_the_loader_of_these_tests_does(own_card: Callable[[], System]) -> None:
    """The real script on arm64, unconfirmed starts: B once, then A, and it writes what `BootState` would."""
    disk = own_card()
    card.put(disk.disk, "boot.env", f"extra={SHELL_WORDS} {UNCONFIRMED}\n")
    start = card.partition_start(disk.disk, "root_b")
    with disk.disk.open("r+b") as file, (system.CACHE / "out" / f"{ARM64}.slot").open("rb") as source:
        file.seek(start)
        shutil.copyfileobj(source, file, 1 << 20)
    expected = BootState(["B", "A"], {"A": 3, "B": 1})
    expected.write(disk.disk)
    for slot in ("b", "a"):
        assert expected.choose() == slot.upper()
        with VirtBoard(replace(disk, kernel=None, initrd=None), system.CACHE) as board:
            said = board.run("cat /run/voicemeet/slot", limit_s=400).output.strip()
            board.close()
        found = BootState.read(disk.disk)
        print(f"U-Boot started slot {said}; what it wrote: {found}", flush=True)
        assert said == slot
        assert found == expected
