"""Five parts that hang: each is seen, systemd starts the device again, the other side of the call knows."""

from __future__ import annotations

import time

import pytest

from tests.booted.house import BOX, PEER, READY, TALKING, House

pytestmark = pytest.mark.timeout(600)


def hang(house: House, part: str) -> None:
    """Let a part stand still for good, as a driver does that never returns."""
    if part == "signaling":
        house.do(BOX, "hang signaling")
        return
    threads = {"capture": "sound-capture", "playback": "sound-playback", "panel": "gpio-edges"}
    name = threads.get(part, "voicemeet-edge")
    pid = house.property(BOX, "MainPID")
    found = f"ps -T -p {pid} -o tid=,comm= | awk '$2 == \"{name}\" {{ print $1; exit }}'"
    thread = house.run(found).strip() if part != "event loop" else pid
    assert thread, house.run(f"ps -T -p {pid} -o tid=,comm=")
    house.run(f"setsid python3 /run/bench/wedge.py {thread} >/dev/null 2>&1 & sleep 0.3")


@pytest.mark.parametrize("part", ["capture", "playback", "panel", "event loop", "signaling"])
def test_a_part_that_hangs_is_seen_and_the_device_starts_again(house: House, part: str) -> None:
    house.call_up()
    before = house.restarts(BOX)
    begin = time.monotonic()
    hang(house, part)
    house.until("the peer is told", lambda: house.sentence(PEER) != TALKING)
    over_s = time.monotonic() - begin
    house.until("systemd starts it again", lambda: house.restarts(BOX) > before)
    again_s = time.monotonic() - begin
    house.says(PEER, READY)
    ended_s = time.monotonic() - begin
    house.says(BOX, READY)
    print(f"{part}: the other side told after {over_s:.1f} s, its call over by {ended_s:.1f} s, "
          f"started again after {again_s:.1f} s, ready after {time.monotonic() - begin:.1f} s")  # fmt: skip
    assert house.restarts(BOX) == before + 1
    words = house.run(f"journalctl -q -b -o cat -u {BOX} | grep 'no sign of life' | tail -n 1")
    assert f"{part} gives no sign of life" in words
