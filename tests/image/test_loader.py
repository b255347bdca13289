"""U-Boot's script on arm64 and the loader that stands for it on amd64 choose and count alike."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Callable
from dataclasses import replace

import pytest
from imaging.disk import partition_start

from tests.image.board import VirtBoard
from tests.image.conftest import ARM64
from tests.machine import system
from tests.machine.loader import COPY_BYTES, BootState
from tests.machine.qemu import System

pytestmark = [pytest.mark.machine, pytest.mark.timeout(7200)]

HANDED_OVER = "Starting kernel"  # U-Boot's last words; it has written the boot state long before
LIMIT_S = 600.0  # s until they come; ten on two quiet cores


@pytest.fixture
def both_slots(own_card: Callable[[], System]) -> System:
    """A card with the same system in both slots."""
    made = own_card()
    start = partition_start(made.disk, "root_b")
    with made.disk.open("r+b") as file, (system.CACHE / "out" / f"{ARM64}.slot").open("rb") as source:
        file.seek(start)
        shutil.copyfileobj(source, file, 1 << 20)
    return replace(made, kernel=None, initrd=None)


def started(made: System) -> str:
    """Start the board until U-Boot has handed over to a kernel, and take the power; the slot that it took."""
    board = VirtBoard(made, system.CACHE)
    try:
        board.start_unasked()
        until = time.monotonic() + LIMIT_S
        while HANDED_OVER not in board.last_words(1000):
            assert board.runs
            assert time.monotonic() < until, board.last_words(50)
            time.sleep(0.2)
        found: list[str] = re.findall(r"slot ([AB]): ", board.last_words(1000))
    finally:
        board.close()
    return found[-1]


def test_uboots_script_counts_as_the_loader_of_these_tests_does(both_slots: System) -> None:
    """Starts that nobody confirms: one of B, three of A, then each gets three again."""
    expected = BootState(["B", "A"], {"A": 3, "B": 1})
    expected.write(both_slots.disk)
    for number in range(6):
        slot = expected.choose()
        assert started(both_slots) == slot
        found = BootState.read(both_slots.disk)
        print(f"start {number + 1}: slot {slot}, then {found}", flush=True)
        assert found == expected


@pytest.mark.parametrize("damaged", [(0,), (1,), (0, 1)], ids=["first", "second", "both"])
def test_a_damaged_copy_of_the_boot_state_is_taken_for_what_it_is(
    both_slots: System, damaged: tuple[int, ...]
) -> None:
    BootState(["B", "A"], {"A": 1, "B": 2}).write(both_slots.disk)
    with both_slots.disk.open("r+b") as file:
        for copy in damaged:
            file.seek(partition_start(both_slots.disk, "bootstate") + copy * COPY_BYTES + 20)
            file.write(b"damaged")
    expected = BootState.read(both_slots.disk)
    slot = expected.choose()
    assert started(both_slots) == slot
    print(f"slot {slot}, then {BootState.read(both_slots.disk)}", flush=True)
    assert BootState.read(both_slots.disk) == expected
