"""The power goes at random moments of first start and of use: it always starts again, and nothing is lost."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable

import pytest

from tests.image import card
from tests.image.test_first_start import KEY, SETTINGS
from tests.machine.qemu import Machine, System

pytestmark = [pytest.mark.machine, pytest.mark.timeout(3600)]

CUTS = int(os.environ.get("VOICEMEET_POWER_CUTS", "20"))
SEED = int(os.environ.get("VOICEMEET_SEED", "1"))


class Cut(Machine):
    """A machine that is not waited for: its power goes after some seconds."""

    def run_for(self, seconds: float) -> None:
        self._start()
        time.sleep(seconds)
        self.close()


def test_the_power_may_go_at_any_moment(fresh: Callable[[], System]) -> None:
    chance = random.Random(SEED)
    system = fresh()
    card.put(system.disk, "voicemeet.toml", SETTINGS)
    card.put(system.disk, "authorized_keys", KEY)
    with Machine(fresh()) as machine:  # how long a start takes on this machine today
        machine.run("systemctl is-system-running --wait", check=False)
        whole_s = time.monotonic() - machine._started
    system = fresh()
    card.put(system.disk, "voicemeet.toml", SETTINGS)
    card.put(system.disk, "authorized_keys", KEY)
    for number in range(CUTS):
        seconds = chance.uniform(0.15, 1.2) * whole_s
        Cut(system).run_for(seconds)
        print(f"cut {number + 1} of {CUTS} after {seconds:.0f} s of {whole_s:.0f} s", flush=True)
    with Machine(system) as machine:
        said = machine.run(
            """
            systemctl is-system-running --wait
            systemctl is-active voicemeet-edge ssh
            grep -c secret-of-the-hub /boot/firmware/voicemeet.toml
            wc -l </data/ssh/authorized_keys
            test -e /run/voicemeet/data-remade && echo remade
            e2fsck -nf /dev/vda5 >/dev/null 2>&1; echo "fsck of a mounted disk: $?" >&2
            """,
            check=False,
        ).output.split()
        machine.power_off()
    assert said[:5] == ["running", "active", "active", "1", "1"]
    assert "remade" not in said
    assert not card.holds(system.disk, "secret-of-the-hub")
