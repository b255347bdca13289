"""Who may take a role in a closed pool."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from tests.conformance.deployments import CLOSED_POOL, Deployment, Party
from tests.conformance.test_verbs import refused
from voicemeet_edge.backend.admission import admission_key, admission_key_text, make_proof
from voicemeet_edge.backend.verbs import Role, WaitingReply
from voicemeet_edge.errors import BackendError
from voicemeet_edge.secret import Secret


async def soon(ask: Callable[[], Awaitable[object]], code: str = "") -> object:
    """Ask until it is so: what an operator does counts within seconds. `code`: the refusal to wait for."""
    async with asyncio.timeout(20):
        while True:
            try:
                answer = await ask()
                if not code:
                    return answer
            except BackendError as error:
                if error.code == code:
                    return error
                if code:
                    raise
            await asyncio.sleep(0.2)


async def enrolled(backend: Deployment, shown: Secret) -> Party:
    party = await soon(lambda: backend.party(shown))
    assert isinstance(party, Party)
    return party


async def test_a_closed_pool_asks_for_a_pass(backend: Deployment) -> None:
    operator = backend.operator
    stranger = await backend.party()
    assert (await refused(stranger.ask(Role.CALLER, CLOSED_POOL))).code == "pass_needed"
    for bad in (Secret("0" * 26), Secret("nonsense"), Secret("U" * 26)):
        error = await refused(backend.party(bad))
        assert (error.status, error.code) == (403, "pass_refused")
    shown = {role: await operator.make_pass(CLOSED_POOL, role) for role in (Role.CALLER, Role.ANSWERER)}
    desk, door = await enrolled(backend, shown[Role.ANSWERER]), await enrolled(backend, shown[Role.CALLER])
    assert (await refused(desk.ask(Role.CALLER, CLOSED_POOL))).code == "pass_refused"
    await desk.waits(Role.ANSWERER, CLOSED_POOL)
    ours = await door.meets(Role.CALLER, CLOSED_POOL)
    assert (await desk.meets(Role.ANSWERER, CLOSED_POOL)).call_id == ours.call_id
    # As somebody types it.
    typed = shown[Role.CALLER].reveal().lower().replace("-", " ").replace("0", "o").replace("1", "l")
    await enrolled(backend, Secret(typed))
    # An enrolled device is as welcome as others where pools are open.
    door.ticket = "o" * 22
    assert isinstance(await door.ask(Role.CALLER, "lab"), WaitingReply)


@pytest.mark.parametrize("backend", ["hub", "hosted"], indirect=True)
async def test_a_pool_with_a_key_asks_for_a_proof(backend: Deployment) -> None:
    operator = backend.operator
    intercom_key = bytes(range(32))
    shown = await operator.make_pass(CLOSED_POOL, Role.CALLER)
    door = await enrolled(backend, shown)
    await operator.set_admission_key(
        CLOSED_POOL, admission_key_text(admission_key(intercom_key, CLOSED_POOL)).reveal()
    )
    await soon(lambda: door.ask(Role.CALLER, CLOSED_POOL), "proof_needed")

    def proven(key: bytes, ticket: str) -> str:
        return make_proof(admission_key(key, CLOSED_POOL), door.token, CLOSED_POOL, Role.CALLER, ticket)

    for bad in (proven(bytes(32), door.ticket), proven(intercom_key, "another-ticket-of-22-ch")):
        error = await refused(door.ask(Role.CALLER, CLOSED_POOL, bad))
        assert (error.status, error.code) == (403, "proof_refused")
    right = proven(intercom_key, door.ticket)
    assert isinstance(await door.ask(Role.CALLER, CLOSED_POOL, right), WaitingReply)
    if backend.name == "hosted":
        # The stack is shared by the tests of this run.
        from tests.conformance.deployments import HostedOperator

        assert isinstance(operator, HostedOperator)
        await asyncio.to_thread(
            operator.stack.sql, "select voicemeet.set_admission_keys(%s, '{}')", CLOSED_POOL
        )
