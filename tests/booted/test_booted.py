"""The booted system itself: a systemd that is alone, and goes without a trace."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.booted.booted import Booted, cgroup2

pytestmark = pytest.mark.timeout(900)


def test_systemd_is_the_first_process_and_everything_is_up(debian: Booted) -> None:
    assert debian.run("cat /proc/1/comm").strip() == "systemd"
    assert debian.run("systemctl is-active multi-user.target dbus").split() == ["active"] * 2
    assert debian.run("pgrep -c pytest || true").strip() == "0", "a process of ours is seen"


def test_the_machine_is_out_of_its_reach(debian: Booted) -> None:
    mark = Path("/proc/sys/kernel/hostname").read_text()
    debian.run("hostname somewhere; ! sysctl -q -w kernel.panic=7 2>/dev/null; ! touch /sys/x 2>/dev/null")
    assert Path("/proc/sys/kernel/hostname").read_text() == mark
    assert debian.run("ls /sys/class/net").split() == ["eth0", "lo"]
    assert debian.run("ls / | grep -c old || true").strip() == "0"


def test_a_service_gets_its_credentials_and_may_read_nothing_else(debian: Booted) -> None:
    said = debian.run(
        "echo word >/root/secret; systemd-run --wait --pipe -q -p LoadCredential=it:/root/secret "
        "-p DynamicUser=yes -p PrivateUsers=yes sh -c 'cat $CREDENTIALS_DIRECTORY/it; ! cat /root/secret'"
    )
    assert said.splitlines()[0] == "word"


def test_a_reboot_keeps_the_disk_and_nothing_else(debian: Booted) -> None:
    debian.run("touch /root/kept /run/lost")
    debian.reboot()
    assert debian.run("ls /root/kept /run/lost 2>/dev/null || true").split() == ["/root/kept"]


def test_nothing_is_left_of_it(debian: Booted) -> None:
    debian.end()
    tree = cgroup2()
    assert tree is not None
    assert list(tree.glob(f"voicemeet-booted-{os.getpid()}-*")) == []
    assert debian.folder.name not in Path("/proc/mounts").read_text()
    debian.start()
