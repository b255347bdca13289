"""What a person does with a card reader: put files onto the FAT partition of an image, and read them back."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

from imaging.disk import partition_start


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
