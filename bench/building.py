"""A building after a power cut: how soon all devices are in their pool again, and what they cost the hub.

    python -m bench.building [--devices 3500] [--idle 5000]

Every device comes from one address over TLS, with one pass between them: a session, a match, a Realtime
socket that waits for its partner. Then more sockets are opened until `--idle` of them stand by. The hub
runs with its own limits, in a process of its own; the clients share the machine's cores with it. Prints a
table; never run as a test.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import multiprocessing
import multiprocessing.connection
import os
import secrets
import ssl
import tempfile
import time
from asyncio import sslproto
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import aiohttp

from bench.hosted_load import cpu_s
from bench.hub import _raise_file_limit, _resident_mb
from voicemeet_edge.backend.verbs import VERB_PATH, Role
from voicemeet_edge.hub.app import HubInfo, run_hub
from voicemeet_edge.hub.refusal import RefusedError
from voicemeet_edge.hub.settings import HttpSettings, HubSettings
from voicemeet_edge.signaling.reconnect import Backoff

POOL = "frontdesk"
TARGET_S = 60.0
TARGET_MB = 300
GIVE_UP_S = 8.0  # s for one verb, and for opening a socket
JOIN_S = 10.0  # s
CLIENT_BUFFER_BYTES = 4096  # of each of our own TLS connections; asyncio would take 256 kB

T = TypeVar("T")
Pipe = multiprocessing.connection.Connection


def hub_process(pipe: Pipe, state_dir: str, connections: int) -> None:
    """Run a hub with the limits it has by itself, but for a memory that bears what is asked."""
    _raise_file_limit()
    http = HttpSettings(port=0, tls="self-signed")
    settings = HubSettings(Path(state_dir), http=http)
    if connections:
        settings = replace(settings, limits=replace(settings.limits, max_connections=connections))

    def ready(info: HubInfo) -> None:
        shown = info.first_passes[Role.ANSWERER].reveal()
        pipe.send((info.url, info.apikey.reveal(), shown, os.getpid()))

    asyncio.run(run_hub(settings, ready=ready, first_pool=POOL))


class Building:
    """All devices of a building, behind one address."""

    def __init__(self, url: str, apikey: str, shown_pass: str) -> None:
        self.url, self.apikey, self.shown_pass = url, apikey, shown_pass
        self.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self.tls.check_hostname, self.tls.verify_mode = False, ssl.CERT_NONE
        self.sockets: list[aiohttp.ClientWebSocketResponse] = []
        self.sessions: list[aiohttp.ClientSession] = []
        self.in_pool = 0
        self.failures: Counter[str] = Counter()
        """Attempts that had to be repeated, by why."""

    async def device(self) -> None:
        """Switch a device on: it tries until it waits in the pool, as docs/contract.md says (Timing)."""
        # As a device: one kept connection for the verbs, which here becomes its socket.
        timeout = aiohttp.ClientTimeout(total=GIVE_UP_S)
        http = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=2), timeout=timeout)
        self.sessions.append(http)
        ticket = secrets.token_urlsafe(16)
        wanted: dict[str, object] = {"ticket": ticket, "pool": POOL, "role": "answerer"}
        session = await self._until(lambda: self._ask(http, "session", {"pass": self.shown_pass}))
        token = str(session["device_token"])
        waiting = await self._until(lambda: self._ask(http, "match", wanted, token))
        socket = await self._until(lambda: self._listen(http, ticket, token, waiting["wait_token"]))
        self.sockets.append(socket)
        self.in_pool += 1

    def why(self) -> list[str]:
        """Return what was repeated, most often first."""
        return [f"{count} {name}" for name, count in self.failures.most_common()]

    async def _until(self, attempt: Callable[[], Awaitable[T]]) -> T:
        """Repeat what may be repeated until it works, waiting as a device does."""
        backoff = Backoff()
        while True:
            asked_s = None
            try:
                return await attempt()
            except RefusedError as refused:
                asked_s = refused.retry_after_s
                self.failures[refused.code] += 1
            except (aiohttp.ClientError, OSError, TimeoutError) as error:
                self.failures[type(error).__name__] += 1
            await asyncio.sleep(backoff.failed(time.monotonic(), asked_s=asked_s))

    async def _listen(
        self, http: aiohttp.ClientSession, ticket: str, token: str, wait_token: object
    ) -> aiohttp.ClientWebSocketResponse:
        socket = await self._open(http, token)
        config = {"private": True, "broadcast": {"ack": True}}
        join = {"config": config, "access_token": wait_token}
        await socket.send_json(["1", "2", f"realtime:wait:{ticket}", "phx_join", join])
        async with asyncio.timeout(JOIN_S):
            while (await socket.receive_json())[1] != "2":
                pass
        return socket

    async def _open(self, http: aiohttp.ClientSession, token: str) -> aiohttp.ClientWebSocketResponse:
        url = f"{self.url}/realtime/v1/websocket?apikey={self.apikey}&vsn=2.0.0"
        socket = await http.ws_connect(url, ssl=self.tls)
        await socket.send_json([None, "1", "phoenix", "heartbeat", {"access_token": token}])
        return socket

    async def idle(self, http: aiohttp.ClientSession, token: str) -> None:
        """Open one more socket of a device that only stands by."""
        with contextlib.suppress(aiohttp.ClientError, OSError, TimeoutError, TypeError):
            socket = await self._open(http, token)
            await socket.receive_json(timeout=30)
            self.sockets.append(socket)

    async def _ask(
        self, http: aiohttp.ClientSession, verb: str, body: dict[str, object], token: str = ""
    ) -> dict[str, object]:
        headers = {"apikey": self.apikey, **({"Authorization": f"Bearer {token}"} if token else {})}
        url = f"{self.url}{VERB_PATH}/{verb}"
        async with http.post(url, json=body, headers=headers, ssl=self.tls) as reply:
            answer: dict[str, Any] = await reply.json()
            if reply.status != 200:
                error = answer["error"]
                raise RefusedError(
                    reply.status, error["code"], error["message"], retry_after_s=error.get("retry_after_s")
                )
            return answer


async def switch_on(building: Building, devices: int, idle: int, pid: int) -> None:
    """Switch all on at once, then let more stand by; print the table."""
    sslproto.SSLProtocol.max_size = CLIENT_BUFFER_BYTES
    timeout = aiohttp.ClientTimeout(total=60)
    # Connections are not kept: each device makes its own, and none of another's is used.
    connector = aiohttp.TCPConnector(limit=0, force_close=True)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as http:
        before_mb, begun = _resident_mb(pid), time.perf_counter()
        hub_before, devices_before = cpu_s(pid), time.process_time()
        tasks = [asyncio.create_task(building.device()) for _ in range(devices)]
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(TARGET_S * 5):
                await asyncio.gather(*tasks)
        seconds, pool_mb = time.perf_counter() - begun, _resident_mb(pid)
        hub_s, devices_s = cpu_s(pid) - hub_before, time.process_time() - devices_before
        token = str((await building._ask(http, "session", {"pass": building.shown_pass}))["device_token"])
        while len(building.sockets) < idle:
            held = len(building.sockets)
            await asyncio.gather(*(building.idle(http, token) for _ in range(min(50, idle - held))))
            if len(building.sockets) == held:
                await asyncio.sleep(2)
            if time.perf_counter() - begun > TARGET_S * 10:
                break
        idle_mb = _resident_mb(pid)
        print(f"{'devices in their pool':40}{building.in_pool:10}   of {devices}")
        print(f"{'seconds until all were there':40}{seconds:10.1f}   target <= {TARGET_S:.0f}")
        print(f"{'of these on a processor: hub':40}{hub_s:10.1f}   the devices: {devices_s:.1f}")
        print(f"{'attempts that had to be repeated':40}{building.failures.total():10}", *building.why())
        print(f"{'hub at start, MB':40}{before_mb:10.0f}")
        print(f"{'hub with all in the pool, MB':40}{pool_mb:10.0f}")
        label = f"hub with {len(building.sockets)} idle TLS sockets, MB"
        print(f"{label:40}{idle_mb:10.0f}   target <= {TARGET_MB}")
        for task in tasks:
            task.cancel()
        await asyncio.gather(*(session.close() for session in building.sessions))


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--devices", type=int, default=3_500)
    parser.add_argument("--idle", type=int, default=5_000)
    parser.add_argument("--connections", type=int, default=0, help="the hub's max_connections (0: its own)")
    options = parser.parse_args()
    _raise_file_limit()
    with tempfile.TemporaryDirectory() as state_dir:
        ours, theirs = multiprocessing.Pipe()
        hub = multiprocessing.Process(target=hub_process, args=(theirs, state_dir, options.connections))
        hub.start()
        try:
            url, apikey, shown, pid = ours.recv()
            asyncio.run(switch_on(Building(url, apikey, shown), options.devices, options.idle, pid))
        finally:
            hub.terminate()
            hub.join()


if __name__ == "__main__":
    main()
