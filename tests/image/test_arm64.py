"""The arm64 image as a Pi starts it: by U-Boot, from a slot; a button pressed from outside."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from imaging.disk import partition_start
from imaging.slot import extract

from tests.image import card
from tests.image.board import RaspberryPi3, VirtBoard
from tests.image.conftest import ARM64
from tests.image.test_first_start import SETTINGS
from tests.machine import system
from tests.machine.loader import BootState
from tests.machine.qemu import System

pytestmark = [pytest.mark.machine, pytest.mark.timeout(3600)]

PL061 = "/machine/unattached/device[8]"  # as `qom-list /machine/unattached` of QMP says
OUT_OF_ORDER = "Out of order: the loudspeaker is missing"
SHELL_WORDS = "console=ttyAMA0 systemd.debug_shell=ttyAMA1"


def press(qtest: Path, path: str, line: int) -> None:
    """Hold a line of the PL061 low for a while, from outside the machine."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(qtest))
        for level in (1, 0, 1):
            connection.sendall(f"set_irq_in {path} unnamed-gpio-in {line} {level}\n".encode())
            connection.recv(200)
            subprocess.run(["sleep", "0.5"], check=True)


def test_uboot_starts_the_slot_and_a_press_from_outside_is_seen(own_card: Callable[[], System]) -> None:
    disk = own_card()
    card.put(disk.disk, "boot.env", f"extra={SHELL_WORDS}\n")
    card.put(disk.disk, "voicemeet.toml", SETTINGS)
    with VirtBoard(replace(disk, kernel=None, initrd=None), system.CACHE) as board:
        said = board.run(
            """
            systemctl is-system-running --wait
            uname -m; cat /run/voicemeet/slot; systemctl is-active voicemeet-edge
            systemd-analyze | head -n 1
            awk '/MemTotal/ {t=$2} /MemAvailable/ {a=$2} END {print int((t-a)/1024) " MiB"}' /proc/meminfo
            dmsetup table voicemeet-root | awk '{print $3}'
            """,
            limit_s=600,
            check=False,
        ).output
        print(said)
        chip = re.search(r"gpiochip\d+", board.run("gpiodetect | grep -i pl061").output)
        assert chip is not None
        board.run(f"gpiomon -c {chip[0]} -b pull-up -p 20ms -n 2 5 >/tmp/edges & sleep 3")
        press(board.qtest, PL061, 5)
        edges = board.run(
            "for n in $(seq 50); do [ $(wc -l </tmp/edges) -ge 2 ] && break; sleep 0.2; done; cat /tmp/edges"
        )
        board.power_off()
    assert said.split()[:4] == ["running", "aarch64", "a", "active"]
    assert said.split()[-1] == "verity"
    assert "falling" in edges.output
    assert not card.holds(disk.disk, "secret-of-the-hub")


def test_a_damaged_kernel_is_not_started(own_card: Callable[[], System]) -> None:
    """U-Boot's script finds the wrong sum; with the other slot whole, that one starts."""
    disk = own_card()
    card.put(disk.disk, "boot.env", f"extra={SHELL_WORDS}\n")
    start_a, start_b = (partition_start(disk.disk, name) for name in ("root_a", "root_b"))
    slot = system.CACHE / "out" / f"{ARM64}.slot"
    with disk.disk.open("r+b") as file, slot.open("rb") as source:
        file.seek(start_b)
        shutil.copyfileobj(source, file, 1 << 20)
        file.seek(start_a + (1 << 20))
        file.write(b"damaged")
    BootState(["A", "B"], {"A": 3, "B": 3}).write(disk.disk)  # a flashed card knows A only; an update adds B
    with VirtBoard(replace(disk, kernel=None, initrd=None), system.CACHE) as board:
        assert board.run("cat /run/voicemeet/slot", limit_s=300).output.strip() == "b"
        said = board.last_words(500)
        board.close()
    assert "kernel is damaged" in said


def test_raspi3b_comes_up_from_its_card(own_card: Callable[[], System], tmp_path: Path) -> None:
    disk = own_card()
    card.put(disk.disk, "voicemeet.toml", SETTINGS)
    tree = tmp_path / "board.dtb"
    slot = system.CACHE / "out" / f"{ARM64}.slot"
    extract(slot, "dtb_bcm2837-rpi-3-b", tree)
    # What voicemeet-console.service says when the device has said READY to systemd, or has given up.
    said = RaspberryPi3(disk, system.CACHE, tree).watch(r"VoiceMeet Edge .*, slot a\r?\n  .*\n", 1500)
    print(said[-1500:])
    assert OUT_OF_ORDER in said  # it runs, and tells that QEMU's board has no sound card
    assert "taken over from the card: voicemeet.toml" in said
