"""Real changes of a real network, and clocks that are set or stood still."""

from __future__ import annotations

import asyncio
import subprocess
from dataclasses import replace

import pytest

from voicemeet_edge.net import watch as under_test
from voicemeet_edge.net.watch import STEP_S, Addresses, Change, Clocks, Watch
from voicemeet_edge.testing.network import BridgedNetwork, unavailable
from voicemeet_edge.testing.waiting import until

START = Clocks(monotonic=100.0, boot=150.0, real=1e9)
DAYS_3 = 3 * 86400.0


@pytest.mark.parametrize(
    ("passed", "slept", "stepped", "changes"),
    [
        (1.0, 0.0, 0.0, []),
        (900.0, 0.0, 0.0, []),  # the loop was held up: time passed for all clocks
        (1.0, 0.0, DAYS_3, [Change.CLOCK]),
        (1.0, 0.0, -DAYS_3, [Change.CLOCK]),
        (1.0, 0.0, STEP_S / 2, []),
        (1.0, 3600.0, 0.0, [Change.SLEEP]),
        (1.0, 3600.0, DAYS_3, [Change.SLEEP]),
    ],
)
def test_what_the_clocks_tell(passed: float, slept: float, stepped: float, changes: list[Change]) -> None:
    later = Clocks(
        START.monotonic + passed, START.boot + passed + slept, START.real + passed + slept + stepped
    )
    assert START.changes(later) == changes


class Ground:
    """A watch with what it told."""

    def __init__(self) -> None:
        self.told: asyncio.Queue[Change] = asyncio.Queue()
        self.addresses: Addresses = ("192.0.2.1", None, frozenset({"192.0.2.1"}))
        self.looks = 0

    def look(self) -> Addresses:
        self.looks += 1
        return self.addresses


async def test_a_clock_that_is_set_is_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(under_test, "LOOK_EVERY_S", 0.01)
    offset, readings = 0.0, asyncio.Queue[None]()
    real = Clocks.now

    def now() -> Clocks:
        readings.put_nowait(None)
        return replace(real(), real=real().real + offset)

    async def read_again() -> None:
        for _ in range(readings.qsize() + 3):
            async with asyncio.timeout(20):
                await readings.get()

    monkeypatch.setattr(Clocks, "now", now)
    ground = Ground()
    running = asyncio.ensure_future(Watch(ground.told.put_nowait, look=ground.look).run())
    await read_again()
    assert ground.told.empty()
    offset = DAYS_3
    async with asyncio.timeout(20):
        assert await ground.told.get() is Change.CLOCK
    await read_again()
    assert ground.told.empty()
    running.cancel()


async def test_what_was_not_announced_is_found_by_looking(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(under_test, "LOOK_EVERY_S", 0.01)
    monkeypatch.setattr(under_test, "_open_netlink", lambda: None)
    ground = Ground()
    running = asyncio.ensure_future(Watch(ground.told.put_nowait, look=ground.look).run())
    await until(lambda: ground.looks)
    ground.addresses = (None, None, frozenset())
    async with asyncio.timeout(20):
        assert await ground.told.get() is Change.NETWORK
    running.cancel()


@pytest.mark.namespaces
@pytest.mark.skipif(unavailable() is not None, reason=str(unavailable()))
async def test_addresses_and_routes_of_a_real_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(under_test, "COMPARE_EVERY", 1_000_000)  # only what is announced
    with BridgedNetwork(("one",)) as network:

        def ip(*words: str) -> None:
            subprocess.run(network.command("one", "ip", *words), check=True)

        def look() -> Addresses:
            with network.inside("one"):
                return under_test.addresses()

        ground = Ground()
        with network.inside("one"):
            running = asyncio.ensure_future(Watch(ground.told.put_nowait, look=look).run())
            await asyncio.sleep(0)  # it opens its socket here
        changes = [
            ("address", "add", "10.8.8.8/24", "dev", "eth0"),
            ("route", "replace", "default", "via", "10.8.8.1", "dev", "eth0", "src", "10.8.8.8"),
            ("link", "set", "eth0", "down"),
        ]
        for words in changes:
            ip(*words)
            async with asyncio.timeout(20):
                assert await ground.told.get() is Change.NETWORK
        running.cancel()
