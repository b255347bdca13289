"""The two backends, as anybody who was given a base URL and an apikey sees them.

One rule: a test of the contract gets nothing else; what an operator does (pools, passes, limits) is behind
the same few methods for both. A third one, anywhere, joins in with VOICEMEET_CONFORMANCE_URL and _APIKEY.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

import aiohttp
import pytest

from tests.hosted.stack import Stack
from tests.hub.running import WIDE, Answer
from voicemeet_edge.backend.client import Backend
from voicemeet_edge.backend.verbs import MatchedReply, MatchReply, Role, WaitingReply
from voicemeet_edge.hub.app import running_hub
from voicemeet_edge.hub.pass_desk import make_pass
from voicemeet_edge.hub.settings import HttpSettings, HubSettings, MatchSettings, TurnSettings
from voicemeet_edge.hub.store import Store
from voicemeet_edge.secret import Secret
from voicemeet_edge.signaling.socket import RealtimeSocket

OPEN_POOLS = ("public", "frontdesk", "lab")
CLOSED_POOL = "vault"
HMAC_SECRET = "testsecret123"
TURN_URLS = ("stun:turn.example:3478", "turn:turn.example:3478?transport=udp")


class Operator(Protocol):
    """What somebody who runs a backend can do."""

    async def make_pass(self, pool: str, role: Role) -> Secret:
        """Make a pass for a closed pool."""

    async def set_admission_key(self, pool: str, key: str) -> None:
        """Ask for proofs in a closed pool."""


@dataclass
class Party:
    """A device at the backend."""

    client: Backend
    token: Secret
    ticket: str = field(default_factory=lambda: secrets.token_urlsafe(16))

    async def ask(self, role: Role = Role.EITHER, pool: str = "public", proof: str = "") -> MatchReply:
        """Ask `match` for the ticket."""
        return await self.client.match(self.token, self.ticket, pool, role, proof=proof)

    async def waits(self, role: Role = Role.EITHER, pool: str = "public") -> WaitingReply:
        """Ask, and be told to wait."""
        reply = await self.ask(role, pool)
        assert isinstance(reply, WaitingReply)
        return reply

    async def meets(self, role: Role = Role.EITHER, pool: str = "public") -> MatchedReply:
        """Ask, and be told of a match."""
        reply = await self.ask(role, pool)
        assert isinstance(reply, MatchedReply)
        return reply


class Deployment:
    """A backend that runs, and clients that are closed with it."""

    def __init__(self, name: str, url: str, apikey: Secret, operator: Operator | None) -> None:
        self.name, self.url, self.apikey = name, url, apikey
        self._operator = operator
        self._stack = contextlib.AsyncExitStack()
        self._http: aiohttp.ClientSession | None = None

    @property
    def operator(self) -> Operator:
        """Whoever runs it; skips the test where nobody is at hand."""
        if self._operator is None:
            pytest.skip("only its operator can prepare this")
        return self._operator

    @property
    def realtime_url(self) -> str:
        """Realtime's base URL, as the official clients want it."""
        return f"ws{self.url.removeprefix('http')}/realtime/v1"

    async def close(self) -> None:
        """Close what the test has opened."""
        await self._stack.aclose()

    def client(self) -> Backend:
        """Return a new client of our own."""
        client = Backend(self.url, self.apikey, timeout_s=30.0)
        self._stack.push_async_callback(client.close)
        return client

    async def party(self, shown_pass: Secret | None = None) -> Party:
        """Return a new device."""
        client = self.client()
        return Party(client, (await client.session(shown_pass=shown_pass)).device_token)

    async def call(
        self, roles: tuple[Role, Role] = (Role.EITHER, Role.EITHER), pool: str = "public"
    ) -> tuple[Party, Party, MatchedReply, MatchedReply]:
        """Return two devices that have just been matched, the one that offers first."""
        one, other = await self.party(), await self.party()
        # Somebody else's test may wait here: a pool of our own cannot be made everywhere, a role can be.
        await one.waits(roles[0], pool)
        theirs, ours = await other.meets(roles[1], pool), await one.meets(roles[0], pool)
        assert ours.call_id == theirs.call_id
        return (one, other, ours, theirs) if ours.slot == "a" else (other, one, theirs, ours)

    async def post(
        self,
        verb: str,
        body: bytes = b"{}",
        *,
        token: str = "",
        apikey: str | None = None,
        method: str = "POST",
    ) -> Answer:
        """Send raw bytes to a verb."""
        if self._http is None:
            self._http = await self._stack.enter_async_context(aiohttp.ClientSession())
        headers = {"apikey": self.apikey.reveal() if apikey is None else apikey}
        if token:
            headers["Authorization"] = f"Bearer {token}"
        url = f"{self.url}/functions/v1/voicemeet/{verb}"
        async with self._http.request(method, url, data=body, headers=headers) as response:
            return Answer(response.status, response.headers, await response.read())

    async def socket(self) -> RealtimeSocket:
        """Return a running socket of our own client."""
        socket = RealtimeSocket(self.url, self.apikey)
        running = asyncio.create_task(socket.run())

        async def stop() -> None:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

        self._stack.push_async_callback(stop)
        return socket


@dataclass
class HubOperator:
    """The person at the hub's command line."""

    directory: Path

    async def _store(self) -> Store:
        store = Store(self.directory / "hub.db")
        await store.open()
        return store

    async def make_pass(self, pool: str, role: Role) -> Secret:
        """Make a pass for a closed pool."""
        store = await self._store()
        try:
            return await make_pass(store, pool, role, "")
        finally:
            await store.close()

    async def set_admission_key(self, pool: str, key: str) -> None:
        """Ask for proofs in a closed pool."""
        store = await self._store()
        try:
            await store.set_admission_keys(pool, [Secret(key)])
        finally:
            await store.close()


@dataclass
class HostedOperator:
    """The person in the dashboard's SQL editor."""

    stack: Stack

    async def make_pass(self, pool: str, role: Role) -> Secret:
        """Make a pass for a closed pool."""
        statement = "select voicemeet.make_pass(%s, %s)"
        ((shown,),) = await asyncio.to_thread(self.stack.sql, statement, pool, role.value)
        return Secret(str(shown))

    async def set_admission_key(self, pool: str, key: str) -> None:
        """Ask for proofs in a closed pool."""
        await asyncio.to_thread(self.stack.sql, "select voicemeet.set_admission_keys(%s, %s)", pool, [key])


@contextlib.asynccontextmanager
async def hub_deployment(directory: Path, **limits: float) -> AsyncIterator[Deployment]:
    """Run a hub; `limits` are the few that a test sets narrow."""
    secret = directory / "turn-secret"
    await asyncio.to_thread(secret.write_text, HMAC_SECRET)
    settings = HubSettings(
        directory / "state",
        http=HttpSettings(port=0, tls="off"),
        match=MatchSettings(open_pools=OPEN_POOLS),
        limits=replace(WIDE, **limits),  # type: ignore[arg-type]  # the names are LimitSettings' own
        turn=TurnSettings(provider="hmac", secret_file=str(secret), urls=TURN_URLS),
    )
    async with running_hub(settings) as info:
        deployment = Deployment("hub", info.url, info.apikey, HubOperator(settings.state_dir))
        try:
            yield deployment
        finally:
            await deployment.close()


@contextlib.asynccontextmanager
async def hosted_deployment(stack: Stack, **limits: float) -> AsyncIterator[Deployment]:
    """Use a running stack; `limits` are set for the time of the test."""
    wide = {"device_per_s": 1e6, "device_burst": 1e6, "session_burst": 1e6}
    await asyncio.to_thread(stack.set, **{**wide, **limits})
    # Who was left waiting by another test is not this one's business.
    await asyncio.to_thread(stack.sql, "delete from voicemeet.tickets")
    deployment = Deployment("hosted", stack.url, stack.apikey, HostedOperator(stack))
    try:
        yield deployment
    finally:
        await deployment.close()


def foreign_deployment() -> Deployment | None:
    """Return the backend that the environment names, if it names one."""
    url, key = (os.environ.get(f"VOICEMEET_CONFORMANCE_{name}", "") for name in ("URL", "APIKEY"))
    return Deployment("foreign", url.rstrip("/"), Secret(key), None) if url else None
