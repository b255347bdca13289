"""Every way an update can go wrong, and the ways back: `make test-update`. Each ends in a system that calls.

One card goes through all of a file, test by test, as a card in the field would: each begins with the trusted
system that the one before it left running, or with a new card if that one failed. Power cuts and resets have
files of their own, so that two cards can be tried at a time. The one good and one unhealthy update of
tests/machine/test_update.py are not repeated here; the roll-out over a thousand devices is
tests/update/test_rollout.py, U-Boot's own script tests/image/test_loader.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.image.shelf import Shelf
from tests.machine.station import BACK, CALLS, NOT_YET, PROVED, READY, Station

pytestmark = [pytest.mark.machine, pytest.mark.timeout(7200)]

STARTS = 3
NOT_STARTED = "did not start, or was started again before it had proved itself"
OTHER = {"a": "b", "b": "a"}
PEER = """
sed '/^\\[call\\]/,$d' $BOX_SETTINGS >/run/bench/backend.toml
gpio_chip peer PEER
device_settings /run/peer/voicemeet.toml Peer PEER answerer
second_device; systemctl start voicemeet-peer
call_up
"""


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
    station.off()
    station.cpus = 2  # for two devices in a call
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
    station.cpus = 1
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
