"""Every way an update can go wrong, and the ways back: `make test-update`. Each ends in a system that calls.

One card goes through all of it, test by test, as a card in the field would: each begins with the trusted
system that the one before it left running, or with a new card if that one failed. The one good and one
unhealthy update of tests/machine/test_update.py are not repeated here; the roll-out over a thousand devices
is tests/update/test_rollout.py, U-Boot's own script tests/image/test_loader.py.
"""

from __future__ import annotations

import os
import random
import subprocess
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path

import pytest

from tests.image import card
from tests.image.builder import build, flash
from tests.machine.qemu import Machine, MachineError, System
from tests.machine.station import BACK, CALLS, NOT_YET, PROVED, READY, Station

pytestmark = [pytest.mark.machine, pytest.mark.timeout(7200)]

CUTS = int(os.environ.get("VOICEMEET_POWER_CUTS", "20"))
SEED = int(os.environ.get("VOICEMEET_SEED", "1"))
STARTS = 3
NOT_STARTED = "did not start, or was started again before it had proved itself"
OTHER = {"a": "b", "b": "a"}
HUB = "/etc/voicemeet/hub.toml"
TRIAL = "/data/lib/voicemeet-update/on-trial"
# What nobody needs who only writes a slot is left out: the device has neither sound nor lines.
AFTER_CUT = f"if test -e {TRIAL}; then update_bench; else keyring; fi"
# What a cut waits for before its seconds begin. A slot is on trial as soon as it is written.
CUT_WHILE = {
    "writing": "true",
    "switching": f"for _ in $(seq 3000); do test -e {TRIAL} && break; sleep 0.1; done",
}
PEER = """
sed '/^\\[call\\]/,$d' $BOX_SETTINGS >/run/bench/backend.toml
gpio_chip peer PEER
device_settings /run/peer/voicemeet.toml Peer PEER answerer
second_device; systemctl start voicemeet-peer
call_up
"""


class Shelf:
    """Where a test leaves the card, with the machine that it is in."""

    def __init__(self, built: System, folder: Path) -> None:
        self._built = built
        self._folder = folder
        self._cards = count(1)
        self._versions = count(1)
        self._station: Station | None = None

    def take(self) -> Station:
        """Return a station whose system is trusted and calls: the last one, if it is so."""
        if self._station is not None:
            try:
                self._station.ask(f"test -e /run/voicemeet/proved || exit 1\n{READY}")
                return self._station
            except MachineError as error:
                print(f"a new card: {str(error)[:400]}", flush=True)
                self._station.close()
        folder = self._folder / str(next(self._cards))
        folder.mkdir()
        self._station = station = Station(self._built, folder)
        station.set_up()
        station.ask(PROVED)
        return station

    def close(self) -> None:
        if self._station is not None:
            self._station.close()

    def version(self) -> str:
        """A version that no bundle had yet, newer than all of them."""
        return f"0.2.{next(self._versions)}"


@pytest.fixture(scope="module")
def shelf(built: System, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shelf]:
    made = Shelf(built, tmp_path_factory.mktemp("updates"))
    yield made
    made.close()


@pytest.fixture
def station(shelf: Shelf, request: pytest.FixtureRequest) -> Station:
    print(f"\n{request.node.name}", flush=True)
    return shelf.take()


@pytest.fixture
def version(shelf: Shelf) -> str:
    return shelf.version()


def cut_again_and_again(station: Station, bundle: Path, moments: Sequence[tuple[str, float]]) -> None:
    """Cut the power at each moment, each time of the system that the last cut left; in the end it calls."""
    for number, (what, seconds) in enumerate(moments, 1):
        station.start(AFTER_CUT)
        # The trial of a slot that was written whole is waited for: only a trusted system takes an update.
        settings = f"grep -c apikey $BOX_SETTINGS; grep -c provider {HUB}"
        said = station.ask(f"{settings}; {PROVED}; voicemeet-edge update --history")
        assert said.startswith("1\n1\n"), "settings kept"
        station.say(f"cut {number} of {len(moments)}: {seconds:.1f} s of {what}")
        said = station.cut_while(
            f"voicemeet-edge update {station.give(bundle)}", f"{CUT_WHILE[what]}\nsleep {seconds:.1f}"
        )
        station.say(f"    {said.strip() or 'it had said nothing yet'}")
        assert all(line.startswith(("Version", "it was down")) for line in said.splitlines()), "refused"
    station.start(AFTER_CUT)
    station.ask(PROVED)
    station.off()
    assert "It calls." in station.ask(BACK)


def test_the_power_may_go_while_a_slot_is_written_and_switched(
    station: Station, shelf: Shelf, tmp_path: Path
) -> None:
    """On two cards at a time, the second a copy of the first: half of a start waits for something."""
    chance = random.Random(SEED)
    writing = [("writing", chance.uniform(0.0, station.update_s)) for _ in range(CUTS - CUTS // 3)]
    switching = [("switching", chance.uniform(0.0, 5.0)) for _ in range(CUTS // 3)]
    moments = chance.sample(writing + switching, CUTS)
    station.off()
    with Station(station.system, tmp_path, name="card 2: ") as second, ThreadPoolExecutor(2) as pool:
        both = [
            pool.submit(cut_again_and_again, one, one.bundle(shelf.version()), moments[part::2])
            for part, one in enumerate((station, second))
        ]
        for half in both:
            half.result()


def test_what_is_not_ours_is_refused_and_nothing_changes(station: Station) -> None:
    station.key("stranger")
    forged = station.bundle("0.2.0", key="stranger")
    forged = forged.rename(forged.with_name("forged.raucb"))
    cut = station.bundle("0.2.0")
    with cut.open("r+b") as file:
        file.truncate(cut.stat().st_size // 2)
    before = station.ask("fw_printenv; sync")
    for bundle, why in (
        (forged, "nobody this device trusts"),
        (station.bundle("0.2.0", role="device"), "It is for voicemeet-edge-device-amd64"),
        (station.bundle("0.0.9"), "older than"),
        (cut, "no bundle, or was cut off"),
    ):
        said = station.ask(
            f"! voicemeet-edge update {station.give(bundle)} || exit 1; voicemeet-edge update --history"
        )
        assert said.lower().count(why.lower()) == 2, "said, and remembered"
    refused = 'until_true 60 "it says so" says voicemeet-edge "was brought an update that is not for it"'
    assert "It calls." in station.ask(f"{refused}\n{CALLS}")
    # Shown until there is something else to tell: here what a start of the system tells.
    station.ask(f"prove 20\n{READY}")
    assert station.ask("test ! -e /data/lib/voicemeet-update/on-trial && fw_printenv") == before


def test_one_waits_for_the_end_of_a_call_the_next_leads_back_and_a_switch_there_again(
    station: Station, shelf: Shelf
) -> None:
    old = station.slot
    there, back = shelf.version(), shelf.version()
    bundle = station.give(station.bundle(there))
    said = station.ask(
        f"""
        {PEER}
        voicemeet-edge update {bundle} >/run/said 2>&1 &
        until_true 120 "it waits" grep -q "waits for its end" /run/said
        talks voicemeet-edge && echo "The call goes on."
        """,
        limit_s=1200,
    )
    assert "The call goes on." in said
    assert f"Version {there} starts now" in station.down("hang_up; tail -n +1 -f /run/said")
    said = station.ask(f"{PROVED}; {PEER} hang_up; voicemeet-edge update --history", limit_s=1200)
    assert station.slot == OTHER[old]
    assert f"Updated to {there}." in said
    station.update(station.bundle(back))
    assert f"Updated to {back}." in station.ask(BACK)
    assert station.slot == old
    # The other one on purpose; it has proved itself before, and has to once more.
    said = station.down("voicemeet-edge update --switch")
    assert f"Version {there} in slot {OTHER[old]} starts now" in said
    assert f"Updated to {there}." in station.ask(BACK)
    assert station.slot == OTHER[old]


def proof_that_fails(station: Station, bundle: Path, before: str, why: str) -> None:
    """Update to a system that is made unhealthy; it is taken back and says why."""
    old = station.slot
    station.update(bundle)
    station.start(f"{NOT_YET}\nupdate_bench")
    assert station.slot == OTHER[old]
    said = station.down(f'until_true 240 "it reaches the hub" connected\n{before}\nprove 30 || true')
    assert "is taken back" in said
    assert why in said
    said = station.ask(BACK)
    assert station.slot == old
    assert why in said


def test_one_whose_sound_is_dead_is_taken_back(station: Station, version: str) -> None:
    bundle = station.bundle(version, words="module_blacklist=snd_aloop")
    proof_that_fails(station, bundle, "true", "microphone and loudspeaker")


def test_one_whose_self_test_call_fails_is_taken_back(station: Station, version: str) -> None:
    """The relay stands still in this one: everything is up, and no call gets through."""
    relay = 'until_true 240 "the relay is up" pgrep turnserver; pkill -STOP turnserver'
    proof_that_fails(station, station.bundle(version), relay, "self-test call did not pass")


def left_after_three_starts(station: Station, bundle: Path, start: Callable[[], None]) -> None:
    """Update to a system that never proves itself; the loader leaves it after three starts."""
    old = station.slot
    station.update(bundle)
    for _ in range(STARTS):
        assert station.boot_state().choose() == OTHER[old].upper()
        start()
    said = station.ask(BACK)
    assert station.slot == old
    assert NOT_STARTED in said


def test_one_that_is_never_confirmed_is_left_after_three_starts(station: Station, version: str) -> None:
    """Two of its starts end without power; one by the limit of half an hour, which is called early."""
    ways: Iterator[Callable[[], object]] = iter(
        (
            station.cut,
            lambda: station.down("systemctl start voicemeet-trial-limit; sleep 300"),
            station.cut,
        )
    )

    def start() -> None:
        station.start(NOT_YET)
        next(ways)()

    left_after_three_starts(station, station.bundle(version), start)


@pytest.mark.parametrize(
    ("words", "seconds"),
    [
        pytest.param('rdinit=/bin/busybox -- sh -c "while :; do :; done"', 15.0, id="hangs"),
        pytest.param("rdinit=/bin/dmsetup", 300.0, id="panics"),
    ],
)
def test_one_that_does_not_come_up_is_left_after_three_starts(
    station: Station, version: str, words: str, seconds: float
) -> None:
    bundle = station.bundle(version, words=words)
    left_after_three_starts(station, bundle, lambda: station.start_in_vain(seconds))


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
        file.seek(card.partition_start(station.disk, "data"))
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
