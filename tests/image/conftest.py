"""Long tests of the image, run by `make test-image` only: a copy of the built disk for each test."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.image.builder import build, flash
from tests.image.shelf import Shelf
from tests.machine import system
from tests.machine.qemu import System
from tests.machine.station import Station

WANTED = "VOICEMEET_TEST_IMAGE"
CARD_BYTES = 2 << 30  # QEMU's raspi3b takes cards of a power of two only
ARM64 = "voicemeet-edge-device-arm64"  # what a build of it is called


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if os.environ.get(WANTED):
        return
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(
                pytest.mark.skip(reason=f"an hour of virtual machines: make test-image ({WANTED}=1)")
            )


@pytest.fixture(scope="session")
def built() -> System:
    """The amd64 image, built when it is missing."""
    reason = system.why_not()
    if reason:
        pytest.skip(f"THE IMAGE WAS NOT TESTED: {reason}")
    return system.build()


@pytest.fixture
def fresh(built: System, tmp_path: Path) -> Callable[[], System]:
    """Make a card of its own for a test: what is written to it stays."""
    return lambda: flash(built, tmp_path / "card.img")


@pytest.fixture(scope="session")
def arm64() -> System:
    """The arm64 image of a device."""
    return replace(build("arm64", "device"), memory_mb=1024)


@pytest.fixture
def own_card(arm64: System, tmp_path: Path) -> Callable[[], System]:
    return lambda: flash(arm64, tmp_path / "card.img", CARD_BYTES)


@pytest.fixture(scope="module")
def shelf(built: System, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shelf]:
    made = Shelf(built, tmp_path_factory.mktemp("updates"))
    yield made
    made.close()


@pytest.fixture
def station(shelf: Shelf, request: pytest.FixtureRequest) -> Station:
    print(f"\n{request.node.name}", flush=True)
    return shelf.take()


@pytest.fixture
def version(shelf: Shelf) -> str:
    return shelf.version()
