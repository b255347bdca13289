"""A booted system for the tests of this folder."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.booted import root
from tests.booted.booted import Booted, why_not
from tests.booted.house import House, install

HERE = Path(__file__).parent


def booted(number: str) -> Iterator[Booted]:
    """A Debian of that number with all it needs, or a skip that says loudly what was not tested."""
    reason = why_not()
    if reason:
        pytest.skip(f"THE SERVICES WERE NOT TESTED UNDER A REAL SYSTEMD: {reason}")
    release = root.RELEASES[number]
    lower, packages = root.debian(release), root.packages(release)
    with tempfile.TemporaryDirectory(prefix="booted-") as name:
        folder = Path(name)
        share = folder / "share"
        shutil.copytree(packages, share / "packages")
        for tool in (HERE / "door.py", HERE / "fill.py", HERE.parent / "machine/wedge.py"):
            shutil.copy(tool, share / tool.name)
        checkout = root.checkout(folder / "checkout")
        with Booted(lower, folder, share=share, checkout=checkout) as system:
            print(f"Debian {number} booted after {system.booted_after_s:.1f} s")
            yield system


@pytest.fixture(scope="module")
def debian() -> Iterator[Booted]:
    """A Debian 12 without the product."""
    yield from booted("12")


@pytest.fixture(scope="module")
def debian13() -> Iterator[Booted]:
    """A Debian 13 without the product."""
    yield from booted("13")


@pytest.fixture(scope="session")
def house() -> Iterator[House]:
    """A Debian 12 with hub and device as `make` installs them."""
    for system in booted("12"):
        yield install(system)
