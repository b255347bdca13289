"""Options of the whole test run."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let a person ask for the long versions of the tests that shorten something."""
    parser.addoption(
        "--full", action="store_true", help="outages, soaks and call series in their full length"
    )
