"""The power goes while a slot is written, and while the loader is told: again and again, on one card."""

from __future__ import annotations

import os
import random

import pytest

from tests.machine.station import BACK, PROVED, Station

pytestmark = [pytest.mark.machine, pytest.mark.timeout(7200)]

CUTS = int(os.environ.get("VOICEMEET_POWER_CUTS", "20"))
SEED = int(os.environ.get("VOICEMEET_SEED", "1"))
TRIAL = "/data/lib/voicemeet-update/on-trial"
HUB = "/etc/voicemeet/hub.toml"
# Who only writes a slot needs neither hub nor device, which share the one processor with it.
AFTER_CUT = (
    f"if test -e {TRIAL}; then update_bench; else keyring; systemctl stop voicemeet-edge voicemeet-hub; fi"
)
# As if the device had fetched the bundle: it lies where the fetched ones do.
UPDATE = """
part=$(basename "$(readlink -f /run/voicemeet/root_$(tr ab ba </run/voicemeet/slot))")
written() { local n; read -r _ _ _ _ _ _ n _ </sys/class/block/$part/stat; echo $n; }
began=$(written)
ln -f /data/*.raucb /data/lib/voicemeet-update/bundle.raucb
voicemeet-edge update /data/lib/voicemeet-update/bundle.raucb >/run/said 2>&1 &
update=$!
"""
# Without a process of its own: on an emulated processor each takes as long as a mebibyte that is written.
PAUSE = "read -rt 0.05 <> <(:)"
END = "cat /run/said; echo $((($(written) - began) / 2048)) MiB written"


def moment(chance: random.Random, number: int, slot_mib: float) -> tuple[str, str]:
    """What a cut waits for, in words and as a script: two of three in the writing, one in the switching."""
    if number % 3:
        mib = int(chance.uniform(0, slot_mib))
        script = f"while kill -0 $update && [ $(($(written) - began)) -lt {mib * 2048} ]; do {PAUSE}; done"
        return f"when {mib} MiB are written", script
    seconds = chance.uniform(0, 3)
    script = f"while kill -0 $update && ! test -e {TRIAL}; do {PAUSE}; done; sleep {seconds:.2f}"
    return f"{seconds:.2f} s after the slot is put on trial", script


def test_the_power_may_go_while_a_slot_is_written_and_switched(station: Station, version: str) -> None:
    """Each cut hits what the last one left; it comes up with its settings, and in the end it calls."""
    chance = random.Random(SEED)
    bundle = station.bundle(version)
    station.give(bundle)
    station.off()
    slot_mib = station.slot_bytes / (1 << 20)
    for number in range(CUTS):
        station.start(AFTER_CUT)
        # The trial of a slot that was written whole is waited for: only a trusted system takes an update.
        settings = f"grep -c apikey $BOX_SETTINGS; grep -c provider {HUB}"
        kept = station.ask(f"{settings}; {PROVED}; voicemeet-edge update --history")
        assert kept.startswith("1\n1\n"), "settings kept"
        words, wait = moment(chance, number, slot_mib)
        station.say(f"cut {number + 1} of {CUTS}: {words}")
        said = station.cut_after(f"{UPDATE}{wait}\n{END}")
        assert all(line.startswith(("Version", "it was down")) or line.endswith("written") for line in said)
    station.start(AFTER_CUT)
    station.ask(PROVED)
    station.off()
    assert "It calls." in station.ask(BACK)
