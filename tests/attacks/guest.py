"""A guest of the network: has the hub's address and what it serves to everybody, and no key and no pass."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import secrets
import ssl
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from tests.attacks.lab import read_until
from voicemeet_edge.demo.remote import to_toml

VERBS = "/functions/v1/voicemeet"


def any_certificate() -> ssl.SSLContext:
    """TLS as somebody does it who does not care whom he talks to."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


class Guest:
    """Requests from one address, honest or not; honest ones have a pass."""

    def __init__(self, url: str, address: str) -> None:
        self.url = url
        self.tls = any_certificate() if url.startswith("https") else None
        connector = aiohttp.TCPConnector(
            local_addr=(address, 0), ssl=self.tls if self.tls is not None else True, limit=0
        )
        self.http = aiohttp.ClientSession(connector=connector)
        self.apikey = ""
        self.tickets: list[str] = []

    async def look_around(self) -> dict[str, object]:
        """Read what the hub tells everybody."""
        async with self.http.get(f"{self.url}/desk/config.json") as answer:
            config: dict[str, object] = await answer.json()
        self.apikey = str(config["apikey"])
        return config

    async def ask(self, verb: str, body: dict[str, object], token: str = "") -> tuple[int, dict[str, object]]:
        """Send a verb; the status and the body of the answer."""
        headers = {"apikey": self.apikey}
        if token:
            headers["Authorization"] = f"Bearer {token}"
        async with self.http.post(f"{self.url}{VERBS}/{verb}", json=body, headers=headers) as answer:
            return answer.status, await answer.json()

    async def session(self, shown_pass: str = "") -> str:
        """Get a device token; "" when it is refused."""
        status, body = await self.ask("session", {"pass": shown_pass} if shown_pass else {})
        return str(body["device_token"]) if status == 200 else ""

    async def match(
        self, token: str, pool: str, role: str, ticket: str = ""
    ) -> tuple[int, dict[str, object]]:
        """Look for somebody."""
        wanted: dict[str, object] = {
            "ticket": ticket or secrets.token_urlsafe(16),
            "pool": pool,
            "role": role,
        }
        return await self.ask("match", wanted, token)

    async def socket(self) -> aiohttp.ClientWebSocketResponse:
        """Open a Realtime socket with nothing but the apikey."""
        return await self.http.ws_connect(f"{self.url}/realtime/v1/websocket?apikey={self.apikey}&vsn=2.0.0")


@contextlib.asynccontextmanager
async def guest(url: str, address: str) -> AsyncIterator[Guest]:
    """Somebody at this address (all of 127.0.0.0/8 is this machine)."""
    one = Guest(url, address)
    try:
        await one.look_around()
        yield one
    finally:
        await one.http.close()


@dataclass(frozen=True)
class DefaultHub:
    """A hub as it is out of the box, but for a free port: TLS, closed pools, its own limits."""

    url: str
    pid: int
    device_pass: str
    desk_pass: str


@contextlib.contextmanager
def default_hub(
    directory: Path, prefix: Sequence[str] = (), **sections: Mapping[str, object]
) -> Iterator[DefaultHub]:
    """Run `voicemeet-edge hub` and read what it prints at its first start."""
    config = directory / "hub.toml"
    table: dict[str, Mapping[str, object]] = {"http": {"port": 0}, **sections}
    config.write_text(f'state_dir = "{directory / "hub"}"\n' + to_toml(table))
    command = [*prefix, sys.executable, "-m", "voicemeet_edge", "hub"]
    command += ["--device-settings", "--config", str(config)]
    with (
        (directory / "hub.log").open("wb") as log,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True) as process,
    ):
        try:
            text = read_until(process, "&pool=frontdesk")
            found = [
                re.search(pattern, text) for pattern in (r'url = "(.*)"', r'pass = "(.*)"', "#pass=(.*)&")
            ]
            url, device, desk = (match[1] for match in found if match is not None)
            yield DefaultHub(url, process.pid, device, desk)
        finally:
            process.kill()


async def enrolled(one: Guest, shown: str) -> str:
    """A token made with a pass, as soon as the hub has heard of it."""
    async with asyncio.timeout(30):
        while not (token := await one.session(shown)):  # noqa: ASYNC110 - the hub looks each second
            await asyncio.sleep(0.1)
        return token


async def latencies(one: Guest, token: str, pool: str, seconds: float) -> list[float]:
    """Poll as an honest device, often, and say how long each answer took, in ms."""
    ticket, took = secrets.token_urlsafe(16), []
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        begun = time.monotonic()
        status, body = await one.match(token, pool, "caller", ticket)
        assert status == 200, json.dumps(body)
        took.append((time.monotonic() - begun) * 1000)
        await asyncio.sleep(0.25)
    return took
