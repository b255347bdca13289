"""Back to what was flashed: a reset by the card's file or the panel, of a device and a hub; and lost data."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from imaging.disk import partition_start

from tests.image import card
from tests.image.builder import build, flash
from tests.machine.qemu import Machine
from tests.machine.station import CALLS, Station

pytestmark = [pytest.mark.machine, pytest.mark.timeout(7200)]


def wiped(station: Station, ask: Callable[[], object]) -> None:
    """Ask for a reset; afterwards nothing of device and hub is left, it says so, and can be set up anew."""
    secret = station.secret()
    identity = station.ask("cat /etc/machine-id").strip()
    station.ask("test -s /var/lib/voicemeet-hub/secrets.json; sync")
    ask()
    said = station.ask(
        """
        until_true 120 "it is up" systemctl is-active voicemeet-reset-done
        ls /boot/firmware /var/lib/voicemeet-hub /data/hub
        test ! -e /boot/card/factory-reset.txt && echo "Asked once."
        until_true 60 "the lamp says so" lit box
        cat /etc/machine-id
        """
    )
    station.off()
    assert secret
    assert "Asked once." in said
    assert "secrets.json" not in said
    assert "voicemeet.toml" not in said
    assert identity not in said
    assert "factory reset done" in station.console
    assert "Factory reset done" in (card.get(station.disk, "voicemeet-status.txt") or "")
    found = subprocess.run(["grep", "-aqF", secret, str(station.disk)], check=False)
    assert found.returncode == 1, "anywhere on the card"
    station.set_up()
    station.ask(CALLS)


def test_a_file_on_the_card_sets_device_and_hub_back(station: Station) -> None:
    def ask() -> None:
        station.off()
        card.put(station.disk, "factory-reset.txt", "please")

    wiped(station, ask)


def test_what_the_panel_asks_for_sets_it_back(station: Station) -> None:
    wiped(station, lambda: station.down("touch /run/voicemeet-edge/factory-reset; sleep 300"))


def test_a_data_partition_that_cannot_be_read_is_made_anew_and_it_says_so(station: Station) -> None:
    station.off()
    with station.disk.open("r+b") as file:
        file.seek(partition_start(station.disk, "data"))
        file.write(b"\x55" * (4 << 20))
    said = station.ask(
        "cat /run/voicemeet/data-remade; ls /boot/firmware; systemctl is-system-running --wait"
    )
    station.off()
    assert "the data partition cannot be read" in station.console
    assert "voicemeet.toml" not in said


def test_a_file_on_the_card_sets_an_image_back_that_is_only_a_hub(tmp_path: Path) -> None:
    made = flash(build("amd64", "hub"), tmp_path / "hub.img")
    key = """
        systemctl is-system-running --wait
        for n in $(seq 300); do systemctl is-active --quiet voicemeet-hub && break; sleep 1; done
        voicemeet-edge device-settings | sed -n 's/^apikey = "\\(.*\\)"/\\1/p'
    """
    with Machine(made) as machine:
        before = machine.run(f"{key}\nsync").output.split()
        machine.power_off()
    card.put(made.disk, "factory-reset.txt", "please")
    with Machine(made) as machine:
        after = machine.run(key).output.split()
        machine.power_off()
        assert "factory reset done" in machine.last_words(300)
    print(f"the hub's key is another: {before[1] != after[1]}", flush=True)
    assert (before[0], after[0]) == ("running", "running")
    assert before[1] != after[1]
    assert "Factory reset done" in (card.get(made.disk, "voicemeet-status.txt") or "")
    found = subprocess.run(["grep", "-aqF", before[1], str(made.disk)], check=False)
    assert found.returncode == 1, "anywhere on the card"
