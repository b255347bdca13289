"""What systemd and a disk can do to running services: stop, reload, a system that cannot be written."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.booted.house import BOX, HUB, PEER, READY, SETTINGS, TALKING, House

pytestmark = pytest.mark.timeout(600)


def words(house: House, unit: str, pattern: str) -> str:
    """The last line of a unit's journal with a pattern in it."""
    return house.run(f"journalctl -q -b -o cat -u {unit} | grep '{pattern}' | tail -n 1")


def test_new_settings_are_taken_in_a_call_and_it_stays(house: House) -> None:
    house.call_up()
    before = house.property(BOX, "MainPID")
    house.run(f"sed -i 's/^echo = .*/&\\nvolume = 33/' {SETTINGS[BOX]}; systemctl reload {BOX}")
    status = "voicemeet-edge status --json"
    house.until("the volume is taken", lambda: '"volume": 33' in house.run(status))
    assert house.sentence(BOX) == TALKING
    assert house.sentence(PEER) == TALKING
    assert house.property(BOX, "MainPID") == before
    house.hang_up()


def test_a_stop_in_a_call_says_goodbye(house: House) -> None:
    house.call_up()
    print(f"stopped in a call after {house.stop(BOX)} ms")
    house.says(PEER, READY)
    assert "peer_hung_up" in words(house, PEER, "call: ended")
    assert house.property(BOX, "Result") == "success"
    assert house.property(BOX, "ExecMainStatus") == "0"
    house.run(f"systemctl start {BOX}")
    house.says(BOX, READY)


@pytest.fixture
def slow_stop(house: House) -> Iterator[None]:
    """A stop that is not over in its time, as on a board that is starved of it."""
    house.have_boards()
    folder = f"/run/systemd/system/{BOX}.service.d"
    lines = "'[Service]' 'ExecStopPost=/bin/sleep 60' TimeoutStopSec=5s"
    house.run(
        f"mkdir -p {folder}; printf '%s\\n' {lines} >{folder}/slow.conf; systemctl daemon-reload; "
        f"systemctl start {BOX}"
    )
    yield
    house.run(f"rm {folder}/slow.conf; systemctl daemon-reload; systemctl start {BOX}")
    house.says(BOX, READY)


@pytest.mark.usefixtures("slow_stop")
def test_a_restart_whose_stop_fails_still_starts(house: House) -> None:
    house.says(BOX, READY)
    before = house.property(BOX, "MainPID")
    house.run(f"systemctl restart {BOX}")
    house.says(BOX, READY)
    assert house.property(BOX, "MainPID") != before
    stopped = f"journalctl -q -b -o cat -u {BOX} | grep -c \"Failed with result 'timeout'\""
    assert house.run(stopped).strip() == "1", "the stop was not in time"


def test_the_lamp_of_a_wrong_setting_gives_way_to_a_right_one(house: House) -> None:
    house.have_boards()
    path, lamp = SETTINGS[BOX], f"{BOX}-fault"
    house.run(f"cp {path} /run/right.toml; (echo 'nonsense = 1'; cat /run/right.toml) >/run/wrong.toml")
    house.run(f"cp /run/wrong.toml {path}; systemctl restart {BOX} || true")
    # There are no lines for it here: it waits between two tries, and the next would be later than the device.
    house.until("the lamp is tried", lambda: house.property(lamp, "SubState") == "auto-restart")
    house.run(f"cp /run/right.toml {path}.new && mv {path}.new {path}")
    house.says(BOX, READY)
    assert house.property(lamp, "ActiveState") == "inactive"


def test_a_stop_of_the_hub_ends_no_call_and_devices_come_back(house: House) -> None:
    house.call_up()
    print(f"the hub stopped after {house.stop(HUB)} ms")
    assert house.property(HUB, "Result") == "success"
    assert house.run("pgrep -c turnserver || true").strip() == "0"
    house.until("the box says so", lambda: house.sentence(BOX) not in (READY, ""))
    house.run(f"systemctl start {HUB}")
    house.hang_up()


def test_debians_own_relay_that_is_started_beside_it_does_not_end_the_hub(house: House) -> None:
    """As an upgrade of the package coturn does it, where nobody has disabled its service."""
    house.says(HUB, "ready")
    before = house.property(HUB, "MainPID")
    house.run("systemctl start --no-block coturn")
    house.until("it is tried", lambda: house.property("coturn", "ExecMainStartTimestampMonotonic") != "0")
    assert house.property(HUB, "MainPID") == before
    assert house.property(HUB, "ActiveState") == "active"
    house.run(f"systemctl restart {HUB}")
    house.says(HUB, "ready")
    assert house.property("coturn", "ActiveState") != "active", "who starts last has the port"


@pytest.fixture(params=["on-failure", "no"])
def coturn_that_fails(house: House, request: pytest.FixtureRequest) -> Iterator[str]:
    """As Debian's own does while a machine starts and has no address: it waits for another try or gave up."""
    place = "/run/systemd/system/coturn.service.d"
    words = f"[Service]\\nExecStart=\\nExecStart=/bin/false\\nRestart={request.param}\\nRestartSec=1h\\n"
    house.run(f"mkdir -p {place}; printf '{words}' >{place}/fails.conf; systemctl daemon-reload")
    yield "auto-restart" if request.param == "on-failure" else "failed"
    house.run(f"rm -r {place}; systemctl daemon-reload")


def test_debians_own_relay_that_fails_tries_no_more_and_is_no_failure(
    house: House, coturn_that_fails: str
) -> None:
    house.run("systemctl start --no-block coturn")
    house.until("it fails", lambda: house.property("coturn", "SubState") == coturn_that_fails)
    house.run(f"systemctl restart {HUB}")
    house.says(HUB, "ready")
    assert house.property("coturn", "ActiveState") == "inactive", "it would come back for the hub's port"


@pytest.fixture
def read_only(house: House) -> Iterator[None]:
    """/var as on a system that is never written."""
    house.run("mount --bind /var /var && mount -o remount,bind,ro /var")
    yield
    house.run("umount -l /var")


@pytest.mark.usefixtures("read_only")
def test_a_system_that_cannot_be_written_carries_a_device(house: House) -> None:
    house.have_boards()
    house.run(f"systemctl restart {BOX}")
    house.says(BOX, READY)
    house.call_up()
    house.hang_up()
    assert "Traceback" not in house.run(f"journalctl -q -b -o cat -u {BOX} -u {HUB}")


@pytest.fixture
def full_disk(house: House) -> Iterator[None]:
    """The hub's folder on a disk without room."""
    house.run(
        f"set -e; systemctl stop {HUB}; cd /var/lib; cp -a voicemeet-hub /run/hub; "
        "mount -t tmpfs -o size=2M,mode=700 tmpfs voicemeet-hub; chown voicemeet-hub: voicemeet-hub; "
        "cp -a /run/hub/. voicemeet-hub; rm -r /run/hub; findmnt voicemeet-hub; "
        f"! dd if=/dev/zero of=voicemeet-hub/filler bs=4k count=4k 2>/dev/null; systemctl start {HUB}"
    )
    yield
    house.run(f"systemctl stop {HUB}; umount -l /var/lib/voicemeet-hub; systemctl start {HUB}")
    house.says(HUB, "ready")


@pytest.mark.usefixtures("full_disk")
def test_a_hub_on_a_full_disk_carries_calls(house: House) -> None:
    assert house.property(HUB, "ActiveState") == "active"
    house.call_up()
    house.hang_up()
    assert "Traceback" not in house.run(f"journalctl -q -b -o cat -u {BOX} -u {HUB}")


def test_each_end_of_a_call_is_an_entry_with_fields(house: House) -> None:
    house.call_up()
    house.hang_up()
    command = f"journalctl -q -b -o json -u {BOX} VOICEMEET_STATE=ended | tail -n 1"
    assert json.loads(house.run(command))["VOICEMEET_REASON"]


@pytest.fixture
def stopped_journal(house: House) -> Iterator[None]:
    """A call, and a journal that stands still and takes neither a line nor an entry more."""
    house.call_up()
    house.run("systemctl kill -s STOP systemd-journald")
    for unit in (BOX, PEER):
        said = house.run(f"python3 /run/bench/fill.py {house.property(unit, 'MainPID')}", limit_s=60.0)
        print(f"{unit}, its lines and all entries: {said.split()}")
    yield
    house.run("systemctl kill -s CONT systemd-journald")
    house.run(f"systemctl start {BOX}")
    house.says(BOX, READY)


@pytest.mark.usefixtures("stopped_journal")
def test_a_journal_that_stands_still_holds_up_neither_calls_nor_a_stop(house: House) -> None:
    before = house.restarts(BOX), house.restarts(PEER)
    house.hang_up()
    house.call_up()
    assert (house.restarts(BOX), house.restarts(PEER)) == before
    print(f"stopped in a call after {house.stop(BOX)} ms")
    assert house.property(BOX, "Result") == "success"
    house.says(PEER, READY)
