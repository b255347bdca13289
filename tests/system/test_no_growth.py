"""Calls in a row leave nothing behind: no memory, thread, file, task or allocation at the relay."""

from __future__ import annotations

import asyncio

import pytest

from bench.call_soak import run_series
from tests.system.lab import Lab, LabCall

pytestmark = [pytest.mark.system, pytest.mark.timeout(1200)]

FEW_CALLS = 15
MANY_CALLS = 200  # with --full
NOISE_KB = 3000  # kB of anonymous memory that come and go with the allocator's arenas


async def test_calls_in_a_row_leave_nothing_behind(relay_lab: Lab, pytestconfig: pytest.Config) -> None:
    calls = MANY_CALLS if pytestconfig.getoption("--full") else FEW_CALLS
    assert relay_lab.info is not None
    assert relay_lab.info.coturn_pid is not None
    devices = await asyncio.gather(*(relay_lab.device(name, LabCall(policy="relay")) for name in ("a", "b")))
    series = await run_series(devices, relay_lab.info.coturn_pid, calls)
    assert series.relay_during > series.relay_before  # they were relayed, and counted
    assert series.relay_after <= series.relay_before
    for name, before in series.before.items():
        after = series.after[name]
        assert after.tasks <= before.tasks
        assert after.threads <= before.threads
        assert after.files <= before.files
        assert after.anonymous_kb <= before.anonymous_kb + NOISE_KB
