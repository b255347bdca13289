"""Data in LUKS under the board's serial number, in an image built so: this board opens it and no other."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.image import card
from tests.image.test_first_start import SETTINGS
from tests.machine import system
from tests.machine.qemu import Machine, System

pytestmark = [pytest.mark.machine, pytest.mark.timeout(1800)]


def board(made: System, serial: str) -> System:
    return replace(made, extra=("-smbios", f"type=1,serial={serial}"))


@pytest.fixture
def encrypted(fresh: Callable[[], System], tmp_path: Path) -> System:
    """A card with an image that was built to encrypt; its steps are kept beside the others'."""
    plain = fresh()
    out = tmp_path / "out"
    command = [str(system.TOP / "image-build/build"), "--arch", "amd64", "--role", "bench", "--out", str(out)]
    command += ["--cache", str(system.CACHE), "--set", "base.encrypt_data=serial"]
    subprocess.run(command, check=True)
    words = (out / f"{system.NAME}.cmdline").read_text().strip()
    made = System(
        out / f"{system.NAME}.img",
        kernel=out / f"{system.NAME}.kernel",
        initrd=out / f"{system.NAME}.initrd",
        append=f"{words} console=ttyS0",
        memory_mb=plain.memory_mb,
        writable=True,
    )
    with made.disk.open("r+b") as file:
        file.truncate(system.DISK_BYTES)
    card.put(made.disk, "voicemeet.toml", SETTINGS)
    return made


def test_data_opens_on_its_own_board_only(encrypted: System) -> None:
    ask = """
        systemctl is-system-running --wait >/dev/null
        blkid -p -o value -s TYPE /dev/vda5
        findmnt -no SOURCE /data
        cat /etc/machine-id
        cat /run/voicemeet/data-remade 2>/dev/null || echo as it was
        grep -c secret-of-the-hub /boot/firmware/voicemeet.toml || true
    """
    with Machine(board(encrypted, "10000000a1b2c3d4")) as machine:
        first = machine.run(ask).output.splitlines()
        machine.power_off()
    assert first[:2] == ["crypto_LUKS", "/dev/mapper/voicemeet-data"]
    assert first[3:] == ["as it was", "1"]
    start = card.partition_start(encrypted.disk, "data")
    with encrypted.disk.open("rb") as file:
        file.seek(start)
        assert b"secret-of-the-hub" not in file.read()
    with Machine(board(encrypted, "10000000a1b2c3d4")) as machine:
        assert machine.run(ask).output.splitlines() == first
        machine.power_off()
    with Machine(board(encrypted, "100000009f8e7d6c")) as machine:
        other = machine.run(ask, check=False).output.splitlines()
        machine.power_off()
    assert other[:2] == first[:2]
    assert other[2] != first[2]
    assert other[3] == "not this board's"
    assert other[4] == "0"
