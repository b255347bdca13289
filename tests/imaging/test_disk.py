"""The disk image: flashed by its block map onto a used card, it leaves nothing of the data that was there."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from imaging.disk import BLANK_BYTES, MIB, SECTOR, blank_data, partition_start

DATA_AT = 3 * MIB


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    path = tmp_path / "disk.img"
    entry = bytes(32) + (DATA_AT // SECTOR).to_bytes(8, "little") + bytes(16) + "data".encode("utf-16-le")
    with path.open("wb") as file:
        file.seek(2 * SECTOR + 4 * 128)
        file.write(entry)
        file.truncate(8 * MIB)
    return path


def test_the_beginning_of_data_is_written_and_no_hole(disk: Path) -> None:
    blank_data(disk)
    with disk.open("rb") as file:
        assert os.lseek(file.fileno(), MIB, os.SEEK_DATA) == DATA_AT
        assert os.lseek(file.fileno(), DATA_AT, os.SEEK_HOLE) == DATA_AT + BLANK_BYTES
        file.seek(DATA_AT)
        assert not any(file.read(BLANK_BYTES))


def test_a_partition_that_is_not_there_is_named(disk: Path) -> None:
    with pytest.raises(LookupError, match="root_c"):
        partition_start(disk, "root_c")
