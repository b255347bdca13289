"""Ringing as docs/contract.md has it, at both backends: all free desks, busy ones counted, doors by name."""

from __future__ import annotations

import asyncio
import secrets
from dataclasses import replace

import pytest

from tests.conformance.deployments import CLOSED_POOL, Deployment, Party
from tests.conformance.test_verbs import refused
from voicemeet_edge.backend.verbs import (
    DeskState,
    MatchedReply,
    MatchRequest,
    RingingReply,
    Role,
    WaitingReply,
)
from voicemeet_edge.errors import BackendError


def new_ticket() -> str:
    return secrets.token_urlsafe(16)


async def members(backend: Deployment, role: Role, count: int = 1) -> list[Party]:
    """Devices with a pass of the closed pool, as soon as the backend has heard of it."""
    shown = await backend.operator.make_pass(CLOSED_POOL, role)
    found: list[Party] = []
    async with asyncio.timeout(30):
        while len(found) < count:
            client = backend.client()
            try:
                found.append(Party(client, (await client.session(shown_pass=shown)).device_token))
            except BackendError as error:
                if error.code != "pass_refused":
                    raise
                await asyncio.sleep(0.05)
    return found


async def ring(door: Party, *, again: tuple[str, ...] = (), pool: str = CLOSED_POOL) -> RingingReply:
    request = MatchRequest(door.ticket, pool, Role.CALLER, ring=True, again=again)
    return await door.client.ring(door.token, request)


async def on_duty(
    desk: Party, state: DeskState = DeskState.FREE, *, ticket: str = "", pool: str = CLOSED_POOL
) -> WaitingReply | MatchedReply:
    request = MatchRequest(ticket or desk.ticket, pool, Role.ANSWERER, state=state)
    return await desk.client.search(desk.token, request)


async def test_all_free_desks_ring_each_in_a_call_of_its_own(backend: Deployment) -> None:
    [door], desks = await members(backend, Role.CALLER), await members(backend, Role.ANSWERER, 3)
    for desk in desks:
        assert isinstance(await on_duty(desk), WaitingReply)
    ringing = await ring(door)
    assert len({call.call_id for call in ringing.calls}) == 3
    assert all(
        (call.slot, call.offerer, call.peer_role) == ("a", "a", Role.ANSWERER) for call in ringing.calls
    )
    told = [await on_duty(desk) for desk in desks]
    assert {call.call_id for call in ringing.calls} == {
        call.call_id for call in told if isinstance(call, MatchedReply)
    }
    again = await ring(door)
    assert [call.call_id for call in again.calls] == [call.call_id for call in ringing.calls] or {
        call.call_id for call in again.calls
    } == {call.call_id for call in ringing.calls}
    renewed = await door.client.renew(ringing.calls[0].token)
    assert renewed.token != ringing.calls[0].token


async def test_a_desk_that_comes_later_is_found_and_none_twice(backend: Deployment) -> None:
    [door], [desk] = await members(backend, Role.CALLER), await members(backend, Role.ANSWERER)
    nobody = await ring(door)
    assert (nobody.calls, nobody.place) == ((), 1)
    assert nobody.desks is not None
    assert (nobody.desks.busy, nobody.desks.away) == (0, 0)
    found = await on_duty(desk)
    assert isinstance(found, MatchedReply)
    [leg] = (await ring(door)).calls
    assert leg.call_id == found.call_id
    desk.ticket = new_ticket()
    assert isinstance(await on_duty(desk), WaitingReply), "it was rung already"
    assert [call.call_id for call in (await ring(door)).calls] == [found.call_id]
    [anew] = (await ring(door, again=(found.call_id,))).calls
    assert anew.call_id != found.call_id
    await door.client.leave(door.token, door.ticket)


async def test_busy_and_away_desks_are_counted_and_hear_who_waits(backend: Deployment) -> None:
    [one, two], desks = await members(backend, Role.CALLER, 2), await members(backend, Role.ANSWERER, 2)
    for desk, state in zip(desks, (DeskState.BUSY, DeskState.AWAY), strict=True):
        waiting = await on_duty(desk, state)
        assert isinstance(waiting, WaitingReply)
        assert (waiting.callers, waiting.doors) == (0, 0)
    first, second = await ring(one), await ring(two)
    assert [(reply.calls, reply.place) for reply in (first, second)] == [((), 1), ((), 2)]
    assert second.desks is not None
    assert (second.desks.busy, second.desks.away) == (1, 1)
    waiting = await on_duty(desks[0], DeskState.BUSY)
    assert isinstance(waiting, WaitingReply)
    assert waiting.callers == 2
    free = await on_duty(desks[0], DeskState.FREE)
    assert isinstance(free, MatchedReply)
    assert [call.call_id for call in (await ring(one)).calls] == [free.call_id], "first come, first served"
    await one.client.leave(one.token, one.ticket)
    assert (await ring(two)).place == 1


async def test_who_gives_up_frees_desks_that_have_not_heard(backend: Deployment) -> None:
    [one, two], [desk] = await members(backend, Role.CALLER, 2), await members(backend, Role.ANSWERER)
    await on_duty(desk)
    [given_up] = (await ring(one)).calls
    await one.client.leave(one.token, one.ticket)
    [leg] = (await ring(two)).calls
    assert leg.call_id != given_up.call_id
    found = await on_duty(desk)
    assert isinstance(found, MatchedReply)
    assert found.call_id == leg.call_id


async def test_a_ticket_rings_or_searches_and_is_one_devices(backend: Deployment) -> None:
    [one, two] = await members(backend, Role.CALLER, 2)
    await ring(one)
    assert (await refused(one.ask(Role.CALLER, CLOSED_POOL))).code == "ticket_taken"
    two.ticket = one.ticket
    assert (await refused(ring(two))).code == "ticket_taken"


async def test_doors_stand_by_are_listed_and_called_by_name(backend: Deployment) -> None:
    [door], [desk] = await members(backend, Role.CALLER), await members(backend, Role.ANSWERER)
    standing = MatchRequest(new_ticket(), CLOSED_POOL, Role.CALLER, label="Side entrance")
    reply = await door.client.search(door.token, standing)
    assert isinstance(reply, WaitingReply)
    assert reply.poll_after_s >= 30
    waiting = await on_duty(desk)
    assert isinstance(waiting, WaitingReply)
    assert waiting.doors == 1
    ringing = await ring(door)
    assert len(ringing.calls) == 1, "a door rings beside standing by"
    await door.client.leave(door.token, door.ticket)
    listed = await desk.client.doors(desk.token, CLOSED_POOL)
    assert (listed.count, [one.label for one in listed.doors]) == (1, ["Side entrance"])
    there = MatchRequest(new_ticket(), CLOSED_POOL, Role.ANSWERER, door=listed.doors[0].door)
    called = await desk.client.search(desk.token, there)
    assert isinstance(called, MatchedReply)
    assert (called.slot, called.offerer, called.peer_role) == ("b", "a", Role.CALLER)
    told = await door.client.search(door.token, standing)
    assert isinstance(told, MatchedReply)
    assert (told.call_id, told.slot, told.peer_role) == (called.call_id, "a", Role.ANSWERER)
    nobody = replace(there, ticket=new_ticket(), door="0" * 32)
    assert (await refused(desk.client.search(desk.token, nobody))).code == "door_away"
    assert (await refused(door.client.doors(door.token, CLOSED_POOL))).code == "pass_refused"


async def test_open_pools_have_no_doors_and_tell_no_counts(backend: Deployment) -> None:
    party, desk = await backend.party(), await backend.party()
    standing = MatchRequest(new_ticket(), "frontdesk", Role.CALLER, label="a door")
    assert (await refused(party.client.search(party.token, standing))).code == "bad_request"
    assert (await refused(party.client.doors(party.token, CLOSED_POOL))).code == "pass_needed"
    waiting = await on_duty(desk, pool="frontdesk")
    assert isinstance(waiting, WaitingReply)
    assert (waiting.callers, waiting.doors) == (None, None)
    ringing = await ring(party, pool="frontdesk")
    assert (len(ringing.calls), ringing.place, ringing.desks) == (1, None, None)


@pytest.mark.parametrize(
    "extra", ['"ring":true', '"again":["' + "c" * 22 + '"]', '"stand_by":true,"label":"x"']
)
async def test_what_is_for_callers_is_refused_to_others(backend: Deployment, extra: str) -> None:
    party = await backend.party()
    body = f'{{"ticket":"{new_ticket()}","pool":"frontdesk","role":"answerer",{extra}}}'
    answer = await backend.post("match", body.encode(), token=party.token.reveal())
    assert (answer.status, answer.code) == (400, "bad_request")
