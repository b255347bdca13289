"""Every test of the contract runs against each backend, unchanged."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.conformance.deployments import (
    CLOSED_POOL,
    HMAC_SECRET,
    OPEN_POOLS,
    TURN_URLS,
    Deployment,
    foreign_deployment,
    hosted_deployment,
    hub_deployment,
)
from tests.hosted.stack import Stack, hosted


@pytest.fixture(scope="session")
def hosted_stack() -> Iterator[Stack]:
    """One hosted backend for all tests here."""
    turn = {
        "VOICEMEET_TURN": "hmac",
        "VOICEMEET_TURN_SECRET": HMAC_SECRET,
        "VOICEMEET_TURN_URLS": " ".join(TURN_URLS),
    }
    try:
        with hosted(turn=turn) as stack:
            for pool in OPEN_POOLS:
                stack.sql("select voicemeet.set_pool(%s, true)", pool)
            stack.sql("select voicemeet.set_pool(%s)", CLOSED_POOL)
            yield stack
    except FileNotFoundError as error:
        pytest.skip(str(error))


@contextlib.asynccontextmanager
async def _deployment(
    request: pytest.FixtureRequest, tmp_path: Path, **limits: float
) -> AsyncIterator[Deployment]:
    if request.param == "hub":
        async with hub_deployment(tmp_path, **limits) as deployment:
            yield deployment
    elif request.param == "hosted":
        stack = await asyncio.to_thread(request.getfixturevalue, "hosted_stack")
        async with hosted_deployment(stack, **limits) as deployment:
            yield deployment
    else:
        foreign = foreign_deployment()
        assert foreign is not None
        try:
            yield foreign
        finally:
            await foreign.close()


BACKENDS = ["hub", "hosted", *(["foreign"] if foreign_deployment() is not None else [])]


@pytest.fixture(params=BACKENDS)
async def backend(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Deployment]:
    """A backend whose limits are wide."""
    async with _deployment(request, tmp_path) as deployment:
        yield deployment


@pytest.fixture(params=["hub", "hosted"])
async def narrow(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Deployment]:
    """A backend that takes four requests of a device at once and one in ten seconds after."""
    async with _deployment(request, tmp_path, device_burst=4, device_per_s=0.1) as deployment:
        yield deployment


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything here is whole processes."""
    for item in items:
        if item.path.parent == Path(__file__).parent:
            item.add_marker(pytest.mark.system)
