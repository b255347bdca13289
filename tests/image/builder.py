"""Images of every role and architecture as image-build makes them, and cards with a copy of one."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from tests.machine import system
from tests.machine.qemu import System

CONSOLES = {"amd64": "ttyS0", "arm64": "ttyAMA0"}
MEMORY_MB = 512  # what a Zero 2 W has


def build(arch: str, role: str, *, out: Path | None = None, settings: Sequence[str] = ()) -> System:
    """The image, built when it is missing: for arm64 from nothing half an hour of emulation.

    `settings` are words for --set; an image with some needs an `out` of its own.
    """
    reason = system.why_not()
    if reason:
        pytest.skip(f"THE {role.upper()}'S IMAGE FOR {arch} WAS NOT TESTED: {reason}")
    out = out or system.CACHE / "out"
    command = [str(system.TOP / "image-build/build"), "--arch", arch, "--role", role, "--out", str(out)]
    command += ["--cache", str(system.CACHE)]
    for words in settings:
        command += ["--set", words]
    subprocess.run(command, check=True)
    name = f"voicemeet-edge-{role}-{arch}"
    return System(
        out / f"{name}.img",
        kernel=out / f"{name}.kernel",
        initrd=out / f"{name}.initrd",
        append=f"{(out / f'{name}.cmdline').read_text().strip()} console={CONSOLES[arch]}",
        memory_mb=MEMORY_MB,
        writable=True,
    )


def flash(made: System, disk: Path, size: int = system.DISK_BYTES) -> System:
    """Write the image onto a card of that size, a file of its own; what is written to it stays."""
    disk.unlink(missing_ok=True)
    subprocess.run(["cp", "--sparse=always", str(made.disk), str(disk)], check=True)
    os.truncate(disk, size)
    return replace(made, disk=disk, writable=True)
