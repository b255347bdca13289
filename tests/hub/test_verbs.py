"""The six verbs from end to end, through the real client, over real HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sqlite3
import time
from dataclasses import replace
from pathlib import Path

import pytest

from tests.hub.running import WIDE, RunningHub, loopback, new_ticket, run
from voicemeet_edge.backend.client import Backend
from voicemeet_edge.backend.verbs import MatchedReply, MatchRequest, Role, WaitingReply
from voicemeet_edge.errors import BackendError
from voicemeet_edge.hub import calls, verbs
from voicemeet_edge.hub.secrets import load_or_make_secrets
from voicemeet_edge.hub.settings import MatchSettings, RiskSettings, TurnSettings
from voicemeet_edge.hub.store import Store
from voicemeet_edge.hub.tokens import Tokens
from voicemeet_edge.hub.verbs import MATCH_TTL_S
from voicemeet_edge.secret import Secret


class Party:
    """A device at the hub."""

    def __init__(self, client: Backend, token: Secret) -> None:
        self.client = client
        self.token = token
        self.ticket = new_ticket()

    async def ask(self, role: Role = Role.EITHER, pool: str = "public") -> WaitingReply | MatchedReply:
        return await self.client.match(self.token, self.ticket, pool, role)


async def party(hub: RunningHub) -> Party:
    client = hub.client()
    return Party(client, (await client.session()).device_token)


async def call(hub: RunningHub, first: Party, second: Party) -> tuple[MatchedReply, MatchedReply]:
    for side in (first, second):
        side.ticket = new_ticket()
    assert isinstance(await first.ask(), WaitingReply)
    theirs, ours = await second.ask(), await first.ask()
    assert isinstance(ours, MatchedReply)
    assert isinstance(theirs, MatchedReply)
    return ours, theirs


async def refused(coroutine: object) -> BackendError:
    with pytest.raises(BackendError) as caught:
        await coroutine  # type: ignore[misc]
    return caught.value


async def on_duty(hub: RunningHub, address: str) -> None:
    session = json.loads((await hub.post("session", address=address)).body)
    body = json.dumps({"ticket": new_ticket(), "pool": "frontdesk", "role": "answerer"}).encode()
    answer = await hub.post("match", body, token=session["device_token"], address=address)
    assert answer.status == 200


async def test_a_stranger_that_rings_finds_no_more_desks_than_its_address_may_call(tmp_path: Path) -> None:
    limits = replace(WIDE, address_calls=2)
    async with run(loopback(tmp_path / "state", limits=limits, proxies=("127.0.0.1",))) as hub:
        guest = await party(hub)
        for number in range(3):
            await on_duty(hub, f"192.0.2.{number}")
        request = MatchRequest(guest.ticket, "frontdesk", Role.CALLER, ring=True)
        first = await guest.client.ring(guest.token, request)
        assert len((await guest.client.ring(guest.token, request)).calls) == len(first.calls) == 3
        await on_duty(hub, "192.0.2.9")
        again = tuple(found.call_id for found in first.calls)
        assert (await guest.client.ring(guest.token, replace(request, again=again))).calls == ()


async def test_a_whole_call(tmp_path: Path) -> None:
    secret = tmp_path / "turn-secret"
    secret.write_text("testsecret123\n")
    turn = TurnSettings(provider="hmac", secret_file=str(secret), urls=("turn:turn.example:3478",))
    async with run(loopback(tmp_path / "state", turn=turn)) as hub:
        door, desk = await party(hub), await party(hub)
        assert isinstance(await desk.ask(Role.ANSWERER, "frontdesk"), WaitingReply)
        ours = await door.ask(Role.CALLER, "frontdesk")
        theirs = await desk.ask(Role.ANSWERER, "frontdesk")
        assert isinstance(ours, MatchedReply)
        assert isinstance(theirs, MatchedReply)
        assert ours.call_id == theirs.call_id
        assert (ours.slot, theirs.slot, ours.offerer, theirs.offerer) == ("a", "b", "a", "a")
        assert (ours.peer_role, theirs.peer_role) == (Role.ANSWERER, Role.CALLER)
        users = {server.username for side in (ours, theirs) for server in side.ice_servers if server.username}
        assert len(users) == 2
        assert 0 < ours.ttl_s <= MATCH_TTL_S
        assert (await door.client.renew(ours.token)).ttl_s <= MATCH_TTL_S, "the desk has not shown itself"
        await hub.talk(ours, theirs)
        renewed = await door.client.renew(ours.token)
        assert ours.max_call_s < renewed.ttl_s <= ours.max_call_s + 300
        assert renewed.token != ours.token
        assert renewed.ice_servers[1].urls == ("turn:turn.example:3478",)
        await door.client.renew(renewed.token)
        for side, reply in ((door, ours), (desk, theirs)):
            await side.client.ended(reply.token, 86_400)
            await side.client.ended(reply.token, 86_400)
        assert (await refused(door.client.renew(renewed.token))).code == "call_over"
    with contextlib.closing(sqlite3.connect(tmp_path / "state" / "hub.db")) as database:
        ((_, count, seconds),) = database.execute("SELECT * FROM call_hours").fetchall()
    assert count == 1
    assert seconds < 600, "more seconds than have passed since the match"


async def test_credentials_come_with_a_match_only(hub: RunningHub) -> None:
    ann = await party(hub)
    waiting = await ann.ask()
    assert isinstance(waiting, WaitingReply)
    assert set(waiting.serialize()) == {"status", "poll_after_s", "wait_token"}
    assert (await refused(ann.client.renew(waiting.wait_token))).code == "bad_token"


async def test_leave_is_idempotent_and_frees_the_place(hub: RunningHub) -> None:
    ann, bob = await party(hub), await party(hub)
    await ann.ask()
    for _ in range(2):
        await ann.client.leave(ann.token, ann.ticket)
    assert isinstance(await bob.ask(), WaitingReply)


async def test_report_is_idempotent_and_stored_without_names(hub: RunningHub) -> None:
    ann, bob = await party(hub), await party(hub)
    ours, theirs = await call(hub, ann, bob)
    receipts = [await ann.client.report(ours.token, "abuse") for _ in range(3)]
    assert len(set(receipts)) == 1
    assert await bob.client.report(theirs.token, "abuse") != receipts[0]
    store = Store(hub.settings.state_dir / "hub.db")
    await store.open()
    reports, scores = await store.reports(), await store.load_scores()
    await store.close()
    assert len(reports) == 2
    assert not scores, "nobody was there, so nobody was talked with"
    files = b"".join(path.read_bytes() for path in await asyncio.to_thread(files_of, hub.settings.state_dir))
    for private in (ours.call_id, ann.ticket, ann.token.reveal(), ours.token.reveal()):
        assert private.encode() not in files


def files_of(directory: Path) -> list[Path]:
    return [path for path in directory.iterdir() if path.name.startswith("hub.db")]


async def test_reported_parties_are_set_apart_then_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calls, "TALK_S", 0.0)
    risk = RiskSettings(separate_at=1.5, refuse_at=2.5)
    match = MatchSettings(avoid_repeat_s=0)
    settings = loopback(tmp_path, risk=risk, match=match, proxies=("127.0.0.1",))
    async with run(settings) as hub:

        async def report(one: Party, about: Party, address: str) -> None:
            ours, theirs = await call(hub, one, about)
            await hub.talk(ours, theirs)
            body = b'{"reason": "abuse"}'
            answer = await hub.post("report", body, token=ours.token.reveal(), address=address)
            assert answer.status == 200

        bad = await party(hub)
        for _ in range(5):
            await report(await party(hub), bad, "192.0.2.1")
        bad.ticket = new_ticket()
        assert not separated(await bad.ask()), "five reports from one address are one"
        await bad.client.leave(bad.token, bad.ticket)
        await report(good := await party(hub), bad, "192.0.2.2")
        bad.ticket, good.ticket = new_ticket(), new_ticket()
        assert separated(await bad.ask())
        assert not separated(await good.ask())
        await good.client.leave(good.token, good.ticket)
        await bad.client.leave(bad.token, bad.ticket)
        # A call with one of its own kind, and the last report that is needed.
        worse = await party(hub)
        for number in (3, 4):
            await report(await party(hub), worse, f"192.0.2.{number}")
        await report(worse, bad, "192.0.2.5")
        error = await refused(bad.ask())
        assert (error.status, error.code) == (403, "refused_risk")
        # Its ticket is gone from the queue: nobody is matched with it.
        worse.ticket = new_ticket()
        assert isinstance(await worse.ask(), WaitingReply)
        # A fresh token does not wash it off, and a restart does not either.
        bad.token = (await bad.client.session(bad.token)).device_token
        assert (await refused(bad.ask())).code == "refused_risk"
        assert isinstance(await bad.ask(Role.CALLER), WaitingReply), "a score separates strangers only"
    async with run(settings) as hub:
        bad.client = hub.client()
        assert (await refused(bad.ask())).code == "refused_risk"


def separated(reply: WaitingReply | MatchedReply) -> bool:
    assert isinstance(reply, WaitingReply)
    return reply.separated


async def test_a_report_of_a_call_that_has_not_begun_counts_when_it_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calls, "TALK_S", 0.0)
    monkeypatch.setattr(verbs, "SWEEP_INTERVAL_S", 0.1)
    risk = RiskSettings(separate_at=0.5)
    async with run(loopback(tmp_path, risk=risk, match=MatchSettings(avoid_repeat_s=0))) as hub:
        ann, bob = await party(hub), await party(hub)
        ours, theirs = await call(hub, ann, bob)
        # 0.0 seconds are over at once; what is missing is that anything was said.
        monkeypatch.setattr(calls, "TALK_S", 1e-9)
        await ann.client.report(ours.token, "abuse")
        bob.ticket = new_ticket()
        assert not separated(await bob.ask())
        await hub.talk(ours, theirs)
        async with asyncio.timeout(30):
            while not separated(await bob.ask()):  # noqa: ASYNC110 - the hub tells nobody
                await asyncio.sleep(0.05)


async def test_renew_and_report_survive_a_restart_of_the_hub(tmp_path: Path) -> None:
    async with run(loopback(tmp_path)) as hub:
        ours, _ = await call(hub, await party(hub), await party(hub))
        first = await hub.client().report(ours.token, "abuse")
    async with run(loopback(tmp_path)) as hub:
        client = hub.client()
        assert (await client.renew(ours.token)).token
        assert await client.report(ours.token, "abuse") == first


async def test_expired_call_token_reports_within_the_grace_only(tmp_path: Path) -> None:
    settings = loopback(tmp_path)
    async with run(settings) as hub:
        secrets = await asyncio.to_thread(load_or_make_secrets, settings.state_dir)
        tokens = Tokens(secrets, call_ttl_s=600, device_ttl_s=60)
        client, now = hub.client(), time.time()
        late = tokens.make_call("c" * 32, "a", now - 700, now - 1000)
        assert await client.report(late, "abuse")
        assert (await refused(client.renew(late))).code == "bad_token"
        too_late = tokens.make_call("c" * 32, "a", now, now - 600 - 3700)
        assert (await refused(client.report(too_late, "abuse"))).code == "bad_token"
        over = tokens.make_call("d" * 32, "a", now - 1, now)
        assert (await refused(client.renew(over))).code == "call_over"


async def test_unknown_and_full_pools(tmp_path: Path) -> None:
    match = MatchSettings(pools=("frontdesk",), open_pools=("*",), max_waiting=1)
    async with run(loopback(tmp_path, match=match)) as hub:
        first, second = await party(hub), await party(hub)
        assert (await refused(first.ask(Role.CALLER, "public"))).code == "unknown_pool"
        await first.ask(Role.CALLER, "frontdesk")
        error = await refused(second.ask(Role.CALLER, "frontdesk"))
        assert (error.status, error.code, error.retry_after_s) == (503, "pool_full", 10.0)


async def test_many_at_once_all_find_somebody(hub: RunningHub) -> None:
    parties = [await party(hub) for _ in range(20)]
    await asyncio.gather(*(side.ask() for side in parties))
    found = await asyncio.gather(*(side.ask() for side in parties))
    calls: dict[str, set[str]] = {}
    for reply in found:
        assert isinstance(reply, MatchedReply)
        calls.setdefault(reply.call_id, set()).add(reply.slot)
    assert len(calls) == 10
    assert all(slots == {"a", "b"} for slots in calls.values())
