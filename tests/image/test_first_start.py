"""From a flashed card to a system: settings, refusals, old Imagers, no network, two disks."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.image import card
from tests.machine.qemu import Machine, System

pytestmark = [pytest.mark.machine, pytest.mark.timeout(1800)]

SETTINGS = """\
[backend]
url = "https://127.0.0.1:8443"
apikey = "secret-of-the-hub-0123456789"
[call]
pool = "frontdesk"
[panel]
factory = "none"
"""
PANEL = 'call_line = "GPIO17"\nreport_line = "GPIO27"\nlamp_line = "GPIO22"'
BENCH = Path(__file__).parent.parent / "machine/bench.sh"
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBfjF2GzAnYEc5FS0zHnWlZdZWj5aCvuXqmH2bLnDQvN desk\n"


def test_the_cards_files_are_taken_over_and_kept(fresh: Callable[[], System]) -> None:
    system = fresh()
    card.put(system.disk, "voicemeet.toml", SETTINGS)
    card.put(system.disk, "authorized_keys", KEY)
    card.put(
        system.disk,
        "network.toml",
        '[system]\nhostname = "lobby"\n[wifi]\nssid = "x"\npassword = "password"\n',
    )
    with Machine(system) as machine:
        said = machine.run(
            """
            systemctl is-system-running --wait
            hostname; systemctl is-active ssh voicemeet-edge
            stat -c %a /boot/firmware/voicemeet.toml /data/network/wpa_supplicant.conf
            """,
            check=False,
        ).output.split()
        identity = machine.run("cat /etc/machine-id /data/ssh/*.pub").output
        machine.power_off()
    assert said[1:] == ["lobby", "active", "active", "600", "600"]
    assert not card.holds(system.disk, "secret-of-the-hub")
    assert not card.holds(system.disk, 'password = "password"')
    assert "(kept)" in (card.get(system.disk, "voicemeet.toml") or "")
    assert card.get(system.disk, "authorized_keys") is None
    # And again, without anything new on the card, then with one line changed by hand.
    with Machine(system) as machine:
        assert machine.run("cat /etc/machine-id /data/ssh/*.pub").output == identity
        assert machine.run("test ! -e /run/voicemeet/card-changed; hostname").output.strip() == "lobby"
        machine.power_off()
    text = card.get(system.disk, "voicemeet.toml") or ""
    card.put(system.disk, "voicemeet.toml", text.replace("frontdesk", "backdoor"))
    with Machine(system) as machine:
        kept = machine.run(
            "systemctl is-system-running --wait >/dev/null; cat /boot/firmware/voicemeet.toml"
        ).output
        machine.power_off()
    assert "backdoor" in kept
    assert "secret-of-the-hub" in kept


def test_wrong_settings_are_told_on_card_console_and_lamp(fresh: Callable[[], System]) -> None:
    system = fresh()
    wrong = SETTINGS.replace("pool =", "pol =").replace('factory = "none"', PANEL)
    card.put(system.disk, "voicemeet.toml", wrong)
    with Machine(system) as machine:
        shutil.copy(BENCH, machine.share)
        lamp = machine.run(
            """
            until systemctl is-active -q voicemeet-edge-fault || systemctl is-failed -q voicemeet-edge; do
                sleep 1
            done
            . /run/bench/bench.sh
            gpio_chip box GPIO  # the unit tries again until the lines are there
            until_true 180 "the lamp is lit" lit box
            path=$(line box 22)/value
            for n in $(seq 240); do
                read -r value <$path; echo -n $value; sleep 0.05
            done
            """,
        ).output
        console = machine.last_words(200)
        machine.power_off()
    lit = lamp.count("1") / len(lamp)
    print(f"the lamp: {lamp}")
    assert 0.25 < lit < 0.75, (
        "slow on and off, as long the one as the other; every other pattern is mostly dark"
    )
    assert "call.pol" in console
    status = card.get(system.disk, "voicemeet-status.txt") or ""
    assert "NOT TAKEN OVER" in status
    assert "call.pol" in status


def test_an_old_imagers_traces_do_not_stop_it(fresh: Callable[[], System]) -> None:
    """Imager 1.x writes firstrun.sh and these words: they neither run nor keep the system from starting."""
    system = fresh()
    card.put(system.disk, "firstrun.sh", "#!/bin/sh\ntouch /data/was-run\nreboot\n")
    words = "systemd.run=/boot/firstrun.sh systemd.run_success_action=reboot"
    words += " systemd.unit=kernel-command-line.target"
    with Machine(replace(system, append=f"{system.append} {words}")) as machine:
        said = machine.run(
            """
            systemctl is-system-running --wait
            test -e /data/was-run && echo was run
            systemctl is-active multi-user.target
            """,
            check=False,
        ).output.split()
        machine.power_off()
    assert said == ["running", "active"]
    assert card.get(system.disk, "firstrun.sh") is None


def test_it_starts_without_any_network(fresh: Callable[[], System]) -> None:
    system = fresh()
    card.put(system.disk, "voicemeet.toml", SETTINGS)
    with Machine(replace(system, append=f"{system.append} modprobe.blacklist=virtio_net")) as machine:
        said = machine.run(
            """
            systemctl is-system-running --wait >/dev/null
            # Debian's own TURN server, which is on a bench only, cannot do without an address.
            systemctl list-units --failed --plain --no-legend | cut -d ' ' -f 1 | grep -v coturn
            ls /sys/class/net; systemctl is-active voicemeet-edge
            """,
            check=False,
        ).output.split()
        machine.power_off()
    assert said == ["lo", "active"]


def beginning(disk: Path) -> bytes:
    """What a start would have written to: the table, the card, the boot state."""
    with disk.open("rb") as file:
        return file.read(64 << 20)


def test_a_second_disk_with_our_names_is_left_alone(fresh: Callable[[], System], tmp_path: Path) -> None:
    system = fresh()
    other = tmp_path / "usb.img"
    subprocess.run(["cp", "--sparse=always", str(system.disk), str(other)], check=True)
    card.put(other, "voicemeet.toml", SETTINGS)
    before = beginning(other)
    drive = f"file={other},format=raw,if=none,id=u0"
    extra = ("-device", "qemu-xhci", "-drive", drive, "-device", "usb-storage,drive=u0")
    with Machine(replace(system, extra=extra)) as machine:
        said = machine.run(
            """
            cat /run/voicemeet/disk; findmnt -no SOURCE /data; findmnt -no SOURCE /boot/card
            ls /sys/block | grep sd
            """,
            check=False,
        ).output.split()
        machine.power_off()
    assert said[0] == "vda"
    assert said[1].startswith("/dev/vda5")
    assert said[2] == "/dev/vda1"
    assert "sda" in said
    assert beginning(other) == before
