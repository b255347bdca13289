"""The six verbs as docs/contract.md has them: what is answered, and to whom."""

from __future__ import annotations

import pytest

from tests.conformance.deployments import HMAC_SECRET, Deployment, Party
from voicemeet_edge.backend.verbs import MatchedReply, Role, WaitingReply
from voicemeet_edge.errors import BackendError
from voicemeet_edge.hub.turn.provider import turn_password
from voicemeet_edge.secret import Secret


async def refused(coroutine: object) -> BackendError:
    with pytest.raises(BackendError) as caught:
        await coroutine  # type: ignore[misc]
    return caught.value


async def test_a_whole_call(backend: Deployment) -> None:
    door, desk = await backend.party(), await backend.party()
    waiting = await desk.waits(Role.ANSWERER, "frontdesk")
    assert 0 < waiting.poll_after_s <= 60
    ours = await door.meets(Role.CALLER, "frontdesk")
    theirs = await desk.meets(Role.ANSWERER, "frontdesk")
    assert ours.call_id == theirs.call_id
    assert (ours.slot, theirs.slot, ours.offerer, theirs.offerer) == ("a", "b", "a", "a")
    assert (ours.peer_role, theirs.peer_role) == (Role.ANSWERER, Role.CALLER)
    assert ours.token != theirs.token
    assert 60 <= ours.token_ttl_s <= 600
    assert 3595 <= ours.max_call_s <= 3600
    renewed = await door.client.renew(ours.token)
    assert renewed.token != ours.token
    again = await door.client.renew(renewed.token)
    assert again.token_ttl_s == renewed.token_ttl_s
    for side, reply in ((door, ours), (desk, theirs)):
        for _ in range(2):
            await side.client.ended(reply.token, 86_400)
    assert (await refused(door.client.renew(renewed.token))).code == "call_over"
    assert (await refused(door.ask(Role.CALLER, "frontdesk"))).code == "call_over"


async def test_relay_credentials_are_short_and_of_one_slot(backend: Deployment) -> None:
    if backend.name == "foreign":
        pytest.skip("its relay is its own business")
    _, _, ours, theirs = await backend.call()
    relays = []
    for reply in (ours, theirs):
        assert 0 < reply.ttl_s <= 120
        (relay,) = [server for server in reply.ice_servers if server.username]
        assert relay.username is not None
        assert relay.credential == turn_password(Secret(HMAC_SECRET), relay.username)
        relays.append(relay.username.partition(":")[2])
    assert relays[0] != relays[1]


async def test_the_same_ticket_gets_the_same_answer(backend: Deployment) -> None:
    one, other, ours, _ = await backend.call()
    for _ in range(3):
        again = await one.meets()
        assert (again.call_id, again.slot) == (ours.call_id, ours.slot)
    assert (await other.meets()).call_id == ours.call_id


async def test_a_ticket_is_one_devices_one_search(backend: Deployment) -> None:
    ann, bob = await backend.party(), await backend.party()
    await ann.waits(Role.CALLER)
    thief = Party(bob.client, bob.token, ann.ticket)
    for role, pool, who in [
        (Role.CALLER, "public", thief),
        (Role.ANSWERER, "public", ann),
        (Role.CALLER, "lab", ann),
    ]:
        error = await refused(who.ask(role, pool))
        assert (error.status, error.code) == (409, "ticket_taken")
    await bob.client.leave(bob.token, ann.ticket)
    await ann.waits(Role.CALLER)
    first = ann.ticket
    ann.ticket = "n" * 22
    await ann.waits(Role.CALLER)
    # The earlier search was given up, so its ticket is anybody's now.
    bob.ticket = first
    await bob.waits(Role.CALLER)


async def test_roles_meet_as_they_should(backend: Deployment) -> None:
    a, b, c, d = [await backend.party() for _ in range(4)]
    await a.waits(Role.CALLER, "lab")
    await b.waits(Role.CALLER, "lab")
    await c.waits(Role.EITHER, "lab")
    assert isinstance(await d.ask(Role.ANSWERER, "frontdesk"), WaitingReply)
    await d.client.leave(d.token, d.ticket)
    d.ticket = "d" * 22
    await d.meets(Role.ANSWERER, "lab")
    # Who has waited longest is first.
    await a.meets(Role.CALLER, "lab")
    await b.waits(Role.CALLER, "lab")


async def test_leaving_gives_an_unheard_match_back(backend: Deployment) -> None:
    desk, door = await backend.party(), await backend.party()
    await desk.waits(Role.ANSWERER, "lab")
    await door.meets(Role.CALLER, "lab")
    for _ in range(2):
        await door.client.leave(door.token, door.ticket)
    await desk.waits(Role.ANSWERER, "lab")
    door.ticket = "r" * 22
    ours = await door.meets(Role.CALLER, "lab")
    theirs = await desk.meets(Role.ANSWERER, "lab")
    assert ours.call_id == theirs.call_id
    # Now both have heard: leaving changes nothing.
    await door.client.leave(door.token, door.ticket)
    assert (await desk.meets(Role.ANSWERER, "lab")).call_id == ours.call_id


async def test_an_answerer_looks_on_while_a_caller_is_arriving(backend: Deployment) -> None:
    desk, first, second = [await backend.party() for _ in range(3)]
    await desk.waits(Role.ANSWERER, "frontdesk")
    silent = await first.meets(Role.CALLER, "frontdesk")
    assert (await desk.meets(Role.ANSWERER, "frontdesk")).call_id == silent.call_id
    desk.ticket = "s" * 22
    await desk.waits(Role.ANSWERER, "frontdesk")
    speaks = await second.meets(Role.CALLER, "frontdesk")
    assert (await desk.meets(Role.ANSWERER, "frontdesk")).call_id == speaks.call_id
    assert (await first.meets(Role.CALLER, "frontdesk")).call_id == silent.call_id


async def test_strangers_who_met_are_kept_apart(backend: Deployment) -> None:
    one, other, _, _ = await backend.call()
    one.ticket, other.ticket = "1" * 22, "2" * 22
    await one.waits()
    await other.waits()
    third = await backend.party()
    assert (await third.meets()).call_id == (await one.meets()).call_id


async def test_reports_have_one_receipt_each(backend: Deployment) -> None:
    ann, bob, ours, theirs = await backend.call()
    receipts = [await ann.client.report(ours.token, reason) for reason in ("abuse", "abuse", "other")]
    assert len(set(receipts)) == 1
    assert await bob.client.report(theirs.token, "abuse") not in receipts


async def test_a_token_opens_one_door_only(backend: Deployment) -> None:
    ann, _, ours, _ = await backend.call()
    waiting = await (await backend.party()).waits(Role.CALLER, "lab")
    client = ann.client
    for error in [
        await refused(client.renew(waiting.wait_token)),
        await refused(client.renew(ann.token)),
        await refused(client.report(ann.token, "abuse")),
        await refused(client.ended(waiting.wait_token, 5)),
        await refused(client.match(ours.token, "t" * 22, "public", Role.EITHER)),
        await refused(client.leave(backend.apikey, "t" * 22)),
        await refused(client.session(ours.token)),
    ]:
        assert (error.status, error.code) == (401, "bad_token")


async def test_a_device_token_is_followed_by_another(backend: Deployment) -> None:
    ann = await backend.party()
    first = ann.token
    ann.token = (await ann.client.session(first)).device_token
    assert ann.token != first
    await ann.waits(Role.CALLER, "lab")
    # The old one is another device to the backend: it does not own the new one's ticket.
    old = Party(ann.client, first, ann.ticket)
    assert (await refused(old.ask(Role.CALLER, "lab"))).code == "ticket_taken"
    forged = Secret(first.reveal()[:-4] + ("AAAA" if not first.reveal().endswith("AAAA") else "BBBB"))
    assert (await refused(ann.client.session(forged))).code == "bad_token"


async def test_a_caller_and_an_answerer_never_meet_themselves(backend: Deployment) -> None:
    ann = await backend.party()
    await ann.waits(Role.CALLER, "lab")
    ann.ticket = "m" * 22
    assert not isinstance(await ann.ask(Role.ANSWERER, "lab"), MatchedReply)
