"""The door is opened by a process of its own, and the device learns whether it was."""

from __future__ import annotations

import asyncio
import sys

import pytest

from voicemeet_edge.panel import door as panel_door
from voicemeet_edge.panel.door import DoorRelease, NoDoor
from voicemeet_edge.testing.waiting import until

# Stands in for the keeper where there is no GPIO: same words, same ends.
KEEPER = (
    sys.executable,
    "-c",
    "import os, select, sys; os.write(1, b'open\\n'); select.select([0], [], [], float(sys.argv[3]))",
)


def door(*command: str) -> DoorRelease:
    return DoorRelease(lambda: ("/dev/gpiochip0", 5), low=False, command=command)


async def test_it_opens_and_lets_go_by_itself() -> None:
    release = door(*KEEPER)
    assert await release.open(0.05)
    await until(lambda: not release.is_open)
    assert await release.open(1000.0)  # and again
    await release.close()
    assert not release.is_open
    await release.close()


async def test_asked_again_it_does_not_begin_anew() -> None:
    release = door(*KEEPER)
    opened = await asyncio.gather(release.open(1000.0), release.open(1000.0))
    assert all(opened)
    await release.close()


async def test_a_real_keeper_without_its_chip_opens_nothing(caplog: pytest.LogCaptureFixture) -> None:
    release = DoorRelease(lambda: ("/dev/gpiochip-none", 5), low=False)
    assert not await release.open(1.0)
    assert "The door cannot be opened: No such file or directory" in caplog.text
    assert not release.is_open


async def test_a_keeper_that_is_killed_is_told_of(caplog: pytest.LogCaptureFixture) -> None:
    release = door(sys.executable, "-c", "import os; os.write(1, b'open\\n'); os.abort()")
    assert await release.open(1.0)
    await until(lambda: "the door may be open" in caplog.text)


async def test_given_up_while_it_opens_it_lets_go_and_opens_again() -> None:
    release = door(sys.executable, "-c", "import sys; sys.stdin.read()")
    asking = asyncio.create_task(release.open(1000.0))
    await until(lambda: release._keeper is not None)
    given_up = release._keeper
    assert given_up is not None
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    assert not release.is_open  # else whoever asks next is told that it is open
    assert await given_up.wait() == 0
    release._command = KEEPER
    assert await release.open(1000.0)
    assert release._keeper is not given_up
    await release.close()


async def test_a_keeper_that_hangs_holds_nobody_up(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(panel_door, "END_LIMIT_S", 0.05)
    deaf = (
        "import os, signal, sys, time; signal.signal(15, signal.SIG_IGN); os.write(1, b'open\\n');"
        "sys.stdin.read(); time.sleep(600)"
    )
    release = door(sys.executable, "-c", deaf)
    assert await release.open(1000.0)
    keeper = release._keeper
    assert keeper is not None
    try:
        async with asyncio.timeout(10):
            await release.close()
        assert "does not end: the door may be open" in caplog.text
    finally:
        keeper.kill()
        await release.wait_shut()


async def test_a_line_that_is_gone_opens_nothing() -> None:
    def gone() -> tuple[str, int]:
        raise OSError("the chip is gone")

    assert not await DoorRelease(gone, low=False, command=KEEPER).open(1.0)


async def test_no_door() -> None:
    assert not await NoDoor().open(1.0)
    await NoDoor().close()
