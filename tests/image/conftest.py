"""Long tests of the image, run by `make test-image` only: a copy of the built disk for each test."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.machine import system
from tests.machine.qemu import System

WANTED = "VOICEMEET_TEST_IMAGE"
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

    def copy() -> System:
        disk = tmp_path / "card.img"
        disk.unlink(missing_ok=True)
        subprocess.run(["cp", "--sparse=always", str(built.disk), str(disk)], check=True)
        return replace(built, disk=disk, writable=True)

    return copy


@pytest.fixture(scope="session")
def arm64() -> System:
    """The arm64 image of a device, built when it is missing: half an hour of emulation from nothing."""
    reason = system.why_not()
    if reason:
        pytest.skip(f"THE ARM64 IMAGE WAS NOT TESTED: {reason}")
    out = system.CACHE / "out"
    command = [str(system.TOP / "image-build/build"), "--arch", "arm64", "--cache", str(system.CACHE)]
    subprocess.run([*command, "--out", str(out)], check=True)
    return System(
        out / f"{ARM64}.img",
        kernel=out / f"{ARM64}.kernel",
        initrd=out / f"{ARM64}.initrd",
        append=(out / f"{ARM64}.cmdline").read_text().strip(),
        memory_mb=1024,
        writable=True,
    )


@pytest.fixture
def own_card(arm64: System, tmp_path: Path) -> Callable[[], System]:
    def copy() -> System:
        disk = tmp_path / "card.img"
        subprocess.run(["cp", "--sparse=always", str(arm64.disk), str(disk)], check=True)
        with disk.open("r+b") as file:
            file.truncate(2 << 30)
        return replace(arm64, disk=disk)

    return copy
