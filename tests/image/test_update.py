"""Every way an update can go wrong, and the ways back: `make test-update`. Each ends in a system that calls.

The one good and one unhealthy update of tests/machine/test_update.py are not repeated here; the roll-out over
a thousand devices is tests/update/test_rollout.py.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.image import card
from tests.image.board import VirtBoard
from tests.image.conftest import ARM64
from tests.image.test_arm64 import SHELL_WORDS
from tests.machine import system
from tests.machine.loader import BootState, next_start
from tests.machine.qemu import Machine, MachineError, System
from tests.machine.station import Station, inside, restart_by

pytestmark = [pytest.mark.machine, pytest.mark.timeout(7200)]

CUTS = int(os.environ.get("VOICEMEET_POWER_CUTS", "20"))
SEED = int(os.environ.get("VOICEMEET_SEED", "1"))
STARTS = 3

READY = 'until_true 240 "the device is ready" says voicemeet-edge "Ready: press call"'
PROVED = 'until_true 400 "it proves itself" test -e /run/voicemeet/proved'
SETTLED = 'until_true 240 "the start is judged" test -e /run/voicemeet/update.json'


@pytest.fixture
def station(built: System, tmp_path: Path) -> Iterator[Station]:
    made = Station(built, tmp_path)
    yield made
    made.disk.unlink()


def update_to(station: Station, bundle: Path, *, first: bool = False) -> str:
    """Write a bundle and let the machine go down for it."""
    with station.start(bundle) as machine:
        if first:
            station.first_start(machine)
        else:
            inside(machine, READY)
        return restart_by(machine, f"voicemeet-edge update /run/bench/{bundle.name}")


def test_there_and_back_again_with_a_call_in_between(station: Station) -> None:
    first, second = station.bundle("0.2.0"), station.bundle("0.3.0")
    update_to(station, first, first=True)
    with station.start(second) as machine:
        said = inside(
            machine,
            f"""
            cat /run/voicemeet/slot
            {PROVED}
            gpio_chip peer PEER
            device_settings /run/peer/voicemeet.toml Peer PEER answerer
            second_device; systemctl start voicemeet-peer
            call_up; hang_up
            voicemeet-edge update --history
            """,
            limit_s=1200,
        )
        print(said)
        assert said.startswith("b\n")
        restart_by(machine, f"voicemeet-edge update /run/bench/{second.name}")
    with station.start() as machine:
        said = inside(machine, f"cat /run/voicemeet/slot; {PROVED}; voicemeet-edge update --history")
        assert said.startswith("a\n")
        assert "Updated to 0.3.0." in said


def test_an_update_during_a_call_waits_for_its_end(station: Station) -> None:
    bundle = station.bundle("0.2.0")
    with station.start(bundle) as machine:
        station.first_start(machine)
        said = inside(
            machine,
            f"""
            gpio_chip peer PEER
            device_settings /run/peer/voicemeet.toml Peer PEER answerer
            second_device; systemctl start voicemeet-peer
            call_up
            voicemeet-edge update /run/bench/{bundle.name} >/run/said 2>&1 &
            until_true 120 "it waits" grep -q "waits for its end" /run/said
            says voicemeet-edge "In a call" && echo "the call goes on"
            """,
            limit_s=1200,
        )
        assert "the call goes on" in said
        assert "Version 0.2.0 starts now" in restart_by(machine, "hang_up; tail -f /run/said")
    assert station.boot_state().order[0] == "B"


def proof_that_fails(station: Station, words: str, before: str, why: str) -> None:
    """Update to a system with these words for its kernel; it is taken back and says why."""
    bad = station.bundle("0.2.0", words=words)
    update_to(station, bad, first=True)
    with station.start() as machine:
        said = restart_by(machine, f"{before}\nprove 30 || true", limit_s=600)
        print(said)
        assert "is taken back" in said
        assert why in said
    with station.start() as machine:
        said = inside(machine, f"cat /run/voicemeet/slot; {READY}; voicemeet-edge update --history")
        assert said.startswith("a\n")
        assert why in said


def test_one_whose_sound_is_dead_is_taken_back(station: Station) -> None:
    proof_that_fails(station, "module_blacklist=snd_aloop", "true", "microphone and loudspeaker")


def test_one_whose_self_test_call_fails_is_taken_back(station: Station) -> None:
    """The relay stands still in this one: everything is up, and no call gets through."""
    relay = 'until_true 240 "the relay is up" pgrep turnserver; pkill -STOP turnserver'
    proof_that_fails(station, "", relay, "self-test call did not pass")


@pytest.mark.parametrize(
    ("words", "what"),
    [
        ("systemd.mask=voicemeet-prove.service", "never confirmed"),
        ("rdinit=/bin/dmsetup", "its first process ends: the kernel panics"),
    ],
)
def test_one_that_never_proves_itself_is_left_after_three_starts(
    station: Station, words: str, what: str
) -> None:
    print(what)
    update_to(station, station.bundle("0.2.0", words=words), first=True)
    for _ in range(STARTS):
        assert station.boot_state().choose() == "B"
        start_and_cut(station)
    with station.start() as machine:
        said = inside(
            machine, f"cat /run/voicemeet/slot; {READY}; {SETTLED}; voicemeet-edge update --history"
        )
        print(said)
        assert said.startswith("a\n")
        assert "did not start, or was started again before it had proved itself" in said


def start_and_cut(station: Station) -> None:
    """Start the machine, wait until it does something or ends by itself, and take its power."""
    try:
        with Machine(next_start(station.system)) as machine:
            machine.run("true")
    except MachineError as error:
        assert "QEMU ended" in str(error)  # noqa: PT017 - a machine that restarts by itself is one of both ways


def test_what_is_not_ours_is_refused_and_nothing_changes(station: Station) -> None:
    station.key("stranger")
    forged = station.bundle("0.2.0", key="stranger")
    forged = forged.rename(forged.with_name("forged.raucb"))
    other = station.bundle("0.2.1", role="device")
    older = station.bundle("0.0.9")
    cut = station.bundle("0.2.2")
    with cut.open("r+b") as file:
        file.truncate(cut.stat().st_size // 2)
    with station.start(forged, other, older, cut) as machine:
        station.first_start(machine)
        for bundle, why in (
            (forged, "nobody this device trusts"),
            (other, "It is for voicemeet-edge-device-amd64"),
            (older, "older than"),
            (cut, "no bundle, or was cut off"),
        ):
            done = machine.run(f"voicemeet-edge update /run/bench/{bundle.name}", check=False, limit_s=300)
            print(done.output)
            assert done.status == 1
            assert why.lower() in done.output.lower()
            assert why.lower() in inside(machine, "voicemeet-edge update --history").lower()
        inside(machine, f"test ! -e /data/lib/voicemeet-update/on-trial; {READY}")
        machine.power_off()
    assert station.boot_state().order == ["A"]


def test_the_power_may_go_while_a_slot_is_written_and_switched(station: Station) -> None:
    chance = random.Random(SEED)
    bundle = station.bundle("0.2.0")
    with station.start(bundle) as machine:
        station.first_start(machine)
        begin = time.monotonic()
        restart_by(machine, f"voicemeet-edge update /run/bench/{bundle.name}")
        whole_s = time.monotonic() - begin
    for number in range(CUTS):
        with station.start(bundle) as machine:
            said = inside(
                machine, f"cat /run/voicemeet/slot; grep -c apikey $BOX_SETTINGS; {SETTLED}"
            ).split()
            assert said[1:] == ["1"], "its settings are there"
            seconds = chance.uniform(0.0, 1.1) * whole_s
            print(
                f"cut {number + 1} of {CUTS}, slot {said[0]}, after {seconds:.0f} s of {whole_s:.0f}",
                flush=True,
            )
            cut_while(machine, f"voicemeet-edge update --force /run/bench/{bundle.name}", seconds)
    with station.start() as machine:
        print(
            inside(machine, f"cat /run/voicemeet/slot; {READY}; {SETTLED}; voicemeet-edge update --history")
        )


def cut_while(machine: Machine, command: str, seconds: float) -> None:
    """Take the power some seconds into a command; a machine that went down by itself before is as good."""
    try:
        machine.run(f"{command} >/dev/null 2>&1 & sleep {seconds:.1f}")
    except MachineError as error:
        assert "QEMU ended" in str(error)  # noqa: PT017 - it restarted by itself
    machine.close()


def test_the_other_slot_is_started_on_purpose(station: Station) -> None:
    update_to(station, station.bundle("0.2.0"), first=True)
    with station.start() as machine:
        inside(machine, PROVED, limit_s=600)
        said = restart_by(machine, "voicemeet-edge update --switch")
        assert "Version 0.1.0 in slot a starts now" in said
    with station.start() as machine:
        said = inside(
            machine, f"cat /run/voicemeet/slot; {PROVED}; voicemeet-edge update --history", limit_s=600
        )
        assert said.startswith("a\n")


def wiped(station: Station, ask: Callable[[Machine], None]) -> None:
    """Ask for a reset; afterwards nothing of device and hub is left, and it says so."""
    with station.start() as machine:
        station.first_start(machine)
        secret = inside(machine, "sed -n 's/apikey = \"\\(.*\\)\"/\\1/p' $BOX_SETTINGS").strip()
        identity = inside(machine, "cat /etc/machine-id").strip()
        inside(machine, "test -s /var/lib/voicemeet-hub/secrets.json; sync")
        ask(machine)
    assert secret
    with station.start() as machine:
        said = inside(
            machine,
            """
            systemctl is-active voicemeet-reset-done
            ls /boot/firmware /var/lib/voicemeet-hub /data/hub
            test ! -e /boot/card/factory-reset.txt && echo "asked once"
            until_true 60 "the lamp says so" lit box
            cat /etc/machine-id
            """,
        )
        console = machine.last_words(200)
        machine.power_off()
    print(said)
    assert said.startswith("active\n")
    assert "asked once" in said
    assert "secrets.json" not in said
    assert "voicemeet.toml" not in said
    assert identity not in said
    assert "factory reset done" in console
    assert "Factory reset done" in (card.get(station.disk, "voicemeet-status.txt") or "")
    found = subprocess.run(["grep", "-aqF", secret, str(station.disk)], check=False)
    assert found.returncode == 1, "anywhere on the card"


def test_a_file_on_the_card_sets_device_and_hub_back(station: Station) -> None:
    def ask(machine: Machine) -> None:
        machine.power_off()
        card.put(station.disk, "factory-reset.txt", "please")

    wiped(station, ask)


def test_what_the_panel_asks_for_sets_it_back(station: Station) -> None:
    def ask(machine: Machine) -> None:
        restart_by(machine, "touch /run/voicemeet-edge/factory-reset; sleep 300")

    wiped(station, ask)


def test_a_data_partition_that_cannot_be_read_is_made_anew_and_it_says_so(station: Station) -> None:
    with station.start() as machine:
        station.first_start(machine)
        machine.power_off()
    with station.disk.open("r+b") as file:
        file.seek(card.partition_start(station.disk, "data"))
        file.write(b"\x55" * (4 << 20))
    with station.start() as machine:
        said = inside(
            machine, "cat /run/voicemeet/data-remade; ls /boot/firmware; systemctl is-system-running --wait"
        )
        assert "the data partition cannot be read" in machine.last_words(200)
        machine.power_off()
    print(said)
    assert "voicemeet.toml" not in said


def test_uboots_script_counts_as_the_loader_of_these_tests_does(own_card: Callable[[], System]) -> None:
    """The real script on arm64, unconfirmed starts: B once, then A, and it writes what `BootState` would."""
    disk = own_card()
    card.put(disk.disk, "boot.env", f"extra={SHELL_WORDS}\n")
    start = card.partition_start(disk.disk, "root_b")
    with disk.disk.open("r+b") as file, (system.CACHE / "out" / f"{ARM64}.slot").open("rb") as source:
        file.seek(start)
        shutil.copyfileobj(source, file, 1 << 20)
    expected = BootState(["B", "A"], {"A": 3, "B": 1})
    expected.write(disk.disk)
    for slot in ("b", "a"):
        assert expected.choose() == slot.upper()
        with VirtBoard(replace(disk, kernel=None, initrd=None), system.CACHE) as board:
            said = board.run("systemctl stop voicemeet-prove; cat /run/voicemeet/slot", limit_s=400).output
            board.close()
        assert said.strip() == slot
        found = BootState.read(disk.disk)
        assert (found.order, found.left["B"]) == (expected.order, expected.left["B"])
