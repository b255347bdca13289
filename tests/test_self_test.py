"""When the device tests itself, what disturbs it, and what is made of what it finds."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.hub.running import loopback, run
from voicemeet_edge import self_test
from voicemeet_edge.audio.likeness import Likeness
from voicemeet_edge.echo_call import EchoCall
from voicemeet_edge.errors import BackendError
from voicemeet_edge.hub.settings import MatchSettings
from voicemeet_edge.self_test import InUseError, SelfTest, _judge, _no_call, seconds_until, test_line
from voicemeet_edge.settings import Settings
from voicemeet_edge.system.findings import Finding, Outcome
from voicemeet_edge.testing.waiting import until

test_line.__test__ = False  # type: ignore[attr-defined]  # the product's, not one of ours
SETTINGS = Settings.parse('[backend]\nurl = "http://127.0.0.1:1"\napikey = "a.b.c"\n')
WELL = [Finding("call", Outcome.WELL, "well")]
FAULT = [Finding("call", Outcome.FAULT, "bad")]


@pytest.mark.parametrize(
    ("time_of_day", "age_s", "due_s"),
    [
        ("03:30", 0.0, 3.5 * 3600),
        ("03:30", 86_400.0, -20.5 * 3600),  # yesterday's time has come since
        ("00:00", 0.0, 24 * 3600.0),
        ("23:59", 61.0, -60.0),
    ],
)
def test_the_time_of_day(time_of_day: str, age_s: float, due_s: float) -> None:
    midnight = datetime(2026, 5, 5, 0, 0, tzinfo=UTC)
    assert seconds_until(time_of_day, age_s, midnight) == due_s


@pytest.mark.parametrize(
    ("call", "outcome"),
    [
        (EchoCall(True, 0.4, Likeness(0.9, 150.0), 0.0, True), Outcome.WELL),
        (EchoCall(True, 0.4, Likeness(0.5, 150.0), 0.0, True), Outcome.DOUBT),
        (EchoCall(True, 0.4, Likeness(0.9, 900.0), 0.0, True), Outcome.DOUBT),
        (EchoCall(True, 0.4, Likeness(0.9, 150.0), 0.2, True), Outcome.DOUBT),
        (EchoCall(True, 0.4, Likeness(0.2, 150.0), 0.2, True), Outcome.FAULT),
        (EchoCall(False, 0.4, Likeness(0.9, 150.0), 0.0, False), Outcome.FAULT),
    ],
)
def test_a_call_is_judged(call: EchoCall, outcome: Outcome) -> None:
    found = _judge(call)
    assert found.outcome is outcome
    assert bool(found.advice) == (outcome is not Outcome.WELL)


def test_a_backend_that_knows_no_such_pool_is_no_fault() -> None:
    assert _no_call(BackendError("no", code="unknown_pool", status=404)).outcome is Outcome.SKIPPED
    assert _no_call(BackendError("no", code="unreachable", status=0)).outcome is Outcome.FAULT


class Bench:
    """A self-test whose line is made up."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.idle = True
        self.told: list[bool] = []
        self.line: Callable[[], list[Finding]] = lambda: WELL
        self.goes_on = asyncio.Event()
        self.begun = asyncio.Event()
        self.count = 0
        self.goes_on.set()
        monkeypatch.setattr(self_test, "test_line", self._line)
        self.test = SelfTest(SETTINGS, is_idle=lambda: self.idle, own_faults=list, tell=self.told.append)

    async def _line(self, _settings: Settings) -> tuple[list[Finding], dict[str, float]]:
        self.begun.set()
        await self.goes_on.wait()
        self.count += 1
        return self.line(), {"likeness": 0.9}


async def test_what_it_finds_is_told_and_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(monkeypatch)
    assert bench.test.snapshot() is None
    await bench.test.test()
    snapshot = bench.test.snapshot()
    assert snapshot is not None
    assert snapshot["outcome"] == "passed"
    assert snapshot["figures"] == {"likeness": 0.9}
    bench.line = lambda: FAULT
    result = await bench.test.test()
    assert result.as_json()["outcome"] == "fault"
    snapshot = bench.test.snapshot()
    assert snapshot is not None
    assert snapshot["outcome"] == "failed"
    assert bench.told == [False, True]


async def test_somebody_at_the_button_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(monkeypatch)
    bench.goes_on.clear()
    testing = asyncio.create_task(bench.test.test())
    await bench.begun.wait()
    bench.test.interrupt()
    with pytest.raises(InUseError):
        await testing
    assert bench.told == []
    bench.idle = False
    with pytest.raises(InUseError):
        await bench.test.test()
    bench.idle = True
    bench.goes_on.set()
    bench.test.interrupt()  # nothing runs
    await bench.test.test()
    assert bench.told == [False]


async def test_who_stops_the_device_while_a_press_ends_the_test_is_not_kept_waiting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(self_test, "FIRST_AFTER_S", 0.0)
    bench = Bench(monkeypatch)
    bench.goes_on.clear()
    running = asyncio.create_task(bench.test.run())
    await bench.begun.wait()
    bench.test.interrupt()
    running.cancel()
    async with asyncio.timeout(10):
        await asyncio.wait([running])
    assert running.cancelled()


async def test_after_the_start_it_tests_once_and_a_failed_one_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(self_test, "FIRST_AFTER_S", 0.0)
    monkeypatch.setattr(self_test, "BUSY_AGAIN_S", 0.01)
    monkeypatch.setattr(self_test, "FAILED_AGAIN_S", 0.01)
    bench = Bench(monkeypatch)
    bench.idle = False
    bench.line = lambda: FAULT if bench.count < 3 else WELL
    running = asyncio.create_task(bench.test.run())
    await asyncio.sleep(0)
    bench.idle = True
    await until(lambda: bench.told == [True, True, False])
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert bench.count == 3


async def test_without_a_time_of_day_it_never_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    never = Settings.parse('[backend]\nurl = "http://127.0.0.1:1"\n[status]\nself_test_at = ""\n')
    await SelfTest(never, is_idle=lambda: True, own_faults=list, tell=lambda _failed: None).run()


async def test_a_hub_without_open_pools_wants_a_pass(tmp_path: Path) -> None:
    async with run(loopback(tmp_path, match=MatchSettings(open_pools=()))) as hub:
        backend = {"url": hub.info.url, "apikey": hub.info.apikey.reveal()}
        findings, figures = await test_line(Settings.from_dict({"backend": backend}))
    assert [finding.outcome for finding in findings] == [Outcome.SKIPPED]
    assert "pass_needed" in findings[0].found
    assert figures == {}
