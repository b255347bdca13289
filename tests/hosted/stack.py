"""The whole hosted backend on loopback: Postgres 17, PgBouncer, the Edge Function in Deno, the gateway.

Real: Postgres, the pooler's mode, Deno, our SQL and TypeScript. A stand-in: `gateway.py`. One rule: what
was started ends with the `with` block, whatever happened in it.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import psycopg
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm

from tests.hosted.postgres import (
    MACHINE,
    NOBODY,
    ROOT,
    SUPABASE,
    NotInstalledError,
    Postgres,
    running,
)
from tests.ports import reserved_port
from voicemeet_edge.secret import Secret

FUNCTION = SUPABASE / "functions" / "voicemeet" / "index.ts"
MODULES = SUPABASE / "node_modules"
START_S = 30.0  # s for a part to come up on a busy machine
PUBLISHABLE = "sb_publishable_test_0123456789abcdef"
SECRET_KEY = "sb_secret_test_0123456789abcdef"
FUNCTION_ROLE = "voicemeet_function"


def deno(version: str = "2.9") -> Path:
    """Return a Deno of the tools: the newest, or "2.1", the level of the hosted platform."""
    # The platform's package itself: the wrapper `deno` has a child that outlives a kill.
    program = MODULES / (f"@deno/linux-{MACHINE}-glibc" if version == "2.9" else "deno-2-1") / "deno"
    if not program.exists() or (version != "2.9" and MACHINE != "x64"):
        raise NotInstalledError(f"Deno {version}")
    return program


def signing_key() -> dict[str, Any]:
    """Make a private ES256 key as `supabase gen signing-key` does."""
    key = ECAlgorithm.to_jwk(ec.generate_private_key(ec.SECP256R1()), as_dict=True)
    return {**key, "kid": secrets.token_hex(8), "alg": "ES256", "use": "sig"}


@dataclass
class Stack:
    """What runs, and how to reach it."""

    postgres: Postgres
    database: str
    url: str
    function_url: str
    apikey: Secret
    jwk: dict[str, Any]
    processes: dict[str, subprocess.Popen[bytes]]
    home: Path
    environment: dict[str, str] = field(default_factory=dict)

    def admin(self) -> psycopg.Connection[Any]:
        """Open a connection as the project's `postgres`."""
        return self.postgres.connect(self.database)

    def sql(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        """Run one statement as the project's `postgres` and return its rows."""
        with self.admin() as connection:
            cursor = connection.execute(statement, values or None)
            return cursor.fetchall() if cursor.description is not None else []

    def set(self, **settings: float) -> None:
        """Change settings of the backend."""
        for name, value in settings.items():
            self.sql(f"update voicemeet.settings set {name} = %s", value)

    def log(self, name: str) -> str:
        """Return what a part has said so far."""
        return (self.home / f"{name}.log").read_text(errors="replace")


@contextlib.contextmanager
def hosted(
    *, turn: Mapping[str, str] | None = None, extra: Mapping[str, str] | None = None, version: str = "2.9",
    postgres: Postgres | None = None,
) -> Iterator[Stack]:  # fmt: skip
    """Run everything; `turn` and `extra` are environment variables of the function."""
    with contextlib.ExitStack() as stack:
        if postgres is None:
            postgres = stack.enter_context(running(17))
            postgres.prepare()
        home = Path(tempfile.mkdtemp(prefix="voicemeet-hosted-"))
        stack.callback(shutil.rmtree, home, ignore_errors=True)
        home.chmod(0o755)
        processes: dict[str, subprocess.Popen[bytes]] = {}
        stack.callback(_end, processes)
        database = postgres.new_database()
        jwk = signing_key()
        pooler = _start_pooler(processes, home, postgres, database)
        gateway_port, function_port = reserved_port(), reserved_port()
        url = f"http://127.0.0.1:{gateway_port}"
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "DENO_NO_UPDATE_CHECK": "1",
            "SUPABASE_URL": url,
            "SUPABASE_PUBLISHABLE_KEYS": json.dumps({"default": PUBLISHABLE}),
            "SUPABASE_SECRET_KEYS": json.dumps({"default": SECRET_KEY}),
            "SUPABASE_DB_URL": "postgres://nobody@127.0.0.1:1/none",
            "VOICEMEET_DB_URL": f"postgres://{FUNCTION_ROLE}@127.0.0.1:{pooler}/{database}",
            "VOICEMEET_DEVICE_SECRET": secrets.token_hex(32),
            "VOICEMEET_SIGNING_KEY": json.dumps(jwk),
            **(turn or {"VOICEMEET_TURN": "off"}),
            **(extra or {}),
        }
        function_url = f"http://127.0.0.1:{function_port}"
        running_stack = Stack(
            postgres, database, url, function_url, Secret(PUBLISHABLE), jwk, processes, home, environment
        )
        start_function(running_stack, version)
        start_gateway(running_stack)
        yield running_stack


def start_function(stack: Stack, version: str = "2.9", name: str = "function") -> None:
    """Start the Edge Function, again if it was killed; under another name another one beside it."""
    port = stack.function_url.rpartition(":")[2]
    command = [
        str(deno(version)), "serve", "--host=127.0.0.1", f"--port={port}", "--allow-net", "--allow-env",
        "--allow-read", "--node-modules-dir=manual", "--no-lock", "--cached-only", "--quiet", str(FUNCTION),
    ]  # fmt: skip
    _spawn(stack.processes, stack.home, name, command, env=stack.environment, cwd=SUPABASE)
    _wait_for_port(int(port), stack.processes[name], stack.home / f"{name}.log")


def start_gateway(stack: Stack) -> None:
    """Start the gateway, again if it was killed."""
    port = int(stack.url.rpartition(":")[2])
    settings = {
        "database": stack.postgres.url(stack.database, "realtime_server"),
        "function": stack.function_url,
        "publishable": PUBLISHABLE,
        "secret": SECRET_KEY,
        "jwk": {name: value for name, value in stack.jwk.items() if name != "d"},
        "port": port,
    }
    path = stack.home / "gateway.json"
    path.write_text(json.dumps(settings))
    command = [sys.executable, "-m", "tests.hosted.gateway", str(path)]
    _spawn(stack.processes, stack.home, "gateway", command, cwd=ROOT, stdin=subprocess.PIPE)
    _wait_for_port(port, stack.processes["gateway"], stack.home / "gateway.log")


def stop(stack: Stack, name: str) -> None:
    """Kill one part, as a crash does."""
    process = stack.processes.pop(name)
    process.kill()
    process.wait(10)
    if process.stdin is not None:
        process.stdin.close()


def _start_pooler(
    processes: dict[str, subprocess.Popen[bytes]], home: Path, postgres: Postgres, database: str
) -> int:
    program = shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin")
    if program is None:
        raise NotInstalledError("PgBouncer")
    port = reserved_port()
    (home / "users").write_text(f'"{FUNCTION_ROLE}" ""\n')
    (home / "pooler.ini").write_text(
        f"[databases]\n{database} = host=127.0.0.1 port={postgres.port} dbname={database}\n"
        f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nauth_type = trust\n"
        f"auth_file = {home}/users\npool_mode = transaction\ndefault_pool_size = 16\nmax_client_conn = 200\n"
        "server_connect_timeout = 3\nserver_login_retry = 1\nquery_wait_timeout = 4\n"
        "log_connections = 0\nlog_disconnections = 0\n"
    )
    user: dict[str, Any] = {}
    if os.getuid() == 0:
        user = {"user": NOBODY, "group": NOBODY, "extra_groups": []}
    _spawn(processes, home, "pooler", [program, str(home / "pooler.ini")], **user)
    _wait_for_port(port, processes["pooler"], home / "pooler.log")
    return port


def _spawn(
    processes: dict[str, subprocess.Popen[bytes]], home: Path, name: str, command: list[str], **options: Any
) -> None:
    log: IO[bytes]
    with open(home / f"{name}.log", "ab") as log:
        processes[name] = subprocess.Popen(command, stdout=log, stderr=log, **options)


def _wait_for_port(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + START_S
    while True:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        if process.poll() is not None or time.monotonic() > until:
            raise RuntimeError(f"{log.name}: {log.read_text(errors='replace')[-2000:]}")
        time.sleep(0.02)


def _end(processes: dict[str, subprocess.Popen[bytes]]) -> None:
    for process in processes.values():
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGCONT)
            process.terminate()
    for process in processes.values():
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(5)
        if process.stdin is not None:
            process.stdin.close()
