"""Our timeout, where asyncio's own of Debian 12's Python says the wrong thing."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import pytest

from voicemeet_edge.timeouts import timeout

PACKAGE = Path(__file__).parent.parent / "voicemeet_edge"


async def test_time_is_up() -> None:
    with pytest.raises(TimeoutError):
        async with timeout(0.001) as limit:
            await asyncio.Event().wait()
    assert limit.expired()


async def test_time_is_not_up() -> None:
    async with timeout(20), timeout(None):
        await asyncio.sleep(0)


async def test_a_cancelled_task_cleans_up_within_its_time() -> None:
    cleaned: list[str] = []

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            for limit_s in (0.0, 0.001):
                try:
                    async with timeout(limit_s):
                        await asyncio.Event().wait()
                except TimeoutError:
                    cleaned.append("in time")

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert cleaned == ["in time"] * 2


async def test_a_task_that_outlived_a_group_has_timeouts() -> None:
    async def fails() -> None:
        raise ValueError

    with contextlib.suppress(BaseExceptionGroup):
        async with asyncio.TaskGroup() as group:
            group.create_task(fails())
    with pytest.raises(TimeoutError):
        async with timeout(0.001):
            await asyncio.Event().wait()


async def test_a_cancellation_meanwhile_is_no_timeout() -> None:
    waiting = asyncio.Event()

    async def work() -> None:
        async with timeout(20):
            waiting.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(work())
    await waiting.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def test_nobody_uses_the_other_one() -> None:
    users = [
        path.relative_to(PACKAGE)
        for path in PACKAGE.rglob("*.py")
        if path.name != "timeouts.py"
        if "asyncio.timeout(" in path.read_text() or "asyncio.wait_for(" in path.read_text()
    ]
    assert not users
