"""The image of a device in figures, printed for docs/image-figures.md; judged is what its memory holds.

A shared machine's seconds say little: run it alone, and read `load` beside them.
"""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path

import pytest

from tests.image import card
from tests.image.builder import build, flash
from tests.image.test_first_start import SETTINGS
from tests.machine.qemu import Machine, System

pytestmark = [pytest.mark.machine, pytest.mark.timeout(1800)]

MEMORY_MB = 130  # used by the whole idle device; a Zero 2 W has 512
NO_SCREEN = ("-vga", "none")  # a kiosk has none, and its picture takes 4 MB of the kernel's memory
SERVICES = "voicemeet-edge systemd-journald systemd-udevd systemd-networkd systemd-resolved avahi-daemon"


@pytest.fixture
def device(tmp_path: Path) -> System:
    """The device's image for amd64 on a card of 3 GB, with settings."""
    made = flash(build("amd64", "device"), tmp_path / "card.img")
    card.put(made.disk, "voicemeet.toml", SETTINGS)
    return replace(made, extra=NO_SCREEN)


def test_times_and_memory_of_a_device(device: System) -> None:
    for start in ("first", "second"):
        before = time.monotonic()
        with Machine(device) as machine:
            said = machine.run(
                """
                until systemctl is-active -q voicemeet-edge; do sleep 0.2; done
                t() { systemctl show -P "$1" voicemeet-edge; }
                echo $(( $(t ActiveEnterTimestampMonotonic) / 1000 )) \
                     $(( ($(t ActiveEnterTimestampMonotonic) - $(t ExecMainStartTimestampMonotonic)) / 1000 ))
                touch /run/bench/ready
                """
            ).output.split()
            host_s = time.monotonic() - before
            load = os.getloadavg()[0]
            print(
                f"{start} start: READY {int(said[0]) / 1000:.1f} s after the kernel began, of it ours "
                f"{int(said[1]) / 1000:.1f} s; {host_s:.1f} s of the host's time; load {load:.1f}"
            )
            memory = machine.run(
                f"""
                systemctl is-system-running --wait >/dev/null
                # A start's last work is to prove itself.
                until [ "$(systemctl show -P InactiveEnterTimestampMonotonic voicemeet-prove)" -gt 0 ]; do
                    sleep 1
                done
                sleep 10
                awk '/MemTotal/ {{t=$2}} /MemAvailable/ {{a=$2}} END {{print int((t-a)/1024)}}' /proc/meminfo
                for unit in {SERVICES}; do
                    echo $unit $(awk '/^Pss:/ {{s+=$2}} END {{print int(s/1024)}}' \
                        /proc/$(systemctl show -P MainPID $unit)/smaps_rollup) MiB
                done
                systemd-analyze blame | head -n 12
                """
            ).output.splitlines()
            print(f"memory used, idle: {memory[0]} MiB; " + "; ".join(memory[1:]))
            machine.power_off()
        assert int(memory[0]) <= MEMORY_MB
