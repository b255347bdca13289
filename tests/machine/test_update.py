"""One good and one unhealthy update, from the signed bundle to the slot that is trusted in the end.

Everything else that can happen to an update is in tests/image/test_update*.py, which take most of an hour.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.machine import system
from tests.machine.station import BACK, PROVED, Station

pytestmark = [pytest.mark.machine, pytest.mark.timeout(3600)]


@pytest.fixture
def station(tmp_path: Path) -> Iterator[Station]:
    reason = system.why_not()
    if reason:
        pytest.skip(f"NO UPDATE OF THE IMAGE WAS TRIED: {reason}")
    with Station(system.build(), tmp_path) as made:
        made.cpus = 2  # nothing runs beside it
        yield made


def test_a_good_update_stays_and_an_unhealthy_one_is_taken_back(station: Station) -> None:
    good = station.bundle("0.2.0")
    # In this one the hub never starts: its device reaches nobody.
    bad = station.bundle("0.3.0", words="systemd.mask=voicemeet-hub.service")
    station.set_up()
    assert "Version 0.2.0 starts now" in station.update(good)
    said = station.ask(f"{PROVED}; voicemeet-edge update --history; grep -c apikey $BOX_SETTINGS")
    assert station.slot == "b"
    assert "Updated to 0.2.0." in said
    assert said.endswith("1\n"), "its settings are there"
    station.update(bad)
    assert "Version 0.3.0 is taken back: the hub was not reached" in station.down("prove 20 || true")
    assert station.slot == "a"
    said = station.ask(BACK)
    assert station.slot == "b"
    assert "The update to 0.3.0 was taken back: the hub was not reached" in said
    assert "It calls." in said
