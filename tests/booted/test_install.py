"""`make install-hub` and `make install-device` on a Debian, from a clean checkout to services that stay."""

from __future__ import annotations

import pytest

from tests.booted.house import BOX, HUB, READY, House, make

pytestmark = pytest.mark.timeout(1200)


def test_the_hub_runs_its_own_coturn_in_its_sandbox(house: House) -> None:
    said = house.said["install-hub"]
    assert said.count("/operator/#") == 1, said
    assert house.property(HUB, "ActiveState") == "active"
    assert house.property(HUB, "UnitFileState") == "enabled"
    assert house.sentence(HUB) == "ready"
    assert house.run("pgrep -c turnserver; pgrep -c -u voicemeet-hub turnserver").split() == ["1", "1"]
    inside = house.run("cat /proc/$(pgrep turnserver)/status")
    assert "NoNewPrivs:\t1" in inside
    assert "Seccomp:\t2" in inside


def test_the_device_waits_for_its_settings_and_starts_with_them(house: House) -> None:
    assert "voicemeet-edge setup" in house.said["install-device"]
    assert house.run(f"systemctl is-enabled {BOX} {BOX}.path").split() == ["enabled", "enabled"]
    house.run(f"rm -f /boot/firmware/voicemeet.toml; systemctl stop {BOX}; systemctl start {BOX}")
    assert house.property(BOX, "ActiveState") == "inactive"
    assert "/boot/firmware/voicemeet.toml" in house.run(f"systemctl status {BOX} || true")
    house.give_settings(BOX)
    house.says(BOX, READY)


def test_again_is_an_update_and_prints_no_second_pass(house: House) -> None:
    before = house.property(HUB, "MainPID")
    said = make(house.system, "install-hub")
    assert "pass" not in said, said
    assert house.property(HUB, "MainPID") != before
    assert "the device runs" in make(house.system, "install-device")
    house.says(HUB, "ready")
    house.says(BOX, READY)


def test_both_are_there_after_a_reboot(house: House) -> None:
    house.system.reboot()
    house.says(HUB, "ready")
    house.says(BOX, READY)
    assert house.run("systemctl --failed --no-legend") == ""
