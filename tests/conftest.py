"""Options of the whole test run, its parts and gates, and what happens when the machine itself stands still.

A test of real-time sound over whole processes cannot pass while the machine runs nothing of it. So a
thread watches the machine during each such test; one that failed while the machine stood still is run
once more, and the summary counts them. A test that failed without a stall has failed.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest
from _pytest.mark.expression import Expression
from _pytest.runner import runtestprotocol
from blockbuster import BlockBuster
from hypothesis import HealthCheck, settings
from typing_extensions import override
from xdist.scheduler import LoadScopeScheduling

from tests.ports import reserved_port
from voicemeet_edge.testing.stalls import StallWatch

TESTS = Path(__file__).parent
REAL_TIME_FOLDERS = (
    "system",
    "attacks",
    "desk",
    "audio",
    "webrtc",
    "bench",
    "booted",
    "conformance",
    "machine",
)
# Folders whose tests start processes, browsers or namespaces; single files and tests say so themselves.
SYSTEM_FOLDERS = ("attacks", "bench", "booted", "conformance", "desk", "hosted", "machine", "system")
SLOW_MARKS = ("system", "namespaces", "machine")
OTHER_MARKS = ("namespaces", "machine", "alone")
# What measures sound, packets or processor time, or is a whole machine: nothing runs beside it.
ALONE = (
    "audio/test_alsa.py",
    "bench/test_call.py",
    "bench/test_idle.py",
    "image/",
    "machine/",
    "system/test_alsa_call.py",
    "system/test_narrow_line.py",
    "webrtc/test_setup.py",
)
# Tests of one kind go one after the other, beside those of other kinds: they share what is slow to start, and
# no two of them want the same of the machine at once.
TOGETHER = (
    "attacks/test_path.py",
    "booted/",
    "conformance/",
    "desk/test_calls.py",
    "desk/",
    "hosted/",
    "system/",
)
# What takes a core for seconds goes first: at the end the other core would wait for it.
LONG = ("call/test_ring.py", "voice/test_congestion.py", "voice/test_echo.py", "webrtc/test_full_lines.py")
STOOD_STILL = "the machine stood still"
DOUBLES = ("voicemeet_edge.testing", "voicemeet_edge.demo")
# Where the product may block its loop, and why nobody waits for it there.
MAY_BLOCK = (
    ("voicemeet_edge/audio/capture.py", {"_sleep_until_frame"}),  # a thread's work, called by hand in a test
    ("voicemeet_edge/hub/app.py", {"read_info", "run_hub"}),  # before the hub serves
    ("voicemeet_edge/hub/reports.py", {"look_into_reports"}),  # a command of its own
    ("voicemeet_edge/hub/secrets.py", {"load_or_make_secrets", "load_secrets"}),
    ("voicemeet_edge/hub/settings.py", {"load_hub_settings"}),
    ("voicemeet_edge/hub/tls.py", {"make_self_signed"}),
    (
        "voicemeet_edge/net/addresses.py",
        {"building_address", "own_addresses", "primary_address"},
    ),  # asks the kernel's tables
    ("voicemeet_edge/system/status.py", {"start", "close"}),  # at start and end
    ("voicemeet_edge/voice/opus.py", {"library_path"}),  # once, before the first call
)

# A test judges no speed: the machine may be a slow one, or busy.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")

run_again: dict[str, str] = {}
"""Tests that were run once more, and how long the machine had stood still."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let a person ask for the long versions of the tests that shorten something."""
    parser.addoption(
        "--full", action="store_true", help="outages, soaks and call series in their full length"
    )


class Marks(dict[str, bool]):
    """The marks of a test, asked as pytest asks an expression of `-m`."""

    def __call__(self, name: str, /, **_: str | int | bool | None) -> bool:
        return self[name]


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Do not even import what `-m` takes nothing of: that would take each worker seconds."""
    if not config.option.markexpr or not (may_have := possible_marks(collection_path)):
        return None
    wanted = Expression.compile(config.option.markexpr)
    none = dict.fromkeys(("system", *OTHER_MARKS), False)
    try:
        may = any(wanted.evaluate(Marks({**none, **marks})) for marks in may_have)
    except KeyError:  # a mark that we do not set
        return None
    return None if may else True


def possible_marks(path: Path) -> list[dict[str, bool]]:
    """Return every set of marks that a test of a system folder or of another folder's file may have."""
    fixed: dict[str, bool]
    open_: tuple[str, ...]
    if path.parent == TESTS and path.name in SYSTEM_FOLDERS:
        fixed, open_ = {"system": True}, OTHER_MARKS
    elif path.match("test_*.py") and path.parent.name not in SYSTEM_FOLDERS:
        text = path.read_text()
        open_ = tuple(name for name in SLOW_MARKS if f"mark.{name}" in text)
        fixed = {"alone": bool(open_) and path.relative_to(TESTS).as_posix().startswith(ALONE)}
    else:
        return []
    values = itertools.product((False, True), repeat=len(open_))
    return [{**fixed, **dict(zip(open_, has, strict=True))} for has in values]


class ByKind(LoadScopeScheduling):
    """Gives tests of one kind to one worker, and the others one by one."""

    @override
    def _split_scope(self, nodeid: str) -> str:
        place = nodeid.removeprefix("tests/")
        return next((start for start in TOGETHER if place.startswith(start)), nodeid)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> ByKind | None:
    """Let `--dist loadgroup` mean our kinds; xdist's own marks do nothing under this pytest."""
    return ByKind(config, log) if config.getvalue("dist") == "loadgroup" else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what needs processes, so that `make quick` can leave it out, and what needs the machine."""
    items.sort(key=lambda item: not item.path.relative_to(TESTS).as_posix().startswith(LONG))
    for item in items:
        place = item.path.relative_to(TESTS).as_posix()
        if item.path.parent.name in SYSTEM_FOLDERS:
            item.add_marker(pytest.mark.system)
        has = [name for name in SLOW_MARKS if item.get_closest_marker(name)]
        if item.path.parent.name not in SYSTEM_FOLDERS:
            unnamed = [name for name in has if f"mark.{name}" not in item.path.read_text()]
            if unnamed:  # `pytest_ignore_collect` reads the file: no part would run it
                raise pytest.UsageError(f"{item.nodeid}: the file itself has to name its mark, {unnamed}")
        if has and place.startswith(ALONE):
            item.add_marker(pytest.mark.alone)


@pytest.fixture
def unused_tcp_port() -> int:
    """In place of pytest-asyncio's, which anybody may take before the server that it is for."""
    return reserved_port()


@pytest.fixture(scope="session")
def blocking_guard() -> BlockBuster:
    """What notices a blocking call of the product on an event loop."""
    guard = BlockBuster(["voicemeet_edge"], excluded_modules=list(DOUBLES))
    for function in guard.functions.values():
        for file, names in MAY_BLOCK:
            function.can_block_in(file, names)
    return guard


@pytest.fixture(autouse=True)
def no_blocking_on_the_loop(request: pytest.FixtureRequest, blocking_guard: BlockBuster) -> Iterator[None]:
    """Fail a test whose product code blocks the event loop: a file, a socket, a sleep, a lock.

    Not in tests of whole processes: there the product runs elsewhere, and the test may read its files.
    """
    if request.node.get_closest_marker("system") is not None:
        yield
        return
    blocking_guard.activate()
    yield
    blocking_guard.deactivate()


def is_real_time(item: pytest.Item) -> bool:
    """Whether the machine's own pauses can make this test fail."""
    return item.path.parent.name in REAL_TIME_FOLDERS


def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
    """Run a real-time test, once more if it failed while the machine stood still."""
    if not is_real_time(item):
        return None
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    with StallWatch() as machine:
        reports = runtestprotocol(item, nextitem=nextitem, log=False)
    if machine.stalls and any(report.failed for report in reports):
        item.user_properties.append((STOOD_STILL, f"{machine.longest_s:.2f} s"))
        item._initrequest()  # type: ignore[attr-defined]  # fixtures anew, as pytest's own rerun plugins do
        reports = runtestprotocol(item, nextitem=nextitem, log=False)
    for report in reports:
        item.ihook.pytest_runtest_logreport(report=report)
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return True


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Note who was run again; with several workers this is called in the process that sums up."""
    for name, value in report.user_properties:
        if name == STOOD_STILL:
            run_again[report.nodeid] = str(value)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how many tests needed a second run: a few on a busy machine, a habit never."""
    if run_again:
        terminalreporter.section(f"{len(run_again)} run twice, because {STOOD_STILL}")
        for test, stood in sorted(run_again.items()):
            terminalreporter.write_line(f"{test} ({stood})")
