"""Measures which lines of the product the tests of each file run (`pytest -p tests.covered`, `make cover`).

A line's context is the test file during which it ran, whether the test itself ran it, a fixture, a task or a
thread; what ran before the first test, which is the imports, has none. Each process writes a file of its own.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from coverage import Coverage

coverage = Coverage(data_suffix=True)
coverage.start()  # pytest loads this before it imports anything of ours

_file = ""


def pytest_runtest_logstart(nodeid: str) -> None:
    """Let what runs from here on count for this test's file."""
    global _file
    file = nodeid.partition("::")[0]
    if file != _file:
        _file = file
        coverage.switch_context(file)


@pytest.hookimpl(wrapper=True)
def pytest_sessionfinish() -> Iterator[None]:
    """Leave what was measured."""
    yield
    coverage.stop()
    coverage.save()
