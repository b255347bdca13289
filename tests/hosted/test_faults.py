"""What goes wrong around the function, on the whole stack: nothing lost, nothing half-done, said in words."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace

import aiohttp
import pytest
from aiohttp import web

from tests.hosted.stack import Stack, start_function, start_gateway, stop
from tests.ports import reserved_port
from voicemeet_edge.backend.client import Backend
from voicemeet_edge.backend.verbs import MatchedReply, MatchReply, Role, WaitingReply
from voicemeet_edge.errors import BackendError
from voicemeet_edge.secret import Secret
from voicemeet_edge.testing.waiting import until

pytestmark = pytest.mark.timeout(90)


class Party:
    """A device at the backend."""

    def __init__(self, stack: Stack, client: Backend, token: Secret) -> None:
        self.stack, self.client, self.token = stack, client, token
        self.ticket = secrets.token_urlsafe(16)

    async def ask(self, role: Role) -> MatchReply:
        return await self.client.match(self.token, self.ticket, "public", role)


@asynccontextmanager
async def parties(stack: Stack, count: int = 2) -> AsyncIterator[list[Party]]:
    clients = [Backend(stack.url, stack.apikey, timeout_s=20.0) for _ in range(count)]
    try:
        yield [Party(stack, client, (await client.session()).device_token) for client in clients]
    finally:
        for client in clients:
            await client.close()


async def in_thread(work: object, *arguments: object) -> None:
    await asyncio.to_thread(work, *arguments)  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def nobody_waits(stack: Stack) -> Iterator[None]:
    yield
    stack.sql("delete from voicemeet.tickets")


async def refused(party: Party, role: Role) -> BackendError:
    """Ask over a connection of its own: a device asks twice where it doubts a kept one, and waits longer."""
    fresh = Backend(party.stack.url, party.stack.apikey, timeout_s=20.0)
    try:
        with pytest.raises(BackendError) as caught:
            await fresh.match(party.token, party.ticket, "public", role)
        return caught.value
    finally:
        await fresh.close()


async def test_a_database_that_stands_still(stack: Stack) -> None:
    async with parties(stack) as (desk, door):
        await desk.ask(Role.ANSWERER)
        await in_thread(stack.postgres.pause, True)
        try:
            start = time.monotonic()
            error = await refused(door, Role.CALLER)
            took = time.monotonic() - start
        finally:
            await in_thread(stack.postgres.pause, False)
        assert (error.status, error.code, error.retry_after_s) == (503, "storage", 5)
        assert took < 8, "a device gives up after 8 s"
        ours, theirs = await again(door, Role.CALLER), await again(desk, Role.ANSWERER)
        assert isinstance(ours, MatchedReply)
        assert isinstance(theirs, MatchedReply)
        assert ours.call_id == theirs.call_id


async def again(party: Party, role: Role) -> MatchReply:
    """Ask until the backend is there again, as a device does."""
    async with asyncio.timeout(40):
        while True:
            try:
                return await party.ask(role)
            except BackendError:
                await asyncio.sleep(0.2)


async def test_a_database_that_crashes(stack: Stack) -> None:
    async with parties(stack) as (desk, door):
        await desk.ask(Role.ANSWERER)
        matched = await door.ask(Role.CALLER)
        assert isinstance(matched, MatchedReply)
        await in_thread(stack.postgres.crash)
        # Who waited is entered anew by asking; the call goes on, and its reports are kept.
        assert isinstance(await again(desk, Role.ANSWERER), WaitingReply)
        renewed = await door.client.renew(matched.token)
        assert renewed.token != matched.token
        receipt = await door.client.report(matched.token, "abuse")
        rows = await asyncio.to_thread(
            stack.sql, "select reported from voicemeet.reports where receipt = %s", receipt
        )
        assert rows == [(None,)]
        await door.client.ended(matched.token, 5)


async def test_a_function_killed_between_commit_and_answer(stack: Stack) -> None:
    async with parties(stack) as (desk, door):
        await desk.ask(Role.ANSWERER)
        # The match is made, and the answer never arrives: the function dies while the commit is held up.
        blocker = stack.admin()
        blocker.execute("begin; lock table voicemeet.calls in share mode")
        lost = asyncio.create_task(door.ask(Role.CALLER))
        waits = "select from pg_locks where not granted and relation = 'voicemeet.calls'::regclass"
        await until(lambda: stack.sql(waits), 20)
        await in_thread(stop, stack, "function")
        blocker.execute("commit")
        blocker.close()
        with pytest.raises(BackendError):
            await lost
        await in_thread(start_function, stack)
        ours, theirs = await again(door, Role.CALLER), await again(desk, Role.ANSWERER)
        assert isinstance(ours, MatchedReply)
        assert isinstance(theirs, MatchedReply)
        assert ours.call_id == theirs.call_id
        calls = await asyncio.to_thread(
            stack.sql, "select count(*) from voicemeet.calls where call_id = %s", ours.call_id
        )
        assert calls == [(1,)]


async def test_the_platforms_own_answers_are_taken_for_busy(stack: Stack) -> None:
    async with parties(stack) as (door, _):
        await in_thread(stop, stack, "function")
        error = await refused(door, Role.CALLER)
        assert (error.status, error.retryable) == (503, True)
        await in_thread(start_function, stack)
        assert isinstance(await again(door, Role.CALLER), WaitingReply)


async def test_two_workers_of_different_versions_at_once(stack: Stack) -> None:
    """As while a new one is deployed: whoever answers, it is one backend."""
    older = replace(stack, function_url=f"http://127.0.0.1:{reserved_port()}")
    await in_thread(start_function, older, "2.1", "older function")
    other = Backend(older.function_url, stack.apikey, timeout_s=20.0)
    try:
        async with parties(stack) as (desk, door):
            await desk.ask(Role.ANSWERER)
            ours = await other.match(door.token, door.ticket, "public", Role.CALLER)
            theirs = await desk.ask(Role.ANSWERER)
            assert isinstance(ours, MatchedReply)
            assert isinstance(theirs, MatchedReply)
            assert ours.call_id == theirs.call_id
            renewed = await other.renew(theirs.token)
            await desk.client.ended(renewed.token, 3)
            with pytest.raises(BackendError, match="over"):
                await other.renew(theirs.token)
    finally:
        await other.close()
        await in_thread(stop, stack, "older function")


async def test_realtime_that_is_down_delays_a_match_and_loses_none(stack: Stack) -> None:
    async with parties(stack) as (desk, door):
        await desk.ask(Role.ANSWERER)
        await in_thread(stop, stack, "gateway")
        # Asked past the gateway, which is also Realtime here: the push fails, the verb does not.
        async with aiohttp.ClientSession() as http:
            headers = {"apikey": stack.apikey.reveal(), "Authorization": f"Bearer {door.token.reveal()}"}
            body = {"ticket": door.ticket, "pool": "public", "role": "caller"}
            url = f"{stack.function_url}/voicemeet/match"
            async with http.post(url, json=body, headers=headers) as response:
                assert response.status == 200
                assert (await response.json())["status"] == "matched"
        await in_thread(start_gateway, stack)
        assert isinstance(await again(desk, Role.ANSWERER), MatchedReply)
    await until(lambda: "a push could not be sent" in stack.log("function"), 20)


class TurnApi:
    """Cloudflare's TURN API, in the mood that a test gives it."""

    def __init__(self) -> None:
        self.mood = "well"
        self.turn = 0
        self.asked = asyncio.Event()
        self.runner = web.ServerRunner(web.Server(self.answer), shutdown_timeout=0.1)
        self.port = reserved_port()

    async def start(self) -> None:
        await self.runner.setup()
        await web.TCPSite(self.runner, "127.0.0.1", self.port).start()

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        self.asked.set()
        mood = self.mood
        if mood == "silent and dripping":
            self.turn += 1
            mood = "silent" if self.turn % 2 else "dripping"
        if mood == "silent":
            await asyncio.sleep(60)
        if mood == "slow":
            await asyncio.sleep(3)
        if mood == "dripping":
            response = web.StreamResponse(status=201)
            await response.prepare(request)
            while True:
                await response.write(b" ")
                await asyncio.sleep(0.3)
        if request.path.endswith("/revoke"):
            return web.Response(status=204)
        server = {"urls": ["turn:t.example:3478"], "username": "u" + secrets.token_hex(8), "credential": "c"}
        return web.json_response({"iceServers": [server]}, status=201)


@asynccontextmanager
async def asking_cloudflare(stack: Stack) -> AsyncIterator[TurnApi]:
    """Let the function ask a TURN API of the test's, which is not there before it is started."""
    api, before = TurnApi(), dict(stack.environment)
    stack.environment.update(
        VOICEMEET_TURN="cloudflare", VOICEMEET_TURN_API=f"http://127.0.0.1:{api.port}",
        VOICEMEET_TURN_KEY_ID="key", VOICEMEET_TURN_TOKEN="t",
    )  # fmt: skip
    await in_thread(stop, stack, "function")
    await in_thread(start_function, stack)
    try:
        yield api
    finally:
        await api.runner.cleanup()
        stack.environment.clear()
        stack.environment.update(before)
        await in_thread(stop, stack, "function")
        await in_thread(start_function, stack)


async def test_a_turn_api_that_is_away_silent_or_dripping(stack: Stack) -> None:
    async with asking_cloudflare(stack) as api, parties(stack) as (desk, door):
        await desk.ask(Role.ANSWERER)
        error = await refused(door, Role.CALLER)  # nobody listens there yet
        assert (error.status, error.code, error.retry_after_s) == (503, "turn_unavailable", 2)
        await api.start()
        # One end meets silence, the other an answer that never ends, whoever comes first.
        api.mood = "silent and dripping"
        start = time.monotonic()
        for error in await asyncio.gather(refused(door, Role.CALLER), refused(desk, Role.ANSWERER)):
            assert (error.status, error.code) == (503, "turn_unavailable")
        assert time.monotonic() - start < 8, "a device gives up after 8 s"
        api.mood = "well"
        # The match stood all the while: both get the one that was made at first.
        ours, theirs = await again(door, Role.CALLER), await again(desk, Role.ANSWERER)
        assert isinstance(ours, MatchedReply)
        assert isinstance(theirs, MatchedReply)
        assert ours.call_id == theirs.call_id
        # At the end nobody waits for credentials to be taken back.
        api.mood = "silent"
        api.asked.clear()
        start = time.monotonic()
        await door.client.ended(ours.token, 3)
        assert time.monotonic() - start < 4, "the API's limit"
        await asyncio.wait_for(api.asked.wait(), 10)


async def test_two_slow_services_one_after_the_other(stack: Stack) -> None:
    async with asking_cloudflare(stack) as api, parties(stack) as (desk, door):
        await api.start()
        api.mood = "slow"
        await desk.ask(Role.ANSWERER)
        with stack.admin() as blocker:
            blocker.execute("begin; lock table voicemeet.calls in share mode")
            start = time.monotonic()
            asked = asyncio.create_task(door.ask(Role.CALLER))
            # Each is slow and within its own limit: the match, the credentials, and then keeping them. The
            # device asks once more after 3 s.
            await asyncio.sleep(2.5)
            blocker.execute("commit")
            await asyncio.wait_for(api.asked.wait(), 10)
            blocker.execute("begin; lock table voicemeet.calls in share mode")
            with pytest.raises(BackendError) as caught:
                await asked
            assert (caught.value.status, caught.value.retryable) == (503, True)
            assert time.monotonic() - start < 8, "a device gives up after 8 s"
            blocker.execute("commit")
        api.mood = "well"
        assert isinstance(await again(door, Role.CALLER), MatchedReply)


async def test_a_pooler_that_is_full_or_away(stack: Stack) -> None:
    async with parties(stack) as (door, _):
        pooler = stack.processes["pooler"]
        pooler.send_signal(19)  # SIGSTOP: it takes connections and answers none
        try:
            error = await refused(door, Role.CALLER)
        finally:
            pooler.send_signal(18)
        assert (error.status, error.code) == (503, "storage")
        assert isinstance(await again(door, Role.CALLER), WaitingReply)


async def test_nothing_of_anybody_is_in_the_logs(stack: Stack) -> None:
    async with parties(stack) as (desk, door):
        await desk.ask(Role.ANSWERER)
        matched = await door.ask(Role.CALLER)
        assert isinstance(matched, MatchedReply)
        await door.client.report(matched.token, "abuse")
        async with aiohttp.ClientSession() as http:
            headers = {"apikey": stack.apikey.reveal(), "Authorization": "Bearer " + "x" * 60}
            for body in (b"{", b'{"ticket": "' + door.ticket.encode() + b'"}'):
                async with http.post(
                    f"{stack.url}/functions/v1/voicemeet/match", data=body, headers=headers
                ) as response:
                    assert response.status >= 400
        said = stack.log("function") + (stack.postgres.home / "log").read_text()
        tokens = [door.token.reveal(), matched.token.reveal(), stack.apikey.reveal()]
        for private in (desk.ticket, door.ticket, matched.call_id, *tokens):
            assert private not in said, private
