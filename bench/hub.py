"""How much one hub carries on this machine: matches per second and idle sockets.

    python -m bench.hub [--seconds 5] [--workers 2] [--sockets 5000] [--profile]

A match is two `match` requests over real HTTP on loopback, each answered with a call JWT and TURN
credentials. The clients are light on purpose (raw keep-alive sockets in processes of their own), since
they share the machine's cores with the hub. Prints a table; never run as a test.
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import json
import multiprocessing
import multiprocessing.connection
import os
import pstats
import resource
import secrets
import socket
import tempfile
import time
from pathlib import Path

from voicemeet_edge.backend.verbs import VERB_PATH
from voicemeet_edge.hub.app import HubInfo, run_hub
from voicemeet_edge.hub.settings import HttpSettings, HubSettings, LimitSettings, MatchSettings, TurnSettings

DEVICES_PER_WORKER = 64  # devices that search at once from one process
TARGET_MATCHES_PER_S = 1_000
TARGET_SOCKETS_MB = 300

Pipe = multiprocessing.connection.Connection


def hub_process(pipe: Pipe, state_dir: str, profile: bool) -> None:
    """Run a hub whose limits do not stand in the way."""
    _raise_file_limit()
    settings = HubSettings(
        Path(state_dir),
        http=HttpSettings(port=0, tls="off"),
        match=MatchSettings(open_pools=("*",)),
        turn=TurnSettings(provider="hmac", secret_file=f"{state_dir}/turn", urls=("turn:192.0.2.1:3478",)),
        limits=LimitSettings(
            address_per_s=1e9,
            address_burst=1e9,
            session_per_s=1e9,
            session_burst=1e9,
            device_per_s=1e9,
            device_burst=1e9,
            known_per_s=1e9,
            known_burst=1e9,
            address_calls=1_000_000,
            max_connections=100_000,
            address_connections=100_000,
        ),
    )

    def ready(info: HubInfo) -> None:
        pipe.send((info.port, info.apikey.reveal(), os.getpid()))

    profiler = cProfile.Profile()
    if profile:
        profiler.enable()
    asyncio.run(run_hub(settings, ready=ready))
    if profile:
        profiler.disable()
        pstats.Stats(profiler).sort_stats("tottime").print_stats(35)


class RawClient:
    """One keep-alive connection that can have several requests on the way."""

    def __init__(self, port: int, apikey: str) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=60)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._apikey = apikey
        self._buffer = b""

    def request(self, verb: str, body: bytes, token: str = "") -> bytes:
        """Return the bytes of a request."""
        bearer = f"Authorization: Bearer {token}\r\n" if token else ""
        head = f"POST {VERB_PATH}/{verb} HTTP/1.1\r\nHost: localhost\r\napikey: {self._apikey}\r\n{bearer}"
        return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body

    def send(self, requests: bytes) -> None:
        """Put requests on the wire."""
        self._socket.sendall(requests)

    def receive(self) -> bytes:
        """Return the next answer's body; an answer that is no 200 ends the bench."""
        while b"\r\n\r\n" not in self._buffer:
            self._fill()
        head, _, rest = self._buffer.partition(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200"):
            raise SystemExit(f"the hub answered {head[:40]!r} {rest[:200]!r}")
        start = head.index(b"Content-Length: ") + 16
        end = head.find(b"\r", start)
        length = int(head[start:] if end < 0 else head[start:end])
        while len(rest) < length:
            self._fill()
            rest = self._buffer[len(head) + 4 :]
        self._buffer = rest[length:]
        return rest[:length]

    def _fill(self) -> None:
        data = self._socket.recv(262_144)
        if not data:
            raise SystemExit("the hub hung up")
        self._buffer += data


def match_worker(pipe: Pipe, port: int, apikey: str, seconds: float, name: int) -> None:
    """Let pairs of devices meet again and again; both requests of a pair go out together."""
    client = RawClient(port, apikey)
    session = client.request("session", b"{}")
    client.send(session * DEVICES_PER_WORKER)
    tokens = [json.loads(client.receive())["device_token"] for _ in range(DEVICES_PER_WORKER)]
    pipe.send("ready")
    pipe.recv()
    matches = waiting = 0
    latencies: list[float] = []
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        batch = []
        for index in range(0, DEVICES_PER_WORKER, 2):
            # A pool per pair, so that each second request finds exactly the first.
            pool = f"p{name}-{index}"
            for role, token in (("answerer", tokens[index]), ("caller", tokens[index + 1])):
                ticket = secrets.token_urlsafe(16)
                body = f'{{"ticket":"{ticket}","pool":"{pool}","role":"{role}"}}'.encode()
                batch.append(client.request("match", body, token))
        begun = time.perf_counter()
        client.send(b"".join(batch))
        for _ in batch:
            if b'"matched"' in client.receive():
                matches += 1
            else:
                waiting += 1
        latencies.append((time.perf_counter() - begun) / len(batch))
    pipe.send((matches, waiting, sorted(latencies)[len(latencies) // 2]))


def socket_worker(pipe: Pipe, port: int, apikey: str, count: int, name: int) -> None:
    """Open idle Realtime sockets, each joined to nothing, and hold them."""
    _raise_file_limit()
    opened = []
    for _ in range(count):
        connection = socket.create_connection(
            ("127.0.0.1", port), timeout=60, source_address=(f"127.0.0.{2 + name}", 0)
        )
        connection.sendall(
            f"GET /realtime/v1/websocket?apikey={apikey}&vsn=2.0.0 HTTP/1.1\r\nHost: localhost\r\n"
            "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
            "Sec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        if not connection.recv(1024).startswith(b"HTTP/1.1 101"):
            raise SystemExit("a socket was refused")
        opened.append(connection)
    pipe.send(len(opened))
    pipe.recv()


def bench_matches(port: int, apikey: str, workers: int, seconds: float) -> tuple[float, float]:
    """Return matches per second and the median ms per request inside a pipeline."""
    pipes = _start(match_worker, workers, port, apikey, seconds)
    for pipe in pipes:
        pipe.recv()
    begun = time.perf_counter()
    for pipe in pipes:
        pipe.send("go")
    results = [pipe.recv() for pipe in pipes]
    elapsed = time.perf_counter() - begun
    return sum(result[0] for result in results) / elapsed, max(result[2] for result in results) * 1000


def bench_sockets(port: int, apikey: str, pid: int, count: int) -> tuple[int, float, float]:
    """Return sockets held, seconds to open them and the hub's resident megabytes."""
    workers = 2
    begun = time.perf_counter()
    pipes = _start(socket_worker, workers, port, apikey, count // workers)
    held = sum(pipe.recv() for pipe in pipes)
    elapsed = time.perf_counter() - begun
    megabytes = _resident_mb(pid)
    for pipe in pipes:
        pipe.send("done")
    return held, elapsed, megabytes


def main() -> None:
    """Run both and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--sockets", type=int, default=5_000)
    parser.add_argument("--profile", action="store_true", help="profile the hub (slows it down)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as state_dir:
        (Path(state_dir) / "turn").write_text(secrets.token_hex(32))
        ours, theirs = multiprocessing.Pipe()
        hub = multiprocessing.Process(target=hub_process, args=(theirs, state_dir, options.profile))
        hub.start()
        port, apikey, pid = ours.recv()
        idle_mb = _resident_mb(pid)
        try:
            cpu_before = _cpu_s(pid)
            rate, request_ms = bench_matches(port, apikey, options.workers, options.seconds)
            cpu_ms = (_cpu_s(pid) - cpu_before) * 1000 / (rate * options.seconds)
            after_mb = _resident_mb(pid)
            held, elapsed, sockets_mb = bench_sockets(port, apikey, pid, options.sockets)
        finally:
            hub.terminate()
            hub.join()
    print(f"{'matches per second':34}{rate:10.0f}   target >= {TARGET_MATCHES_PER_S}")
    print(f"{'CPU ms of the hub per match':34}{cpu_ms:10.2f}   {1000 / cpu_ms:.0f}/s with a core of its own")
    print(f"{'ms per request in the pipeline':34}{request_ms:10.2f}")
    print(f"{'hub at start, MB':34}{idle_mb:10.0f}")
    print(f"{'hub after the matches, MB':34}{after_mb:10.0f}")
    print(f"{f'hub with {held} idle sockets, MB':34}{sockets_mb:10.0f}   target <= {TARGET_SOCKETS_MB}")
    print(f"{'sockets opened per second':34}{held / elapsed if held else 0:10.0f}")


def _start(target: object, workers: int, *arguments: object) -> list[Pipe]:
    pipes = []
    for name in range(workers):
        ours, theirs = multiprocessing.Pipe()
        process = multiprocessing.Process(target=target, args=(theirs, *arguments, name), daemon=True)  # type: ignore[arg-type]
        process.start()
        pipes.append(ours)
    return pipes


def _cpu_s(pid: int) -> float:
    with open(f"/proc/{pid}/stat", encoding="ascii") as stat:
        fields = stat.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _resident_mb(pid: int) -> float:
    with open(f"/proc/{pid}/status", encoding="ascii") as status:
        for line in status:
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) / 1024
    return 0.0


def _raise_file_limit() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


if __name__ == "__main__":
    main()
