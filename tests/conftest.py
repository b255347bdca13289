"""Options of the whole test run, and what happens when the machine itself stands still.

A test of real-time sound over whole processes cannot pass while the machine runs nothing of it. So a
thread watches the machine during each such test; one that failed while the machine stood still is run
once more, and the line says so. A test that failed without a stall has failed.
"""

from __future__ import annotations

import pytest
from _pytest.runner import runtestprotocol

from voicemeet_edge.testing.stalls import StallWatch

REAL_TIME_FOLDERS = ("system", "attacks", "desk", "audio", "webrtc", "bench", "conformance")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let a person ask for the long versions of the tests that shorten something."""
    parser.addoption(
        "--full", action="store_true", help="outages, soaks and call series in their full length"
    )


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
        terminal = item.config.pluginmanager.get_plugin("terminalreporter")
        if terminal is not None:
            stood = f"the machine stood still for {machine.longest_s:.2f} s"
            terminal.write_line(f"\n{item.nodeid} failed while {stood}: once more")
        item._initrequest()  # type: ignore[attr-defined]  # fixtures anew, as pytest's own rerun plugins do
        reports = runtestprotocol(item, nextitem=nextitem, log=False)
    for report in reports:
        item.ihook.pytest_runtest_logreport(report=report)
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return True
