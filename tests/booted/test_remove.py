"""The last of this folder: all is taken away again, and what is the owner's stays."""

from __future__ import annotations

import pytest

from tests.booted.house import BOX, HUB, House

pytestmark = pytest.mark.timeout(1200)


def test_it_goes_and_leaves_settings_and_keys(house: House) -> None:
    house.give_settings(BOX)
    said = house.run("cd /root/voicemeet-edge && scripts/install remove")
    assert "removed" in said
    assert [house.property(unit, "LoadState") for unit in (HUB, BOX, f"{BOX}.path")] == ["not-found"] * 3
    assert house.run("pgrep -f '[v]oicemeet-edge (run|hub)' || true") == ""
    house.run("test ! -e /opt/voicemeet-edge && ! command -v voicemeet-edge")
    house.run("test -s /etc/voicemeet/hub.toml && test -s /boot/firmware/voicemeet.toml")
    house.run("test -s /var/lib/voicemeet-hub/secrets.json || ls -R /var/lib/voicemeet-hub")
