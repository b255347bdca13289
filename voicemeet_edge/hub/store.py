"""What the hub writes down; the one rule: reports, scores and hourly sums, and nothing else.

SQLite in WAL mode on one thread of its own. Every write is one transaction, synced before it is
answered, so a receipt survives a power cut. No call, address, pairing or name has a column here.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from ..errors import SettingsError, WorldError
from .risk import Score

logger = logging.getLogger(__name__)

SCHEMA_VERSION = 1
MAX_PENDING = 500  # writes queued for the thread; about 5 s of a slow SD card
BUSY_TIMEOUT_S = 5.0  # s; an administrator may have the file open in a shell

_SCHEMA = """
CREATE TABLE reports (
    receipt TEXT PRIMARY KEY,       -- random-looking, given to the reporter
    reported TEXT,                  -- hash of the reported party's short-lived device token
    reason TEXT NOT NULL,
    at INTEGER NOT NULL,            -- unix seconds
    held INTEGER NOT NULL DEFAULT 0 -- kept beyond the 30 days for an investigation
) STRICT;
CREATE INDEX reports_at ON reports (at);
CREATE TABLE scores (device TEXT PRIMARY KEY, value REAL NOT NULL, at REAL NOT NULL) STRICT;
CREATE TABLE call_hours (hour INTEGER PRIMARY KEY, calls INTEGER NOT NULL, seconds INTEGER NOT NULL) STRICT;
"""

_Result = TypeVar("_Result")


class StoreError(WorldError):
    """The disk is full or broken; nothing was stored."""

    code = "storage"


@dataclass(frozen=True, slots=True)
class Report:
    """One stored report."""

    receipt: str
    reported: str | None
    reason: str
    at: int
    held: bool = False


class Store:
    """The hub's database file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="store")
        self._database: sqlite3.Connection | None = None
        self._pending = 0

    async def open(self) -> None:
        """Open the file, making it at first; SettingsError when a newer hub wrote it."""
        await self._run(self._open)

    async def close(self) -> None:
        """Close the file; idempotent."""
        database, self._database = self._database, None
        if database is not None:
            await asyncio.get_running_loop().run_in_executor(self._executor, database.close)
        self._executor.shutdown(wait=False)

    async def add_report(self, report: Report, scores: Iterable[tuple[str, Score]] = ()) -> bool:
        """Store a report and the scores it raised in one transaction; False when it was there already."""
        rows = [(device, score.value, score.at) for device, score in scores]

        def write(database: sqlite3.Connection) -> bool:
            cursor = database.execute(
                "INSERT OR IGNORE INTO reports (receipt, reported, reason, at) VALUES (?, ?, ?, ?)",
                (report.receipt, report.reported, report.reason, report.at),
            )
            if cursor.rowcount:
                database.executemany("INSERT OR REPLACE INTO scores VALUES (?, ?, ?)", rows)
            return bool(cursor.rowcount)

        return await self._write(write)

    async def reports(self) -> list[Report]:
        """Return all stored reports, oldest first (for the administrator)."""

        def read(database: sqlite3.Connection) -> list[Report]:
            rows = database.execute("SELECT receipt, reported, reason, at, held FROM reports ORDER BY at")
            return [Report(receipt, who, why, at, bool(held)) for receipt, who, why, at, held in rows]

        return await self._write(read)

    async def hold(self, receipt: str, held: bool = True) -> bool:
        """Keep a report beyond its days, or stop keeping it; False when there is none."""
        return await self._write(
            lambda database: bool(
                database.execute(
                    "UPDATE reports SET held = ? WHERE receipt = ?", (int(held), receipt)
                ).rowcount
            )
        )

    async def save_scores(self, scores: Iterable[tuple[str, Score]]) -> None:
        """Write scores that changed."""
        rows = [(device, score.value, score.at) for device, score in scores]
        await self._write(
            lambda database: database.executemany("INSERT OR REPLACE INTO scores VALUES (?, ?, ?)", rows)
        )

    async def load_scores(self) -> list[tuple[str, Score]]:
        """Return all scores, least recently raised first."""

        def read(database: sqlite3.Connection) -> list[tuple[str, Score]]:
            rows = database.execute("SELECT device, value, at FROM scores ORDER BY at")
            return [(device, Score(value, at)) for device, value, at in rows]

        return await self._write(read)

    async def add_call(self, seconds: int, now: float) -> None:
        """Add one side's call seconds to the hour's sum."""
        hour = int(now // 3600)
        await self._write(
            lambda database: database.execute(
                "INSERT INTO call_hours VALUES (?, 1, ?) ON CONFLICT (hour) DO UPDATE "
                "SET calls = calls + 1, seconds = seconds + excluded.seconds",
                (hour, seconds),
            )
        )

    async def call_hours(self) -> list[tuple[int, int, int]]:
        """Return (hour since 1970, calls ended, seconds) of all hours."""
        return await self._write(
            lambda database: database.execute("SELECT hour, calls, seconds FROM call_hours").fetchall()
        )

    async def purge(self, now: float, report_days: float, negligible: Iterable[str] = ()) -> int:
        """Delete reports that are old and not held, and these scores; return how many reports went."""
        gone = [(device,) for device in negligible]

        def write(database: sqlite3.Connection) -> int:
            database.executemany("DELETE FROM scores WHERE device = ?", gone)
            limit = int(now - report_days * 86_400)
            return database.execute("DELETE FROM reports WHERE at < ? AND held = 0", (limit,)).rowcount

        purged = await self._write(write)
        # The write-ahead log still holds what was deleted until it is emptied.
        await self._run(self._empty_log)
        return purged

    def _empty_log(self) -> None:
        if self._database is not None:
            self._database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def _open(self) -> None:
        # autocommit off by hand: every write below is one explicit transaction.
        database = sqlite3.connect(
            self._path, isolation_level=None, timeout=BUSY_TIMEOUT_S, check_same_thread=False
        )
        try:
            self._path.chmod(0o600)
            database.execute("PRAGMA journal_mode = WAL")
            database.execute("PRAGMA synchronous = FULL")
            # What is purged must be gone from the file, not only from the index.
            database.execute("PRAGMA secure_delete = ON")
            (version,) = database.execute("PRAGMA user_version").fetchone()
            if version == 0:
                database.executescript(f"BEGIN; {_SCHEMA} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;")
            elif version != SCHEMA_VERSION:
                raise SettingsError(self._path.name, "schema", str(version), f"version {SCHEMA_VERSION}")
        except BaseException:
            database.close()
            raise
        self._database = database

    async def _write(self, work: Callable[[sqlite3.Connection], _Result]) -> _Result:
        def transaction() -> _Result:
            database = self._database
            if database is None:
                raise sqlite3.OperationalError("the store is closed")
            database.execute("BEGIN IMMEDIATE")
            try:
                result = work(database)
                database.execute("COMMIT")
            except BaseException:
                if database.in_transaction:
                    database.execute("ROLLBACK")
                raise
            return result

        return await self._run(transaction)

    async def _run(self, work: Callable[[], _Result]) -> _Result:
        if self._pending >= MAX_PENDING:
            raise StoreError("the storage does not keep up", code="storage_busy")
        self._pending += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._executor, work)
        except sqlite3.Error as error:
            full = getattr(error, "sqlite_errorname", "") == "SQLITE_FULL"
            raise StoreError(
                "the disk is full" if full else "the storage failed",
                code="storage_full" if full else "storage",
            ) from error
        finally:
            self._pending -= 1
