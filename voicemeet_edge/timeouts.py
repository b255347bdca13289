"""`asyncio.timeout` that keeps its word in a task which was cancelled before.

One rule: use this one everywhere. Up to Python 3.11.3 (Debian 12 has 3.11.2) asyncio's own ends with
CancelledError instead of TimeoutError in a task that has already been cancelled once: whoever cleans up
after a cancellation would lose what comes after the wait, and a task that lived on would end at its next
timeout. A TaskGroup whose child fails leaves its parent in that state too.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any


@asynccontextmanager
async def timeout(seconds: float | None) -> AsyncIterator[asyncio.Timeout]:
    """Raise TimeoutError when the block takes longer; None is no limit."""
    task = asyncio.current_task()
    before = task.cancelling() if task is not None else 0
    limit = asyncio.timeout(seconds)
    try:
        async with limit:
            yield limit
    except asyncio.CancelledError as error:
        # Newer versions have turned it into a TimeoutError already. Only our own cancellation is one.
        if limit.expired() and task is not None and task.cancelling() <= before:
            raise TimeoutError from error
        raise


async def until_one_fails(*work: Coroutine[Any, Any, None]) -> None:
    """Run these side by side until one fails, end the others, and raise what it raised.

    Not a TaskGroup: up to Python 3.12 one whose child failed leaves this task marked as cancelled, and this
    task lives on; libraries' timeouts in it would then end it.
    """
    tasks = [asyncio.create_task(one) for one in work]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
