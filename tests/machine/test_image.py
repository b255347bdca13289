"""The image as it comes: verified, read-only, its data grown to the disk, nobody let in."""

from __future__ import annotations

import os
import re

import pytest

from tests.machine.conftest import figure
from tests.machine.qemu import Machine

pytestmark = [pytest.mark.machine, pytest.mark.timeout(2400)]  # the first of all waits for the build

MEMORY_MB = 130  # used by the whole system while idle; a Zero 2 W has 512
ROOT_MB = 260  # a slot


def test_the_root_is_verified_and_cannot_be_written(machine: Machine) -> None:
    said = machine.run(
        """
        findmnt -no FSTYPE,OPTIONS / | grep -w ro
        dmsetup table voicemeet-root | awk '{print $3}'
        touch /usr/bin/x /etc/x /var/lib/x 2>&1 | grep -c 'Read-only file system'
        """
    ).output.splitlines()
    assert said[0].startswith("erofs")
    assert said[1:] == ["verity", "3"]


def test_the_data_partition_has_grown_to_the_end_of_the_disk(machine: Machine) -> None:
    said = machine.run(
        """
        cat /sys/class/block/vda/size /sys/class/block/vda5/start /sys/class/block/vda5/size
        df -B512 --output=size /data | tail -n 1
        sfdisk --verify /dev/vda 2>&1 | grep -c 'No errors'
        """
    ).output.splitlines()
    disk, start, size, file_system = (int(line) for line in said[:4])
    assert disk - (start + size) < 4096
    assert file_system > 0.9 * size
    assert said[4] == "1"


def test_what_a_device_needs_for_itself_was_made_on_it(machine: Machine) -> None:
    said = machine.run("cat /etc/machine-id; findmnt -no SOURCE /etc/machine-id; hostname").output.split()
    assert re.fullmatch("[0-9a-f]{32}", said[0])
    assert said[1].startswith("/dev/vda5")
    assert said[2] == "voicemeet"


def test_nobody_is_let_in(machine: Machine) -> None:
    said = machine.run(
        """
        awk -F: '$2 !~ /^[!*]/' /etc/shadow | wc -l
        systemctl is-active ssh.service
        systemctl list-units --plain --no-legend '*getty*' | wc -l
        ss -Hlnt | grep -vc -E '127.0.0.5[34]|\\[?::1' || true
        """,
        check=False,
    ).output.split()
    assert said == ["0", "inactive", "0", "0"]


def test_its_figures(machine: Machine) -> None:
    """Printed for the record; only the sizes that a board depends on are judged, never times."""
    said = machine.run(
        """
        systemctl is-system-running --wait >/dev/null
        systemd-analyze | head -n 1
        awk '/MemTotal/ {t=$2} /MemAvailable/ {a=$2} END {print int((t-a)/1024)}' /proc/meminfo
        echo $(( ($(dmsetup table voicemeet-slot | awk '{print $2}') + 40000) / 2048 ))
        df -m --output=used /data | tail -n 1
        """
    ).output.splitlines()
    figure(f"shell after {machine.booted_after_s:.1f} s; {said[0]}; load {os.getloadavg()[0]:.0f}")
    figure(f"memory, idle: {said[1]} MiB; disk: root {said[2]} MiB, data {int(said[3])} MiB")
    assert int(said[1]) <= MEMORY_MB
    assert int(said[2]) <= ROOT_MB
