"""One boot for all tests of this folder."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.machine import system
from tests.machine.qemu import Machine

HERE = Path(__file__).parent


@pytest.fixture(scope="session")
def machine(request: pytest.FixtureRequest) -> Iterator[Machine]:
    """The booted machine, or a skip that says loudly what was not tested."""
    reason = system.why_not()
    if reason:
        pytest.skip(f"THE SERVICES WERE NOT TESTED UNDER A REAL SYSTEMD: {reason}")
    with Machine(system.build()) as booted:
        shutil.copyfile(HERE / "bench.sh", booted.share / "bench.sh")
        yield booted
