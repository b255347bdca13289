"""What a person does with a card reader: put files onto the FAT partition of an image, and read them back."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

SECTOR = 512


def partition_start(disk: Path, name: str) -> int:
    """Byte where the partition of that name starts, from the image's GPT."""
    with disk.open("rb") as file:
        table = file.read(34 * SECTOR)
    for number in range(128):
        entry = table[2 * SECTOR + 128 * number :][:128]
        if entry[56:].decode("utf-16-le").rstrip("\0") == name:
            return int.from_bytes(entry[32:40], "little") * SECTOR
    raise LookupError(name)


def _fat(disk: Path) -> list[str]:
    return ["-i", f"{disk}@@{partition_start(disk, 'card')}"]


def put(disk: Path, name: str, content: str) -> None:
    with tempfile.NamedTemporaryFile() as file:
        file.write(content.encode())
        file.flush()
        subprocess.run(["mcopy", "-o", *_fat(disk), file.name, f"::{name}"], check=True, capture_output=True)


def get(disk: Path, name: str) -> str | None:
    """The text of a file, None when it is not there."""
    done = subprocess.run(["mtype", *_fat(disk), f"::{name}"], capture_output=True, check=False)
    return done.stdout.decode() if done.returncode == 0 else None


def holds(disk: Path, secret: str) -> bool:
    """Whether the bytes are anywhere on the FAT partition, in files or in what was freed."""
    start = partition_start(disk, "card")
    end = partition_start(disk, "bootstate")
    with disk.open("rb") as file:
        file.seek(start)
        return secret.encode() in file.read(end - start)
