"""The other Debian that the documents promise: hub and device on 13, what is missing fetched by its apt."""

from __future__ import annotations

import pytest

from tests.booted.booted import Booted
from tests.booted.house import BOX, HUB, READY, install

pytestmark = pytest.mark.timeout(3000)


def test_hub_and_device_are_installed_and_run(debian13: Booted) -> None:
    house = install(debian13)
    said = house.said["install-hub"]
    assert "Debian packages: python3-venv" in said
    assert "tried on" not in said
    assert said.count("/operator/#") == 1, said
    assert house.run("/opt/voicemeet-edge/bin/python --version").startswith("Python 3.13.")
    assert house.sentence(HUB) == "ready"
    assert house.run("pgrep -c turnserver; pgrep -c -u voicemeet-hub turnserver").split() == ["1", "1"]
    assert house.run(f"systemctl is-enabled {HUB} {BOX} {BOX}.path").split() == ["enabled"] * 3
    house.give_settings(BOX)
    house.says(BOX, READY)
    house.system.reboot()
    house.says(HUB, "ready")
    house.says(BOX, READY)
    assert house.run("systemctl --failed --no-legend") == ""
