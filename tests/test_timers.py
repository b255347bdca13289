"""One timer at the deadline a core names: set, moved, taken away, and broken."""

from __future__ import annotations

import asyncio
import time

import pytest

from voicemeet_edge.timers import DeadlineTimer, next_beat, sleep_to_beat


async def test_it_fires_at_the_deadline_and_says_when() -> None:
    fired: asyncio.Queue[float] = asyncio.Queue()
    timer = DeadlineTimer(fired.put_nowait)
    deadline = time.monotonic() + 0.02
    timer.set(deadline)
    async with asyncio.timeout(20):
        assert await fired.get() >= deadline


async def test_the_last_deadline_counts() -> None:
    fired: asyncio.Queue[float] = asyncio.Queue()
    timer = DeadlineTimer(fired.put_nowait)
    now = time.monotonic()
    for later in (3600.0, 7200.0, 0.01):
        timer.set(now + later)
    async with asyncio.timeout(20):
        await fired.get()
    timer.set(time.monotonic() + 0.01)
    timer.set(None)
    probe: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_at(time.monotonic() + 0.03, probe.set_result, None)
    await probe  # the loop has passed the moment
    assert fired.empty()


async def test_a_deadline_in_the_past_fires_with_the_next_turn_and_not_within_set() -> None:
    fired: list[float] = []
    timer = DeadlineTimer(fired.append)
    timer.set(0.0)
    assert fired == []
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert len(fired) == 1


async def test_a_core_that_breaks_is_told_to_whoever_waits() -> None:
    def broken(now: float) -> None:
        raise ZeroDivisionError

    timer = DeadlineTimer(broken)
    timer.set(0.0)
    async with asyncio.timeout(20):
        with pytest.raises(ZeroDivisionError):
            await timer.run()


async def test_who_waits_no_longer_leaves_no_timer_behind() -> None:
    fired: list[float] = []
    timer = DeadlineTimer(fired.append)
    waiting = asyncio.create_task(timer.run())
    await asyncio.sleep(0)
    timer.set(time.monotonic() + 0.01)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    probe: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_at(time.monotonic() + 0.03, probe.set_result, None)
    await probe
    assert fired == []


@pytest.mark.parametrize(
    ("now", "beat"), [(100.0, 101.0), (100.3, 101.0), (100.94, 101.0), (100.9999, 102.0), (101.0, 102.0)]
)
def test_all_that_look_each_second_look_together(
    now: float, beat: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Called a little early counts as called at its beat: nobody looks twice at the same one.
    monkeypatch.setattr(time, "monotonic", lambda: now)
    assert next_beat(1.0) == beat


async def test_who_sleeps_to_the_beat_is_not_there_before_it() -> None:
    due = next_beat(0.05)
    await sleep_to_beat(0.05)
    assert time.monotonic() >= due - time.get_clock_info("monotonic").resolution
