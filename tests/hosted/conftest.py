"""One Postgres of each version and one whole stack for all tests here; a database for each test."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hosted.postgres import NotInstalledError, Postgres, programs, running
from tests.hosted.stack import Stack, deno, hosted


@contextlib.contextmanager
def or_skip() -> Iterator[None]:
    """Skip with the reason where a real part cannot be had; tests for it are no failures there."""
    try:
        yield
    except NotInstalledError as error:
        pytest.skip(f"NOT TESTED, the hosted backend: {error}")


@pytest.fixture(scope="session")
def postgres17() -> Iterator[Postgres]:
    """The version of new projects."""
    with or_skip(), running(17) as server:
        server.prepare()
        yield server


@pytest.fixture(scope="session")
def postgres15() -> Iterator[Postgres]:
    """The version of older projects, with the platform's clock."""
    try:
        with running(15, "shared_preload_libraries=pg_cron", "cron.database_name=clock") as server:
            server.prepare()
            yield server
    except (FileNotFoundError, RuntimeError) as error:
        pytest.skip(f"Postgres 15 with pg_cron is not installed: {error}")


@pytest.fixture(scope="session", params=["17", "15"])
def postgres(request: pytest.FixtureRequest) -> Postgres:
    """Each version in turn."""
    server: Postgres = request.getfixturevalue(f"postgres{request.param}")
    return server


@pytest.fixture(scope="module")
def stack(postgres17: Postgres) -> Iterator[Stack]:
    """The whole backend, for all tests of a file; each uses devices and tickets of its own."""
    with or_skip(), hosted(postgres=postgres17) as running_stack:
        yield running_stack


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say loudly what this run cannot have tried: a skip alone is one letter among many."""
    missing = [f"Postgres {major}" for major in (17, 15) if programs(major) is None]
    for version in ("2.9", "2.1"):
        try:
            deno(version)
        except NotInstalledError:
            missing.append(f"Deno {version}")
    if shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin") is None:
        missing.append("PgBouncer")
    if missing:
        said = f"the hosted backend was NOT fully tested here, without {', '.join(missing)} for this machine"
        terminalreporter.write_line(said, yellow=True, bold=True)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything here is whole processes."""
    for item in items:
        if item.path.parent == Path(__file__).parent:
            item.add_marker(pytest.mark.system)
