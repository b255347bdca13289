"""The store: what was answered is there after the worst, what is old is gone for good."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from voicemeet_edge.errors import SettingsError
from voicemeet_edge.hub import store as store_module
from voicemeet_edge.hub.risk import Score
from voicemeet_edge.hub.store import Report, Store, StoreError

DAY = 86_400


@contextlib.asynccontextmanager
async def opened(path: Path) -> AsyncIterator[Store]:
    store = Store(path)
    await store.open()
    try:
        yield store
    finally:
        await store.close()


async def test_report_and_scores_survive_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "hub.db"
    report = Report("R1", "dev", "abuse", 100)
    async with opened(path) as store:
        assert await store.add_report(report, [("dev", Score(1.0, 100.0))])
        assert not await store.add_report(report, [("dev", Score(2.0, 100.0))])
    async with opened(path) as store:
        assert await store.reports() == [report]
        assert await store.load_scores() == [("dev", Score(1.0, 100.0))]
    assert path.stat().st_mode & 0o777 == 0o600


async def test_old_reports_are_purged_unless_held(tmp_path: Path) -> None:
    async with opened(tmp_path / "hub.db") as store:
        for receipt, at in (("old", 0), ("held", 0), ("new", 2 * DAY)):
            await store.add_report(Report(receipt, None, "abuse", at))
        assert await store.hold("held")
        assert not await store.hold("nobody")
        assert await store.purge(30 * DAY + 1, 30) == 1
        assert [report.receipt for report in await store.reports()] == ["held", "new"]
        await store.hold("held", False)
        assert await store.purge(30 * DAY + 1, 30) == 1


def all_bytes(directory: Path) -> bytes:
    return b"".join(file.read_bytes() for file in directory.iterdir())


async def test_purged_reports_leave_no_trace_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "hub.db"
    async with opened(path) as store:
        await store.add_report(Report("R1", "dev-hash-to-vanish", "abuse", 0))
        await store.purge(31 * DAY, 30)
        assert b"dev-hash-to-vanish" not in all_bytes(tmp_path)


async def test_seconds_are_summed_by_the_hour(tmp_path: Path) -> None:
    async with opened(tmp_path / "hub.db") as store:
        for seconds, now in ((10, 0.0), (20, 3599.0), (5, 3600.0)):
            await store.add_call(seconds, now)
        with contextlib.closing(sqlite3.connect(tmp_path / "hub.db")) as database:
            assert database.execute("SELECT * FROM call_hours").fetchall() == [(0, 2, 30), (1, 1, 5)]


async def test_negligible_scores_go_with_the_purge(tmp_path: Path) -> None:
    async with opened(tmp_path / "hub.db") as store:
        await store.save_scores([("a", Score(1.0, 0.0)), ("b", Score(1.0, 1.0))])
        await store.purge(0, 30, ["a"])
        assert [device for device, _ in await store.load_scores()] == ["b"]


async def test_full_disk_is_a_clear_error_and_leaves_nothing_half(tmp_path: Path) -> None:
    async with opened(tmp_path / "hub.db") as store:
        # SQLite's own limit gives the very error a full disk gives.
        await store._run(lambda: store._database and store._database.execute("PRAGMA max_page_count = 12"))
        stored = 0

        async def fill() -> None:
            nonlocal stored
            for number in range(1000):
                report = Report(f"R{number}", "d" * 500, "abuse", 0)
                await store.add_report(report, [(f"d{number}", Score(1, 0))])
                stored += 1

        with pytest.raises(StoreError) as caught:
            await fill()
        assert caught.value.code == "storage_full"
        assert len(await store.reports()) == len(await store.load_scores()) == stored


async def test_a_newer_hubs_file_is_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "hub.db"
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA user_version = 99")
    store = Store(path)
    with pytest.raises(SettingsError):
        await store.open()
    await store.close()


async def test_a_file_that_is_no_database_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "hub.db"
    path.write_bytes(b"not a database, by far not" * 100)
    store = Store(path)
    with pytest.raises(StoreError):
        await store.open()
    await store.close()


async def test_closed_store_refuses(tmp_path: Path) -> None:
    store = Store(tmp_path / "hub.db")
    await store.open()
    await store.close()
    await store.close()


WRITER = """
import asyncio, sys
from pathlib import Path
from voicemeet_edge.hub.store import Report, Store
async def main():
    store = Store(Path(sys.argv[1]))
    await store.open()
    for number in range(100_000):
        await store.add_report(Report(f"R{number}", "dev", "abuse", 0))
        print(number, flush=True)
asyncio.run(main())
"""


@pytest.mark.system
async def test_every_answered_report_is_there_after_kill_9(tmp_path: Path) -> None:
    path = tmp_path / "hub.db"
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-c", WRITER, str(path), stdout=asyncio.subprocess.PIPE
    )
    assert child.stdout is not None
    answered = -1
    while answered < 20:
        answered = int(await child.stdout.readline())
    child.kill()
    rest = await child.stdout.read()
    await child.wait()
    whole_lines = rest.decode().split("\n")[:-1]
    answered = int(whole_lines[-1]) if whole_lines else answered
    async with opened(path) as store:
        receipts = {report.receipt for report in await store.reports()}
        assert await store.add_report(Report("after", None, "abuse", 0))
    assert {f"R{number}" for number in range(answered + 1)} <= receipts


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own that a test can fill."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small disk needs root")
    place = tmp_path / "disk"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(place)], check=True)
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def fill(place: Path) -> None:
    with contextlib.suppress(OSError), (place / "filler").open("wb", buffering=0) as file:
        while True:
            file.write(bytes(1024))


async def test_with_a_full_disk_calls_go_on_and_reports_are_refused(
    small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = small_disk / "hub.db"
    async with opened(path) as store:
        await store.add_report(Report("R0", None, "abuse", 0), [("known", Score(2.0, 0.0))])
    fill(small_disk)
    monkeypatch.setattr(store_module, "REOPEN_S", 0.0)
    async with opened(path) as store:
        assert not store.has_room
        assert [score[0] for score in await store.load_scores()] == ["known"]
        await store.add_call(10, 3600.0)
        await store.save_scores([("newer", Score(1.0, 1.0))])
        with pytest.raises(StoreError, match="full") as caught:
            await store.add_report(Report("R1", None, "abuse", 0))
        assert caught.value.code == "storage_full"
        (small_disk / "filler").unlink()
        assert await store.add_report(Report("R2", None, "abuse", 0))
        assert store.has_room
    async with opened(path) as store:
        assert [report.receipt for report in await store.reports()] == ["R0", "R2"]
        assert {score[0] for score in await store.load_scores()} == {"known", "newer"}


async def test_a_disk_that_was_full_from_the_start_is_served_without(small_disk: Path) -> None:
    fill(small_disk)
    async with opened(small_disk / "hub.db") as store:
        assert not store.has_room
        assert await store.load_scores() == []
