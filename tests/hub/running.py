"""Helpers of the hub's tests: a running hub and raw HTTP requests to it."""

from __future__ import annotations

import contextlib
import json
import secrets
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from voicemeet_edge.backend.client import Backend
from voicemeet_edge.backend.pin import tls_context
from voicemeet_edge.backend.verbs import MatchedReply
from voicemeet_edge.hub.app import HubInfo, running_hub
from voicemeet_edge.hub.settings import (
    HttpSettings,
    HubSettings,
    LimitSettings,
    MatchSettings,
    RiskSettings,
    Tls,
    TurnSettings,
)

# Wide: the tests of the limits set their own.
WIDE = LimitSettings(
    address_per_s=1e6,
    address_burst=1e6,
    session_per_s=1e6,
    session_burst=1e6,
    device_per_s=1e6,
    device_burst=1e6,
    known_per_s=1e6,
    known_burst=1e6,
    address_calls=10_000,
)


def loopback(
    state_dir: Path,
    *,
    tls: Tls = "off",
    limits: LimitSettings = WIDE,
    match: MatchSettings | None = None,
    risk: RiskSettings | None = None,
    turn: TurnSettings | None = None,
    proxies: tuple[str, ...] = (),
) -> HubSettings:
    """Return settings of a hub on a free port of loopback."""
    return HubSettings(
        state_dir,
        http=HttpSettings(port=0, tls=tls, trusted_proxies=proxies),
        limits=limits,
        match=match or MatchSettings(open_pools=("*",)),
        risk=risk or RiskSettings(),
        turn=turn or TurnSettings(),
    )


def new_ticket() -> str:
    """Return a fresh ticket as a device makes it."""
    return secrets.token_urlsafe(16)


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def code(self) -> str:
        """The error's code; fails when there is none."""
        return str(json.loads(self.body)["error"]["code"])


class RunningHub:
    """A hub that runs, a raw HTTP session and clients that are closed with it."""

    def __init__(self, settings: HubSettings, info: HubInfo, http: aiohttp.ClientSession) -> None:
        self.settings = settings
        self.info = info
        self.http = http
        self.clients: list[Backend] = []
        self.sockets: list[aiohttp.ClientWebSocketResponse] = []

    def client(self) -> Backend:
        """Return a new backend client."""
        tls = tls_context(self.info.pin) if self.info.url.startswith("https") else None
        self.clients.append(Backend(self.info.url, self.info.apikey, tls=tls, timeout_s=30.0))
        return self.clients[-1]

    async def post(
        self,
        verb: str,
        body: bytes = b"{}",
        *,
        token: str = "",
        apikey: str | None = None,
        method: str = "POST",
        address: str = "",
    ) -> Answer:
        """Send raw bytes to a verb; from some address, where the hub believes a proxy on loopback."""
        headers = {"apikey": self.info.apikey.reveal() if apikey is None else apikey}
        if token:
            headers["Authorization"] = f"Bearer {token}"
        if address:
            headers["X-Forwarded-For"] = address
        url = f"{self.info.url}/functions/v1/voicemeet/{verb}"
        async with self.http.request(method, url, data=body, headers=headers) as response:
            return Answer(response.status, response.headers, await response.read())

    async def talk(self, *sides: MatchedReply) -> None:
        """Join a call's topic with both sides and let offer and answer pass, as a real call does."""
        for reply, event in zip(sides, ("offer", "answer"), strict=True):
            url = f"{self.info.url}/realtime/v1/websocket?apikey={self.info.apikey.reveal()}&vsn=2.0.0"
            socket = await self.http.ws_connect(url)
            self.sockets.append(socket)
            topic = f"realtime:call:{reply.call_id}"
            config = {"private": True, "broadcast": {"ack": True}}
            join = {"config": config, "access_token": reply.token.reveal()}
            said = {"type": "broadcast", "event": event, "payload": {}}
            for number, (name, payload) in enumerate((("phx_join", join), ("broadcast", said)), 1):
                await socket.send_json(["1", str(number), topic, name, payload])
                while (await socket.receive_json())[1] != str(number):
                    pass

    async def get(self, path: str) -> Answer:
        """Fetch a page; redirects are not followed."""
        async with self.http.get(self.info.url + path, allow_redirects=False) as response:
            return Answer(response.status, response.headers, await response.read())


@contextlib.asynccontextmanager
async def run(settings: HubSettings) -> AsyncIterator[RunningHub]:
    """Run a hub with these settings."""
    async with running_hub(settings) as info, aiohttp.ClientSession() as http:
        running = RunningHub(settings, info, http)
        try:
            yield running
        finally:
            for client in running.clients:
                await client.close()
            for socket in running.sockets:
                await socket.close()
