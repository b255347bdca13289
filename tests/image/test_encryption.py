"""Data in LUKS under the board's serial number, in an image built so: this board opens it and no other."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from imaging.disk import partition_start

from tests.image import card
from tests.image.builder import build, flash
from tests.image.test_first_start import SETTINGS
from tests.machine.qemu import Machine, System

pytestmark = [pytest.mark.machine, pytest.mark.timeout(1800)]


def board(made: System, serial: str) -> System:
    return replace(made, extra=("-smbios", f"type=1,serial={serial}"))


@pytest.fixture
def encrypted(tmp_path: Path) -> System:
    """A card with an image that was built to encrypt; its steps are kept beside the others'."""
    out = tmp_path / "out"
    made = flash(
        build("amd64", "bench", out=out, settings=["base.encrypt_data=serial"]), tmp_path / "card.img"
    )
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
    start = partition_start(encrypted.disk, "data")
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
