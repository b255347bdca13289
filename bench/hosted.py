"""The hosted backend's matching: `python -m bench.hosted [sql|devices|function|press]…`, all by default.

Postgres 17 on loopback with everything else on the same cores, so the figures are lower bounds. `sql` is
pgbench against the matching function; `devices` simulates 100,000 devices as Poisson arrivals against it,
`function` fewer through Deno and the pooler. From press to voice over the whole stack, behind the door:
`python -m bench.press --hosted`. `--seconds` is the length of each run.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import random
import re
import secrets
import shutil
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import psycopg

from bench.hosted_load import Line, Pushed, cpu_s, load, request
from tests.hosted.postgres import ROOT, Postgres, running
from tests.hosted.stack import Stack, hosted
from tests.ports import reserved_port
from voicemeet_edge.demo.lab import hub_settings
from voicemeet_edge.hub.app import HubInfo, running_hub
from voicemeet_edge.hub.secrets import load_or_make_secrets
from voicemeet_edge.hub.turn.provider import stun_url, turn_urls

CLIENTS = 16  # pgbench's connections
IN_FLIGHT = 64  # requests at once of the simulated devices
WIDE = "update voicemeet.settings set device_per_s = 1e9, device_burst = 1e9, max_waiting = 1000000000"
# What pgbench asks: the matching by itself, without the token bucket of each device, and with the plans that
# `voicemeet.match` has.
BARE = """
create or replace function public.bare(p jsonb) returns jsonb
language plpgsql security definer
set search_path = '' set plan_cache_mode = force_generic_plan set enable_seqscan = off as $$
declare s voicemeet.settings;
begin
    select * into strict s from voicemeet.settings;
    return voicemeet.search(s, true, p, clock_timestamp());
end $$"""
PAIR = """\\set p random(0, {last})
\\set r random(1, 1000000000)
\\set q random(1, 1000000000)
select {function}(jsonb_build_object('device', 'c' || :r || 'x' || :q,
    'ticket', lpad(:r || 'y' || :q, 30, '0'), 'pool', 'p' || :p,
    'role', 'caller', 'call_id', md5(:r || 'z' || :q)));
select {function}(jsonb_build_object('device', 'a' || :r || 'x' || :q,
    'ticket', lpad(:r || 'w' || :q, 30, '0'), 'pool', 'p' || :p,
    'role', 'answerer', 'call_id', md5(:r || 'v' || :q)));
"""
POLL = """\\set i random(1, {waiting})
select {function}(jsonb_build_object('device', 'dev' || :i, 'ticket', 'wait' || lpad(:i::text, 30, '0'),
    'pool', 'p' || (:i % {pools}), 'role', 'answerer', 'call_id', md5(:i::text)));
"""
FILL = """
insert into voicemeet.tickets (ticket, device, pool, role, flagged, since, seen)
select 'wait' || lpad(i::text, 30, '0'), 'dev' || i, 'p' || (i % {pools}), 'answerer', false,
    now() - interval '1 s' + make_interval(secs => i / 1e6), now() from generate_series(1, {waiting}) as i"""


def prepared(server: Postgres, pools: int, waiting: int) -> str:
    """Return a fresh database with this many pools and waiting answerers."""
    database = server.new_database()
    with server.connect(database, "supabase_admin") as admin:
        admin.execute(WIDE)
        admin.execute(BARE)
        admin.execute(f"select voicemeet.set_pool('p' || i, true) from generate_series(0, {pools - 1}) as i")
        admin.execute(FILL.format(pools=pools, waiting=waiting))
        admin.execute("vacuum analyze voicemeet.tickets")
    return database


def pgbench(server: Postgres, database: str, script: str, seconds: float) -> float:
    """Return transactions per second."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/pgbench")) or [Path(shutil.which("pgbench") or "")]
    path = server.home / "script.sql"
    path.write_text(script)
    command = [
        str(found[-1]), "-n", "-M", "prepared", "-c", str(CLIENTS), "-j", "1", "-T", f"{seconds:.0f}",
        "-f", str(path), "-h", "127.0.0.1", "-p", str(server.port), "-U", "supabase_admin", database,
    ]  # fmt: skip
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return float(re.search(r"tps = ([0-9.]+)", said)[1])  # type: ignore[index]


def two_calls(connection: psycopg.Connection[Any]) -> int:
    """How many devices are in more than one call at this moment; must be 0."""
    row = connection.execute(
        "select count(*) from (select device from voicemeet.tickets where call_id is not null "
        "group by device having count(*) > 1) as twice"
    ).fetchone()
    assert row is not None
    return int(row[0])


def sql(seconds: float) -> None:
    """Print matches per second for sizes of the queue, for one pool, and under an old snapshot."""
    with running(17) as server:
        server.prepare()
        print(
            f"matches/s in SQL, {CLIENTS} connections (one transaction: a caller matched, an answerer queued)"
        )
        for pools, waiting in ((16, 1_000), (16, 100_000), (1, 1_000)):
            database = prepared(server, pools, waiting)
            script = PAIR.format(last=pools - 1, function="public.bare")
            tps = pgbench(server, database, script, seconds)
            with server.connect(database) as admin:
                print(
                    f"  {pools:3} pools, {waiting:7,} waiting: {tps:6.0f}   in two calls: {two_calls(admin)}"
                )
        database = prepared(server, 16, 1_000)
        script = PAIR.format(last=15, function="voicemeet.match")
        tps = pgbench(server, database, script, seconds)
        print(f"   16 pools,   1,000 waiting: {tps:6.0f}   with each device's token bucket")
        for waiting in (1_000, 100_000):
            database = prepared(server, 16, waiting)
            poll = POLL.format(waiting=waiting, pools=16, function="public.bare")
            print(f"  polls/s of {waiting:,} waiting: {pgbench(server, database, poll, seconds):.0f}")
        database = prepared(server, 16, 1_000)
        script = PAIR.format(last=15, function="public.bare")
        with server.connect(database) as old:
            old.execute("begin isolation level repeatable read; select count(*) from voicemeet.tickets")
            print("  with an old snapshot held open, one after the other:", end="")
            for _ in range(3):
                print(f" {pgbench(server, database, script, seconds):.0f}", end="", flush=True)
            old.execute("commit")
        print(f"; {pgbench(server, database, script, seconds):.0f} after it is gone")
        with server.connect(database) as admin:
            size = admin.execute("select pg_total_relation_size('voicemeet.tickets')").fetchone()
            print(f"  tickets on disk after that: {(size or (0,))[0] / 1e6:.0f} MB")


Ask = Callable[[dict[str, object]], Awaitable[dict[str, Any]]]


@dataclass
class Simulated:
    """What the simulated devices saw."""

    asks: int = 0
    matches: int = 0
    errors: int = 0
    asked_ms: list[float] = field(default_factory=list)
    waited_s: list[float] = field(default_factory=list)
    calls: dict[str, set[str]] = field(default_factory=dict)


async def simulate(
    ask: Ask, *, devices: int, pools: int, per_s: float, poll_s: float, seconds: float
) -> Simulated:
    """Let devices look for each other: Poisson arrivals, polls with jitter, so many requests at once."""
    rng, seen = random.Random(11), Simulated()
    gate = asyncio.Semaphore(IN_FLIGHT)
    end = time.monotonic() + seconds
    tasks: set[asyncio.Task[None]] = set()
    idle = list(range(devices))
    rng.shuffle(idle)

    async def search(device: int) -> None:
        ticket, started = secrets.token_urlsafe(16), time.monotonic()
        wanted = {"device": f"sim{device}", "ticket": ticket, "pool": f"p{device % pools}", "role": "either"}
        while time.monotonic() < end:
            async with gate:
                asked = time.monotonic()
                answer = await ask({**wanted, "call_id": secrets.token_hex(16)})
                seen.asked_ms.append((time.monotonic() - asked) * 1000)
            seen.asks += 1
            if answer.get("status") == "matched":
                seen.matches += 1
                seen.waited_s.append(time.monotonic() - started)
                seen.calls.setdefault(str(answer["call_id"]), set()).add(f"sim{device}")
                break
            if answer.get("status") != "waiting":
                seen.errors += 1
                break
            await asyncio.sleep(poll_s * rng.uniform(0.8, 1.2))
        idle.append(device)

    while time.monotonic() < end:
        # A burst of what is due, then a rest: a timer for each arrival would be the load itself.
        for _ in range(rng_poisson(rng, per_s * 0.02)):
            if idle:
                task = asyncio.create_task(search(idle.pop(0)))
                tasks.add(task)
                task.add_done_callback(tasks.discard)
        await asyncio.sleep(0.02)
    await asyncio.gather(*tasks, return_exceptions=True)
    return seen


def rng_poisson(rng: random.Random, mean: float) -> int:
    """Return a Poisson number (Knuth's method; the means here are small)."""
    limit, count, product = np.exp(-mean), 0, rng.random()
    while product > limit:
        count, product = count + 1, product * rng.random()
    return count


def show(seen: Simulated, seconds: float) -> None:
    """Print one line of what was seen."""
    asked, waited = np.array(seen.asked_ms or [0.0]), np.array(seen.waited_s or [0.0])
    crowded = sum(len(parties) > 2 for parties in seen.calls.values())
    print(
        f"  {seen.asks / seconds:.0f} asks/s, {seen.matches / 2 / seconds:.0f} matches/s; an ask takes p50 "
        f"{np.quantile(asked, 0.5):.1f} ms, p99 {np.quantile(asked, 0.99):.1f} ms; waited p50 "
        f"{np.quantile(waited, 0.5):.2f} s, p95 {np.quantile(waited, 0.95):.2f} s; errors {seen.errors}, "
        f"calls with more than two {crowded}"
    )


def devices(seconds: float) -> None:
    """100,000 simulated devices against the SQL function."""
    with running(17) as server:
        server.prepare()
        database = prepared(server, 50, 0)

        async def go() -> None:
            connections: asyncio.Queue[psycopg.AsyncConnection[Any]] = asyncio.Queue()
            for _ in range(CLIENTS):
                url = server.url(database, "voicemeet_function")
                connections.put_nowait(await psycopg.AsyncConnection.connect(url, autocommit=True))

            async def ask(wanted: dict[str, object]) -> dict[str, Any]:
                connection = await connections.get()
                try:
                    cursor = await connection.execute(
                        "select voicemeet.match(%s::text::jsonb)", [json.dumps(wanted)], prepare=True
                    )
                    row = await cursor.fetchone()
                    assert row is not None
                    return dict(row[0])
                finally:
                    connections.put_nowait(connection)

            seen = await simulate(ask, devices=100_000, pools=50, per_s=500, poll_s=3.0, seconds=seconds)
            print("100,000 devices, 50 pools, 500 searches/s, polls each 3 s, against the SQL function")
            show(seen, seconds)
            while not connections.empty():
                await connections.get_nowait().close()

        asyncio.run(go())
        with server.connect(database) as admin:
            print(f"  devices in two calls: {two_calls(admin)}")


def function(seconds: float) -> None:
    """The whole path: Deno, the pooler, Postgres; as fast as it goes, then at half of that."""
    for version in ("2.1", "2.9"):
        with contextlib.ExitStack() as parts:
            pushed = reserved_port()
            there = {"SUPABASE_URL": f"http://127.0.0.1:{pushed}"}
            stack = parts.enter_context(hosted(version=version, extra=there))
            with stack.postgres.connect(stack.database, "supabase_admin") as admin:
                admin.execute(WIDE)
                admin.execute("update voicemeet.settings set session_per_s = 1e9, session_burst = 1e9")
                admin.execute("select voicemeet.set_pool('p' || i, true) from generate_series(0, 15) as i")
            what = "the platform's level" if version == "2.1" else "the newest"
            print(f"the whole function path on Deno {version} ({what}), PgBouncer, Postgres; the client "
                  "and a server that takes the pushes on the same cores")  # fmt: skip
            asyncio.run(_function(stack, seconds, pushed))
            with stack.admin() as admin:
                print(f"  devices in two calls: {two_calls(admin)}")


async def _function(stack: Stack, seconds: float, pushed: int) -> None:
    pushes = await asyncio.get_running_loop().create_server(Pushed, "127.0.0.1", pushed)
    lines = [await Line.open(int(stack.function_url.rpartition(":")[2])) for _ in range(IN_FLIGHT)]
    apikey = {"apikey": stack.apikey.reveal(), "content-type": "application/json"}

    async def session(line: Line) -> dict[str, str]:
        _, body = await line.ask(request("/voicemeet/session", apikey, b"{}"))
        return {**apikey, "authorization": f"Bearer {json.loads(body)['device_token']}"}

    headers = [await session(lines[0]) for _ in range(400)]

    def match(number: int) -> bytes:
        wanted = {
            "ticket": secrets.token_urlsafe(16),
            "pool": f"p{number // 2 % 16}",
            "role": "caller" if number % 2 else "answerer",
        }
        return request("/voicemeet/match", headers[number % len(headers)], json.dumps(wanted).encode())

    await load(lines, match, per_s=0, seconds=3.0)
    used = _used(stack)
    fastest, times, failed = await load(lines, match, per_s=0, seconds=seconds)
    share = {name: spent - used[name] for name, spent in _used(stack).items()}
    print(f"  as fast as it goes: {fastest:.0f} requests/s, {_spread(times)}, refused {failed}")
    each = ", ".join(f"{name} {1000 * spent / len(times):.2f}" for name, spent in share.items())
    print(f"  ms of CPU for a request: {each}; in all {1000 * sum(share.values()) / len(times):.2f}")
    rate, times, failed = await load(lines, match, per_s=fastest / 2, seconds=seconds)
    print(f"  at half of that: {rate:.0f} requests/s, {_spread(times)}, refused {failed}")
    for line in lines:
        line.close()
    pushes.close()


def _spread(times_ms: np.ndarray[Any, Any]) -> str:
    return f"p50 {np.quantile(times_ms, 0.5):.1f} ms, p99 {np.quantile(times_ms, 0.99):.1f} ms"


def _used(stack: Stack) -> dict[str, float]:
    """Return the CPU seconds of each part of the path so far, the one that asks included."""
    parts = {name: cpu_s(stack.processes[name].pid) for name in ("function", "pooler")}
    return {"client": time.process_time(), **parts, "Postgres": cpu_s(stack.postgres.process.pid)}


@contextlib.asynccontextmanager
async def backend_behind_door(directory: Path) -> AsyncIterator[HubInfo]:
    """Run everything for `bench.press`: a hub lends its TURN server, the rest is the hosted backend's."""
    serve = ROOT / "cloudflare" / "door" / "test" / "serve.mjs"
    async with running_hub(hub_settings(directory)) as lender, contextlib.AsyncExitStack() as stack:
        assert lender.turn is not None
        shared = load_or_make_secrets(directory / "hub").turn.reveal()
        turn = {
            "VOICEMEET_TURN": "hmac",
            "VOICEMEET_TURN_SECRET": shared,
            "VOICEMEET_TURN_URLS": " ".join([stun_url(lender.turn), *turn_urls(lender.turn)]),
        }
        running_stack = hosted(turn=turn)
        started = await asyncio.to_thread(running_stack.__enter__)
        stack.push_async_callback(asyncio.to_thread, running_stack.__exit__, None, None, None)
        await asyncio.to_thread(started.set, avoid_repeat_s=0, device_per_s=1e6, device_burst=1e6)
        await asyncio.to_thread(started.sql, "select voicemeet.set_pool('lab', true)")
        wide = {name: {"limit": 100_000} for name in ("REQUESTS", "SOCKETS")}
        command = ["node", str(serve), json.dumps({"": started.url}), json.dumps({"limits": wide})]
        door = await asyncio.create_subprocess_exec(
            *command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
        )
        assert door.stdout is not None
        try:
            url = (await door.stdout.readline()).decode().strip().rstrip("/")
            yield replace(lender, url=url, apikey=started.apikey, pin="")
        finally:
            door.terminate()
            await door.wait()


RUNS = {"sql": sql, "devices": devices, "function": function}


def main() -> None:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", nargs="*", choices=[*RUNS, []], default=[], help="sql, devices, function")
    parser.add_argument("--seconds", type=float, default=8.0, help="length of each run (default: 8)")
    options = parser.parse_args()
    for name in options.run or RUNS:
        RUNS[name](options.seconds)


if __name__ == "__main__":
    main()
