"""Closed pools over real HTTP: who has no pass, or no proof, is refused with a word that says which."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.hub.running import RunningHub, loopback, new_ticket, run
from tests.hub.test_verbs import refused
from voicemeet_edge.backend.admission import admission_key, admission_key_text, make_proof, new_pass
from voicemeet_edge.backend.verbs import (
    SELF_TEST_POOL,
    Desks,
    DeskState,
    MatchedReply,
    MatchRequest,
    Role,
    WaitingReply,
)
from voicemeet_edge.errors import BackendError, LocalError
from voicemeet_edge.hub import pass_reading
from voicemeet_edge.hub.pass_desk import make_pass, pass_table, pass_text, revoke
from voicemeet_edge.hub.settings import LimitSettings, MatchSettings
from voicemeet_edge.hub.store import Store
from voicemeet_edge.secret import Secret

POOL = "frontdesk"
KEY = bytes(range(32))


@pytest.fixture
async def closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[RunningHub]:
    """A hub as it is by default: every pool but `public` is closed."""
    monkeypatch.setattr(pass_reading, "PASSES_INTERVAL_S", 0.05)
    async with run(loopback(tmp_path / "state", match=MatchSettings())) as hub:
        yield hub


@pytest.fixture
async def store(closed: RunningHub) -> AsyncIterator[Store]:
    """The hub's database as `voicemeet-edge pass` opens it, beside the running hub."""
    store = Store(closed.settings.state_dir / "hub.db")
    await store.open()
    yield store
    await store.close()


async def enrolled(hub: RunningHub, shown: Secret) -> Secret:
    """Return a device token made with a pass."""
    return (await hub.client().session(shown_pass=shown)).device_token


async def code_of(hub: RunningHub, token: Secret, role: Role = Role.CALLER, pool: str = POOL) -> str:
    return (await refused(hub.client().match(token, new_ticket(), pool, role))).code


async def test_a_stranger_takes_no_role_in_a_closed_pool(closed: RunningHub) -> None:
    client = closed.client()
    token = (await client.session()).device_token
    for role in Role:
        error = await refused(client.match(token, new_ticket(), POOL, role))
        assert (error.status, error.code) == (403, "pass_needed")
        assert not error.retryable
    assert isinstance(await client.match(token, new_ticket(), "public", Role.EITHER), WaitingReply)


async def test_a_pass_gives_one_role_in_one_pool(closed: RunningHub, store: Store) -> None:
    door = await enrolled(closed, await make_pass(store, POOL, Role.CALLER, "lobby"))
    desk = await enrolled(closed, await make_pass(store, POOL, Role.ANSWERER, "desk"))
    assert await code_of(closed, door, Role.ANSWERER) == "pass_refused"
    assert await code_of(closed, door, pool="backdoor") == "pass_refused"
    client, ticket = closed.client(), new_ticket()
    assert isinstance(await client.match(desk, ticket, POOL, Role.ANSWERER), WaitingReply)
    assert isinstance(await client.match(door, new_ticket(), POOL, Role.CALLER), MatchedReply)
    assert isinstance(await client.match(desk, ticket, POOL, Role.ANSWERER), MatchedReply)


async def test_a_pass_that_was_taken_back_opens_nothing_any_more(closed: RunningHub, store: Store) -> None:
    shown = await make_pass(store, POOL, Role.CALLER, "lobby")
    token = await enrolled(closed, shown)
    assert isinstance(await closed.client().match(token, new_ticket(), POOL, Role.CALLER), WaitingReply)
    await revoke(store, "lobby")
    async with asyncio.timeout(30):
        while True:
            try:
                await closed.client().session(shown_pass=shown)
            except BackendError as error:
                if error.code != "pass_refused":
                    raise
                break
    assert await code_of(closed, token) == "pass_refused"
    with pytest.raises(LocalError):
        await revoke(store, "lobby")


async def test_guessing_a_pass_is_refused_and_counted(tmp_path: Path) -> None:
    # One guess in a quarter of an hour is given back: however slow the machine, the test sees none.
    limits = LimitSettings(address_per_s=0.001, address_burst=20.0)
    async with run(loopback(tmp_path, match=MatchSettings(), limits=limits)) as hub:
        client = hub.client()
        errors = [await refused(client.session(shown_pass=new_pass())) for _ in range(30)]
    assert [error.status for error in errors] == [403] * 20 + [429] * 10


async def test_where_the_key_must_be_proved_a_stolen_pass_is_not_enough(
    closed: RunningHub, store: Store
) -> None:
    key = admission_key(KEY, POOL)
    await store.set_admission_keys(POOL, [admission_key_text(key)])
    token = await enrolled(closed, await make_pass(store, POOL, Role.CALLER, "lobby"))
    client, ticket = closed.client(), new_ticket()

    async def ask(proof: str, ticket: str = ticket) -> str:
        return (await refused(client.match(token, ticket, POOL, Role.CALLER, proof=proof))).code

    assert await ask("") == "proof_needed"
    assert await ask("A" * 43) == "proof_refused"
    for wrong in (
        make_proof(admission_key(bytes(32), POOL), token, POOL, Role.CALLER, ticket),
        make_proof(key, token, POOL, Role.CALLER, new_ticket()),
        make_proof(key, Secret("another token"), POOL, Role.CALLER, ticket),
        make_proof(key, token, POOL, Role.ANSWERER, ticket),
    ):
        assert await ask(wrong) == "proof_refused"
    good = make_proof(key, token, POOL, Role.CALLER, ticket)
    assert isinstance(await client.match(token, ticket, POOL, Role.CALLER, proof=good), WaitingReply)
    # While the intercom key changes, the old and the new one are both good.
    new = admission_key(b"n" * 32, POOL)
    await store.set_admission_keys(POOL, [admission_key_text(new), admission_key_text(key)])
    await enrolled(closed, await make_pass(store, POOL, Role.CALLER, "again"))
    for admitted in (key, new):
        proof = make_proof(admitted, token, POOL, Role.CALLER, ticket)
        assert await client.match(token, ticket, POOL, Role.CALLER, proof=proof)


async def test_what_is_stored_opens_nothing(closed: RunningHub, store: Store) -> None:
    shown = await make_pass(store, POOL, Role.CALLER, "lobby")
    (kept,) = await store.passes()
    for text in (kept.hash, kept.id):
        error = await refused(closed.client().session(shown_pass=Secret(text)))
        assert error.code in ("pass_refused", "bad_request")
    files = [
        path.read_bytes()
        for path in await asyncio.to_thread(lambda: [*closed.settings.state_dir.glob("hub.db*")])
    ]
    assert not any(shown.reveal().encode() in content for content in files)


async def test_what_is_printed_for_a_pass_holds_all_that_is_needed(closed: RunningHub, store: Store) -> None:
    shown = await make_pass(store, POOL, Role.ANSWERER, "desk")
    text = pass_text(shown, POOL, Role.ANSWERER, "https://hub.example:8443")
    assert f"https://hub.example:8443/desk/#pass={shown.reveal()}&pool={POOL}" in text
    assert 'pass = "' in pass_text(shown, POOL, Role.CALLER)
    table = pass_table(await store.passes())
    assert "answerer" in table
    assert shown.reveal() not in table.lower().replace("-", "")


async def test_desks_and_doors_of_a_closed_pool_hear_of_each_other(closed: RunningHub, store: Store) -> None:
    desk_pass = await make_pass(store, POOL, Role.ANSWERER, "desk")
    door_pass = await make_pass(store, POOL, Role.CALLER, "door")
    desk, door = await enrolled(closed, desk_pass), await enrolled(closed, door_pass)
    client = closed.client()
    standing = MatchRequest(new_ticket(), POOL, Role.CALLER, label="Side entrance")
    assert isinstance(await client.search(door, standing), WaitingReply)
    waiting = await client.search(desk, MatchRequest(new_ticket(), POOL, Role.ANSWERER, state=DeskState.BUSY))
    assert isinstance(waiting, WaitingReply)
    assert (waiting.callers, waiting.doors) == (0, 1)
    ringing = await client.ring(door, MatchRequest(new_ticket(), POOL, Role.CALLER, ring=True))
    assert (ringing.calls, ringing.place, ringing.desks) == ((), 1, Desks(busy=1))
    listed = await client.doors(desk, POOL)
    assert (listed.count, listed.doors[0].label) == (1, "Side entrance")
    there = MatchRequest(new_ticket(), POOL, Role.ANSWERER, door=listed.doors[0].door)
    matched = await client.search(desk, there)
    told = await client.search(door, standing)
    assert isinstance(matched, MatchedReply)
    assert isinstance(told, MatchedReply)
    assert (matched.call_id, matched.slot, told.slot) == (told.call_id, "b", "a")
    nobody = MatchRequest(new_ticket(), POOL, Role.ANSWERER, door="0" * 32)
    assert (await refused(client.search(desk, nobody))).code == "door_away"
    assert (await refused(client.doors(door, POOL))).code == "pass_refused", "doors do not list each other"
    stranger = (await client.session()).device_token
    assert (await refused(client.doors(stranger, POOL))).code == "pass_needed"


async def test_there_are_no_doors_and_no_counts_in_an_open_pool(closed: RunningHub) -> None:
    client = closed.client()
    token = (await client.session()).device_token
    standing = MatchRequest(new_ticket(), "public", Role.CALLER, label="a door")
    assert (await refused(client.search(token, standing))).code == "bad_request"
    ringing = await client.ring(token, MatchRequest(new_ticket(), "public", Role.CALLER, ring=True))
    assert (ringing.place, ringing.desks) == (None, None)
    waiting = await client.search(token, MatchRequest(new_ticket(), "public", Role.ANSWERER))
    assert isinstance(waiting, WaitingReply)
    assert (waiting.callers, waiting.doors) == (None, None)


async def test_a_device_may_meet_itself_with_a_pass_of_any_pool(tmp_path: Path) -> None:
    pool = f"{SELF_TEST_POOL}0123456789abcdef0123"
    async with run(loopback(tmp_path / "state", match=MatchSettings(open_pools=()))) as hub:
        store = Store(hub.settings.state_dir / "hub.db")
        await store.open()
        shown = await make_pass(store, POOL, Role.CALLER, "lobby")
        token, other = await enrolled(hub, shown), await enrolled(hub, shown)
        await hub.client().match(token, new_ticket(), pool, Role.EITHER)
        assert isinstance(await hub.client().match(other, new_ticket(), pool, Role.EITHER), MatchedReply)
        await store.close()
        stranger = (await hub.client().session()).device_token
        assert await code_of(hub, stranger, Role.EITHER, pool) == "pass_needed"


async def test_a_pool_that_is_only_named_like_a_self_test_is_as_closed_as_any(tmp_path: Path) -> None:
    pool = f"{SELF_TEST_POOL}room"
    match = MatchSettings(pools=("public", pool), open_pools=("public",))
    async with run(loopback(tmp_path / "state", match=match)) as hub:
        stranger = (await hub.client().session()).device_token
        assert await code_of(hub, stranger, Role.EITHER, pool) == "pass_needed"
        assert await code_of(hub, stranger, Role.EITHER, f"{SELF_TEST_POOL}cafe") == "unknown_pool"
