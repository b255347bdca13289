"""One good and one unhealthy update, from the signed bundle to the slot that is trusted in the end.

Everything else that can happen to an update is in tests/image/test_update.py, which takes most of an hour.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.machine import system
from tests.machine.station import Station, inside, restart_by

pytestmark = [pytest.mark.machine, pytest.mark.timeout(3600)]


@pytest.fixture(autouse=True)
def wanted() -> None:
    """Skip, loudly, where nobody asked: four starts beside other work take more than ten minutes."""
    if not os.environ.get("VOICEMEET_TEST_IMAGE"):
        pytest.skip("NO UPDATE OF THE IMAGE WAS TRIED: make test-update")


@pytest.fixture
def station(tmp_path: Path) -> Station:
    reason = system.why_not()
    if reason:
        pytest.skip(f"NO UPDATE WAS TESTED: {reason}")
    return Station(system.build(), tmp_path)


def test_a_good_update_stays_and_an_unhealthy_one_is_taken_back(station: Station) -> None:
    good = station.bundle("0.2.0")
    # In this one the hub never starts: its device reaches nobody.
    bad = station.bundle("0.3.0", words="systemd.mask=voicemeet-hub.service")
    with station.start(good) as machine:
        station.first_start(machine)
        said = restart_by(machine, f"voicemeet-edge update /run/bench/{good.name}")
        print(said)
        assert "Version 0.2.0 starts now" in said
    with station.start(bad) as machine:
        said = inside(
            machine,
            """
            cat /run/voicemeet/slot
            until_true 240 "it proves itself" test -e /run/voicemeet/proved
            voicemeet-edge update --history
            grep -c apikey $BOX_SETTINGS
            """,
        )
        print(said)
        assert said.startswith("b\n")
        assert "Updated to 0.2.0." in said
        assert said.endswith("1\n"), "its settings are there"
        restart_by(machine, f"voicemeet-edge update /run/bench/{bad.name}")
    with station.start() as machine:
        said = restart_by(machine, "cat /run/voicemeet/slot; prove 20 || true")
        print(said)
        assert said.startswith("a\n")
        assert "Version 0.3.0 is taken back: the hub was not reached" in said
    with station.start() as machine:
        said = inside(
            machine,
            """
            cat /run/voicemeet/slot
            until_true 120 "the device is ready" says voicemeet-edge "Ready: press call"
            voicemeet-edge update --history
            until_true 120 "it calls itself" voicemeet-edge self-test
            """,
        )
        print(said)
        assert said.startswith("b\n")
        assert "The update to 0.3.0 was taken back: the hub was not reached" in said
