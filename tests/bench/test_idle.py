"""A device that waits, for a moment: what its threads used is counted, and what is too much is said."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest

from bench import idle
from bench.idle import Spent, between, measure, table, threads_of


def test_each_threads_wakes_are_counted() -> None:
    slept, go_on = threading.Event(), threading.Event()

    def work() -> None:
        for _ in range(20):
            time.sleep(0.001)
        slept.set()
        go_on.wait()

    worker = threading.Thread(target=work)
    before = threads_of(os.getpid())
    worker.start()
    try:
        assert slept.wait(30)
        used = between(before, threads_of(os.getpid()))
    finally:
        go_on.set()
        worker.join()
    assert used[0].wakes >= 20


def test_a_thread_that_is_new_counts_from_nothing() -> None:
    before = {1: Spent("loop", 1_000, 10)}
    after = {1: Spent("loop", 3_000, 12), 2: Spent("dimmer", 500, 200)}
    assert between(before, after) == [Spent("dimmer", 500, 200), Spent("loop", 2_000, 2)]


def test_the_share_of_a_core_is_of_all_threads() -> None:
    text, share = table([Spent("dimmer", 80_000_000, 1930), Spent("loop", 10_000_000, 33)], 10.0)
    assert share == pytest.approx(0.009)
    assert [line.split() for line in text.splitlines()[1:]] == [
        ["dimmer", "193.00", "0.800"],
        ["loop", "3.30", "0.100"],
        ["all", "196.30", "0.900"],
    ]


@pytest.mark.system
@pytest.mark.timeout(120)
async def test_an_idle_device_lets_its_lamp_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(idle, "SETTLE_S", 1.0)
    took, rows = await measure(1.0, 1, tmp_path)
    assert len(took) == 1
    assert took[0].ready_s > 0.0
    assert took[0].stopped_s > 0.0
    names = {row.name for row in rows}
    assert {"watchdog", "gpio-edges"} <= names
    assert "lamp-dimmer" not in names
