"""What the hub writes down; the one rule: reports, scores, hourly sums, hashes of passes, and nothing else.

SQLite in WAL mode on one thread of its own. Every write is one transaction, synced before it is
answered, so a receipt survives a power cut. No call, address, pairing or name has a column here.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sqlite3
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from voicemeet_edge.backend.admission import PASS_ID_CHARS, parse_admission_key
from voicemeet_edge.backend.verbs import Role
from voicemeet_edge.errors import EnvironmentFault, SettingsError
from voicemeet_edge.hub.passes import OPERATOR, Pass, PassBook
from voicemeet_edge.hub.risk import Score
from voicemeet_edge.records import dataclass
from voicemeet_edge.secret import Secret

logger = logging.getLogger(__name__)

SCHEMA_VERSION = 3
MAX_PENDING = 500  # writes queued for the thread; about 5 s of a slow SD card
BUSY_TIMEOUT_S = 5.0  # s; an administrator may have the file open in a shell
REOPEN_S = 30.0  # s between looks whether a full disk has room again
NO_ROOM = ("SQLITE_FULL", "SQLITE_IOERR", "SQLITE_READONLY", "SQLITE_CANTOPEN")  # and their extensions

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
_SCHEMA_2 = """
CREATE TABLE passes (
    hash TEXT PRIMARY KEY,          -- of the pass; the pass itself is nowhere
    pool TEXT NOT NULL,
    role TEXT NOT NULL,
    label TEXT NOT NULL,            -- the operator's own word for it
    made_at INTEGER NOT NULL,       -- unix seconds
    revoked_at INTEGER              -- when it was taken back; NULL while it is good
) STRICT;
CREATE TABLE admission_keys (pool TEXT NOT NULL, key TEXT NOT NULL, PRIMARY KEY (pool, key)) STRICT;
CREATE TABLE clock (one INTEGER PRIMARY KEY CHECK (one = 1), at INTEGER NOT NULL) STRICT;
ALTER TABLE reports ADD COLUMN pool TEXT NOT NULL DEFAULT '';
ALTER TABLE reports ADD COLUMN pass TEXT NOT NULL DEFAULT ''; -- id of the reported party's pass
"""
_SCHEMA_3 = """
CREATE TABLE key_rotations (pool TEXT PRIMARY KEY, key TEXT NOT NULL) STRICT; -- id of the new admission key
CREATE TABLE key_use (pass TEXT PRIMARY KEY, key TEXT NOT NULL) STRICT; -- which was proved last, meanwhile
"""
_STEPS = (_SCHEMA, _SCHEMA_2, _SCHEMA_3)

_Result = TypeVar("_Result")


class StoreError(EnvironmentFault):
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
    pool: str = ""
    pass_id: str = ""
    """Of the reported party, "" when it had none."""


class Store:
    """The hub's database file; while the disk has no room, a copy of it in memory that takes no reports.

    A receipt promises that the report is kept, so none is given for one that a restart would lose.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._without_room: sqlite3.Error | OSError | None = None
        self._reopen_at = 0.0
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
                "INSERT OR IGNORE INTO reports (receipt, reported, reason, at, pool, pass)"
                " VALUES (?, ?, ?, ?, ?, ?)",
                (report.receipt, report.reported, report.reason, report.at, report.pool, report.pass_id),
            )
            if cursor.rowcount:
                database.executemany("INSERT OR REPLACE INTO scores VALUES (?, ?, ?)", rows)
            return bool(cursor.rowcount)

        return await self._write(write, for_good=True)

    async def reports(self) -> list[Report]:
        """Return all stored reports, oldest first (for the administrator)."""

        def read(database: sqlite3.Connection) -> list[Report]:
            rows = database.execute(
                "SELECT receipt, reported, reason, at, held, pool, pass FROM reports ORDER BY at"
            )
            return [
                Report(receipt, who, why, at, bool(held), *rest)
                for receipt, who, why, at, held, *rest in rows
            ]

        return await self._write(read)

    async def hold(self, receipt: str, held: bool = True) -> bool:
        """Keep a report beyond its days, or stop keeping it; False when there is none."""
        return await self._write(
            lambda database: bool(
                database.execute(
                    "UPDATE reports SET held = ? WHERE receipt = ?", (int(held), receipt)
                ).rowcount
            ),
            for_good=True,
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

    async def add_pass(self, entry: Pass) -> None:
        """Store a new pass."""
        row = (entry.hash, entry.pool, entry.role_word, entry.label, entry.made_at, entry.revoked_at)
        await self._write(
            lambda database: database.execute("INSERT INTO passes VALUES (?, ?, ?, ?, ?, ?)", row)
        )

    async def revoke_pass(self, pass_hash: str, now: float) -> None:
        """Take a pass back; what was taken back stays so."""
        await self._write(
            lambda database: database.execute(
                "UPDATE passes SET revoked_at = ? WHERE hash = ? AND revoked_at IS NULL",
                (int(now), pass_hash),
            )
        )

    async def set_admission_keys(self, pool: str, keys: Iterable[Secret]) -> None:
        """Replace the admission keys of a pool; none: no proof is asked for."""
        rows = [(pool, key.reveal()) for key in keys]

        def write(database: sqlite3.Connection) -> None:
            database.execute("DELETE FROM admission_keys WHERE pool = ?", (pool,))
            database.executemany("INSERT INTO admission_keys VALUES (?, ?)", rows)

        await self._write(write)

    async def passes(self) -> list[Pass]:
        """Return all passes, oldest first, those that were taken back too."""

        def read(database: sqlite3.Connection) -> list[Pass]:
            rows = database.execute("SELECT * FROM passes ORDER BY made_at, hash")
            return [
                Pass(key, pool, None if role == OPERATOR else Role(role), *rest)
                for key, pool, role, *rest in rows
            ]

        return await self._write(read)

    async def admission_keys(self) -> dict[str, list[bytes]]:
        """Return the admission keys of all pools that have any."""

        def read(database: sqlite3.Connection) -> dict[str, list[bytes]]:
            keys: dict[str, list[bytes]] = {}
            for pool, text in database.execute("SELECT pool, key FROM admission_keys"):
                keys.setdefault(pool, []).append(parse_admission_key(Secret(text)))
            return keys

        return await self._write(read)

    async def begin_rotation(self, pool: str, keys: Iterable[Secret], new: str) -> None:
        """Accept both keys in a pool, and note from now on which of them each pass proves; `new` is an id."""
        rows = [(pool, key.reveal()) for key in keys]

        def write(database: sqlite3.Connection) -> None:
            _forget_use(database, pool)
            database.execute("DELETE FROM admission_keys WHERE pool = ?", (pool,))
            database.executemany("INSERT INTO admission_keys VALUES (?, ?)", rows)
            database.execute("INSERT OR REPLACE INTO key_rotations VALUES (?, ?)", (pool, new))

        await self._write(write)

    async def end_rotation(self, pool: str, key: Secret) -> None:
        """Accept this key alone, and forget who proved which."""

        def write(database: sqlite3.Connection) -> None:
            _forget_use(database, pool)
            database.execute("DELETE FROM key_rotations WHERE pool = ?", (pool,))
            database.execute("DELETE FROM admission_keys WHERE pool = ?", (pool,))
            database.execute("INSERT INTO admission_keys VALUES (?, ?)", (pool, key.reveal()))

        await self._write(write)

    async def rotations(self) -> dict[str, str]:
        """Return the id of the new key of each pool whose key is being changed."""
        return await self._write(
            lambda database: dict(database.execute("SELECT pool, key FROM key_rotations"))
        )

    async def note_key_use(self, used: Mapping[str, str]) -> None:
        """Write down which key a pass proved last."""
        rows = list(used.items())
        await self._write(
            lambda database: database.executemany("INSERT OR REPLACE INTO key_use VALUES (?, ?)", rows)
        )

    async def key_use(self) -> dict[str, str]:
        """Return the id of the key that each pass proved last."""
        return await self._write(lambda database: dict(database.execute("SELECT pass, key FROM key_use")))

    async def pass_book(self) -> PassBook:
        """Return passes and admission keys as they are now."""
        return PassBook(await self.passes(), await self.admission_keys(), await self.rotations())

    async def remember_time(self, now: float) -> None:
        """Write down how late it is by the hub's own clock, so that a restart does not go back behind it."""
        await self._write(
            lambda database: database.execute("INSERT OR REPLACE INTO clock VALUES (1, ?)", (int(now),))
        )

    async def remembered_time(self) -> float:
        """Return the latest time that was written down; 0 when none was."""

        def read(database: sqlite3.Connection) -> float:
            row = database.execute("SELECT at FROM clock").fetchone()
            return float(row[0]) if row is not None else 0.0

        return await self._write(read)

    async def version(self) -> int:
        """Return a number that changes when another process has written (SQLite's data_version)."""

        def read() -> int:
            if self._database is None:
                raise sqlite3.OperationalError("the store is closed")
            return int(self._database.execute("PRAGMA data_version").fetchone()[0])

        return await self._run(read)

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

    async def ping(self) -> None:
        """Come back when the database has answered; StoreError when it cannot."""
        await self._run(lambda: self._database and self._database.execute("SELECT 1").fetchone())

    @property
    def has_room(self) -> bool:
        """Whether what is written reaches the disk."""
        return self._without_room is None

    def _open(self) -> None:
        try:
            self._database = self._open_file()
        except (sqlite3.Error, OSError) as error:
            if isinstance(error, sqlite3.Error) and not _errorname(error).startswith(NO_ROOM):
                raise
            logger.warning("%s: calls go on, reports are refused until there is room", _sentence(error))
            self._database = self._open_copy()
            self._without_room = error
            self._reopen_at = time.monotonic() + REOPEN_S

    def _open_copy(self) -> sqlite3.Connection:
        """Copy what can be read of the file into memory."""
        copy = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
        try:
            # "immutable": the files that a reader otherwise makes beside it need room, too.
            file = sqlite3.connect(f"file:{self._path}?mode=ro&immutable=1", uri=True)
            with contextlib.closing(file):
                file.backup(copy)
                (version,) = copy.execute("PRAGMA user_version").fetchone()
        except sqlite3.Error:
            version = 0
        if version != SCHEMA_VERSION:
            copy.close()
            copy = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
            copy.executescript(f"BEGIN; {''.join(_STEPS)} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;")
        return copy

    def _look_for_room(self) -> None:
        """Go back to the file when it can be written again; what memory held of scores goes with it."""
        copy = self._database
        if self._without_room is None or copy is None or time.monotonic() < self._reopen_at:
            return
        self._reopen_at = time.monotonic() + REOPEN_S
        try:
            file = self._open_file()
            scores = copy.execute("SELECT device, value, at FROM scores").fetchall()
            file.executemany("INSERT OR REPLACE INTO scores VALUES (?, ?, ?)", scores)
        except (sqlite3.Error, OSError, SettingsError) as error:
            logger.debug("still no room: %s", type(error).__name__)
            return
        self._database, self._without_room = file, None
        copy.close()
        logger.info("the disk has room again: reports are taken")

    def _open_file(self) -> sqlite3.Connection:
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
            if version < SCHEMA_VERSION:
                steps = _STEPS[version:]
                database.executescript(
                    f"BEGIN; {''.join(steps)} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;"
                )
            elif version != SCHEMA_VERSION:
                raise SettingsError(self._path.name, "schema", str(version), f"version {SCHEMA_VERSION}")
        except BaseException:
            database.close()
            raise
        return database

    async def _write(
        self, work: Callable[[sqlite3.Connection], _Result], *, for_good: bool = False
    ) -> _Result:
        def transaction() -> _Result:
            self._look_for_room()
            if for_good and self._without_room is not None:
                raise StoreError(_sentence(self._without_room), code="storage_full")
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
            full = _errorname(error) == "SQLITE_FULL"
            raise StoreError(_sentence(error), code="storage_full" if full else "storage") from error
        finally:
            self._pending -= 1


def _forget_use(database: sqlite3.Connection, pool: str) -> None:
    database.execute(
        "DELETE FROM key_use WHERE pass IN (SELECT substr(hash, 1, ?) FROM passes WHERE pool = ?)",
        (PASS_ID_CHARS, pool),
    )


def _errorname(error: sqlite3.Error) -> str:
    return str(getattr(error, "sqlite_errorname", ""))


def _sentence(error: sqlite3.Error | OSError) -> str:
    """Say what is wrong with the disk, without its paths."""
    if isinstance(error, OSError):
        return f"the storage cannot be used ({error.strerror})"
    name = _errorname(error)
    if name.startswith("SQLITE_READONLY"):
        return "the disk is read-only"
    # A file beside the database that cannot grow is told as an input/output error.
    return (
        "the disk is full" if name.startswith(("SQLITE_FULL", "SQLITE_IOERR_SHM")) else "the storage failed"
    )
