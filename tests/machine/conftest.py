"""One boot for all tests of this folder, and its figures at the end of the run."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.machine import system
from tests.machine.qemu import Machine

HERE = Path(__file__).parent
_SAID: list[str] = []


def figure(text: str) -> None:
    """Keep a line for the end of the run, where it is read whether or not anything failed."""
    print(text)
    _SAID.append(text)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if _SAID:
        terminalreporter.section("the booted image in figures")
        for line in _SAID:
            terminalreporter.write_line(line)


@pytest.fixture(scope="session")
def machine(request: pytest.FixtureRequest) -> Iterator[Machine]:
    """The booted machine, or a skip that says loudly what was not tested."""
    reason = system.why_not()
    if reason:
        pytest.skip(f"THE SERVICES WERE NOT TESTED UNDER A REAL SYSTEMD: {reason}")
    with Machine(system.build()) as booted:
        shutil.copyfile(HERE / "bench.sh", booted.share / "bench.sh")
        yield booted
