"""A whole hub on loopback, and small ways to speak to it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.hub.running import RunningHub, loopback, run


@pytest.fixture
async def hub(tmp_path: Path) -> AsyncIterator[RunningHub]:
    """A hub without TLS and TURN, with limits that tests do not meet."""
    async with run(loopback(tmp_path / "state")) as running:
        yield running
