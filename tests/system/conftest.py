"""A laboratory of whole processes for each test."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from tests.system.lab import Lab
from voicemeet_edge.hub.settings import Provider


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Lab]:
    """A running hub without TURN; devices of the test end before it."""
    async for made in _lab(tmp_path, "off"):
        yield made


@pytest.fixture
async def relay_lab(tmp_path: Path) -> AsyncIterator[Lab]:
    """A running hub with its coturn."""
    if shutil.which("turnserver") is None:
        pytest.skip("coturn is not installed (Debian package coturn)")
    async for made in _lab(tmp_path, "coturn"):
        yield made


async def _lab(directory: Path, turn: Provider) -> AsyncIterator[Lab]:
    async with AsyncExitStack() as stack:
        lab = Lab.make(directory, stack, turn=turn)
        stack.push_async_callback(lab.stop_hub)
        await lab.start_hub()
        yield lab
