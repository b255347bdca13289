"""A hub's whole identity in one file, and back on another machine; doors and desks notice nothing.

The one rule: what is restored is checked whole before a byte of it is written, and what was is kept beside.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import sqlite3
import tarfile
import time
import tomllib
import zlib
from pathlib import Path

from voicemeet_edge.errors import LocalError
from voicemeet_edge.hub.pass_desk import DATABASE_FILE
from voicemeet_edge.hub.secrets import SECRETS_FILE, write_private
from voicemeet_edge.hub.settings import HubSettings, hub_settings_from, load_hub_settings
from voicemeet_edge.hub.tls import SELF_SIGNED_FILE

VERSION = 1
MARK_FILE = "voicemeet-hub-backup.json"  # first in the file: says what it is
SETTINGS_FILE = "hub.toml"
STATE_FILES = (SECRETS_FILE, SELF_SIGNED_FILE, DATABASE_FILE)
NEEDED = {MARK_FILE, SETTINGS_FILE, SECRETS_FILE, DATABASE_FILE}
MAX_BYTES = 128 * 1024 * 1024  # bytes of all files in it; a database with half a million reports is below
KEPT_SUFFIX = ".before-restore"


def write_backup(config: Path, target: Path) -> str:
    """Write everything a hub is into one file of mode 0600, beside the running hub; returns what to tell.

    Raises:
        SettingsError: the settings cannot be used.
        LocalError: the hub has not run yet, it is too large, or the file cannot be written.
    """
    settings = load_hub_settings(config)
    state = settings.state_dir
    mark = json.dumps({"version": VERSION, "made_at": int(time.time())}).encode()
    try:
        content = {MARK_FILE: mark, SETTINGS_FILE: config.read_bytes()}
        content[SECRETS_FILE] = (state / SECRETS_FILE).read_bytes()
        if (state / SELF_SIGNED_FILE).exists():
            content[SELF_SIGNED_FILE] = (state / SELF_SIGNED_FILE).read_bytes()
        content[DATABASE_FILE] = _copy_of(state / DATABASE_FILE)
    except FileNotFoundError:
        raise LocalError("there is nothing to keep: this hub has not run yet", code="no_hub") from None
    except OSError as error:
        raise LocalError(f"{state}: cannot be read ({error.strerror}); run it with sudo") from None
    packed, size = _packed(content)
    if size > MAX_BYTES:
        raise LocalError(f"the hub's database is too large to be restored from ({size >> 20} MB)")
    try:
        write_private(target, packed)
    except OSError as error:
        raise LocalError(f"{target}: cannot be written ({error.strerror})") from None
    told = [f"{target}: written. Whoever has it can be this hub: keep it locked away."]
    if settings.http.tls == "files":
        told.append("Not in it: the certificate and key that hub.toml names as files.")
    return "\n".join(told)


def restore_backup(config: Path, source: Path, *, replace: bool) -> str:
    """Make this machine the hub of a backup; returns what to tell.

    Raises:
        LocalError: the file is no whole backup, a hub is here already, or it runs.
    """
    content = _read(source)
    settings = _settings_in(content)
    state = settings.state_dir
    here = [path for path in (config, *(state / name for name in STATE_FILES)) if path.exists()]
    if (state / SECRETS_FILE).exists() and not replace:
        raise LocalError(f"{state}: a hub is here already; with --replace it is put aside", code="hub_here")
    _check_stopped(state / DATABASE_FILE)
    try:
        for path in here:
            path.replace(path.with_name(path.name + KEPT_SUFFIX))
        for end in ("-wal", "-shm"):
            (state / f"{DATABASE_FILE}{end}").unlink(missing_ok=True)
        state.mkdir(mode=0o700, parents=True, exist_ok=True)
        config.parent.mkdir(parents=True, exist_ok=True)
        for name in STATE_FILES:
            if name in content:
                write_private(state / name, content[name])
                _give(state / name, state)
        config.write_bytes(content[SETTINGS_FILE])
    except OSError as error:
        raise LocalError(f"{state}: cannot be written ({error.strerror}); run it with sudo") from None
    http = settings.http
    names = ", ".join(http.names) or "the old machine's address"
    return (
        f"restored into {state} and {config}. Doors and desks go on as they are if this machine is reached\n"
        f"as before: by {http.public_url or names}, port {http.port}. Start it: "
        "sudo systemctl restart voicemeet-hub"
    )


def _copy_of(database: Path) -> bytes:
    """Return the database as it is at this moment; the hub may write meanwhile."""
    if not database.exists():
        raise FileNotFoundError
    copy = sqlite3.connect(":memory:")
    file = sqlite3.connect(f"file:{database}?mode=ro", uri=True)
    try:
        file.backup(copy)
        data = bytearray(copy.serialize())
        # "Written without a write-ahead log" (SQLite file format, section 1.3.3): there is none in the copy.
        data[18:20] = b"\x01\x01"
        return bytes(data)
    except sqlite3.Error:
        raise LocalError("the hub's database cannot be read", code="storage") from None
    finally:
        file.close()
        copy.close()


def _packed(content: dict[str, bytes]) -> tuple[bytes, int]:
    """Return the archive, and its size before it was packed."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, data in content.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(data), 0o600
            archive.addfile(entry, io.BytesIO(data))
    return gzip.compress(out.getvalue()), len(out.getvalue())


def _read(source: Path) -> dict[str, bytes]:
    """Read a backup: only files it may hold, none too large, all that are needed."""
    content: dict[str, bytes] = {}
    try:
        with gzip.open(source) as packed:
            # To its end, where the checksum stands.
            data = packed.read(MAX_BYTES + 1)
        with tarfile.open(fileobj=io.BytesIO(data[:MAX_BYTES]), mode="r:") as archive:
            for entry in archive:
                known = entry.name in (MARK_FILE, SETTINGS_FILE, *STATE_FILES)
                # A sparse file of some bytes unfolds to any size.
                if not known or not entry.isreg() or entry.issparse() or entry.name in content:
                    raise _no_backup(source)
                file = archive.extractfile(entry)
                content[entry.name] = file.read() if file is not None else b""
    except OSError as error:
        if error.strerror:
            raise LocalError(f"{source}: cannot be read ({error.strerror})", code="unreadable") from None
        raise _no_backup(source) from None
    except (tarfile.TarError, zlib.error, EOFError, ValueError):
        raise _no_backup(source) from None
    if not content.keys() >= NEEDED:
        raise _no_backup(source)
    try:
        version = json.loads(content[MARK_FILE])["version"]
    except (ValueError, KeyError, TypeError):
        raise _no_backup(source) from None
    if version != VERSION:
        raise LocalError(f"{source}: made by another version of the hub (format {VERSION} is known)")
    _check_database(content[DATABASE_FILE], source)
    return content


def _settings_in(content: dict[str, bytes]) -> HubSettings:
    try:
        return hub_settings_from(tomllib.loads(content[SETTINGS_FILE].decode("utf-8-sig")), "hub.toml in it")
    except (ValueError, RecursionError):
        raise LocalError("the hub.toml in it is damaged", code="bad_backup") from None


def _check_database(data: bytes, source: Path) -> None:
    copy = sqlite3.connect(":memory:")
    try:
        copy.deserialize(data)
        if copy.execute("PRAGMA integrity_check").fetchone() != ("ok",):
            raise _no_backup(source)
        copy.execute("SELECT count(*) FROM passes").fetchone()
    except sqlite3.Error:
        raise _no_backup(source) from None
    finally:
        copy.close()


def _check_stopped(database: Path) -> None:
    """Refuse while a hub has the database open: it would go on with the old one."""
    if not database.exists():
        return
    file = sqlite3.connect(database, timeout=0)
    try:
        # Only the last one out may leave write-ahead mode.
        (mode,) = file.execute("PRAGMA journal_mode = DELETE").fetchone()
    except sqlite3.OperationalError:
        mode = "wal"
    except sqlite3.Error:
        return  # it is damaged: one more reason to restore
    finally:
        file.close()
    if mode == "wal":
        raise LocalError("the hub runs: stop it first (sudo systemctl stop voicemeet-hub)", code="hub_runs")


def _give(path: Path, directory: Path) -> None:
    """Let what root wrote belong to the hub's own user."""
    owner = directory.stat()
    if os.geteuid() == 0:
        os.chown(path, owner.st_uid, owner.st_gid)


def _no_backup(source: Path) -> LocalError:
    return LocalError(f"{source}: no whole backup of a hub (was it cut while copying?)", code="bad_backup")
