"""Waiting for what nobody announces: the one way the tests do it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

LIMIT_S = 30.0  # s; ends a test that waits in vain, and is no expectation: the machine may be slow
LOOK_S = 0.01  # s between two looks


async def until(true: Callable[[], object], limit_s: float = LIMIT_S) -> None:
    """Wait until something is so.

    Raises:
        AssertionError: it never became so.
    """
    deadline = time.monotonic() + limit_s
    while not true():
        if time.monotonic() > deadline:
            raise AssertionError(f"it did not become so within {limit_s:.0f} s")
        await asyncio.sleep(LOOK_S)


async def loop_turns(count: int = 5) -> None:
    """Let the loop do what already waits in it: what then has not happened will not happen."""
    for _ in range(count):
        await asyncio.sleep(0)
