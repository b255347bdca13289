"""TURN credentials: expired, foreign, stolen; and where the relay does not go.

What coturn does is written down as it is, also where one would wish for more: it has no way to take a
credential back, so a stolen one works until it expires.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aioice.stun
import aioice.turn
import pytest

from tests.attacks.lab import WAIT_S, Hub, hub_process, pair
from voicemeet_edge.hub.turn.provider import TurnAddress, turn_password, turn_username
from voicemeet_edge.secret import Secret
from voicemeet_edge.testing.network import BridgedNetwork, unavailable

pytestmark = [pytest.mark.system, pytest.mark.timeout(120)]

FORBIDDEN = 403  # RFC 8656 section 9.2: the server will not relay there
UNAUTHORIZED = 401


@contextlib.asynccontextmanager
async def allocation(address: TurnAddress, username: str, password: str) -> AsyncIterator[Any]:
    """An allocation made by any STUN client; gives aioice's client."""
    made: tuple[Any, Any] = await aioice.turn.create_turn_endpoint(
        asyncio.DatagramProtocol,
        server_addr=(address.host, address.port),
        username=username,
        password=password,
    )
    client = made[0]._TurnTransport__inner_protocol
    try:
        yield client
    finally:
        await client.delete()


async def error_of(address: TurnAddress, username: str, password: str) -> int:
    """The STUN error an allocation is refused with; 0 when it is granted."""
    try:
        async with allocation(address, username, password):
            return 0
    except aioice.stun.TransactionFailed as failed:
        return failed.response.error_code or -1


async def test_expired_and_foreign_credentials_are_refused(hub: Hub) -> None:
    # Fails without use-auth-secret in coturn's configuration (hub/turn/coturn.py).
    good, foreign = hub.secrets.turn, Secret("ab" * 32)
    now = time.time()
    fresh, old = (turn_username(good, "c" * 32, "a", at) for at in (now + 600, now - 60))
    assert await error_of(hub.turn, fresh, turn_password(good, fresh).reveal()) == 0
    assert await error_of(hub.turn, old, turn_password(good, old).reveal()) == UNAUTHORIZED
    assert await error_of(hub.turn, fresh, turn_password(foreign, fresh).reveal()) == UNAUTHORIZED
    later = fresh.replace(fresh.split(":")[0], str(int(now) + 86_400))
    assert await error_of(hub.turn, later, turn_password(good, fresh).reveal()) == UNAUTHORIZED
    assert await error_of(hub.turn, "", "") == UNAUTHORIZED


async def test_stolen_credentials_work_until_they_expire_and_no_longer(hub: Hub, tmp_path: Path) -> None:
    """Whoever reads the hub's answer to one end can use its relay too: bounded in time and number."""
    async with pair(hub, tmp_path) as devices:
        await devices.call()
        carrier = devices.carrier
        assert carrier is not None
        grant = carrier.match("b")
        stolen = next(server for server in grant.ice_servers if server.username)
        assert stolen.username is not None
        assert stolen.credential is not None
        assert await error_of(hub.turn, stolen.username, stolen.credential.reveal()) == 0
        await devices.hang_up()
    assert await error_of(hub.turn, stolen.username, stolen.credential.reveal()) == 0
    expires_at = int(stolen.username.split(":")[0])
    assert expires_at - time.time() <= grant.max_call_s + grant.ttl_s
    # One slot of one call: with as many allocations as a call may need it gets no more (hub's user_quota).
    async with contextlib.AsyncExitStack() as stack:
        refused = 0
        for _ in range(12):
            try:
                await stack.enter_async_context(
                    allocation(hub.turn, stolen.username, stolen.credential.reveal())
                )
            except aioice.stun.TransactionFailed as failed:
                refused = failed.response.error_code or -1
                break
    assert refused == 486  # RFC 8656 section 7.2: Allocation Quota Reached


async def test_an_allocation_ends_with_its_call_however_often_it_is_refreshed(
    hub: Hub, tmp_path: Path
) -> None:
    # Fails when HmacTurn.revoke does nothing, as it did once: coturn alone lets it live for ever.
    async with pair(hub, tmp_path) as devices:
        await devices.call()
        assert devices.carrier is not None
        stolen = next(server for server in devices.carrier.match("b").ice_servers if server.username)
        assert stolen.username is not None
        assert stolen.credential is not None
        coming = allocation(hub.turn, stolen.username, stolen.credential.reveal())
        client = await coming.__aenter__()
        assert await permission(client, hub.turn.host) == 0
        await devices.hang_up()
        async with asyncio.timeout(WAIT_S):
            while await permission(client, hub.turn.host) == 0:  # noqa: ASYNC110 - coturn tells nobody
                await asyncio.sleep(0.2)


async def test_credentials_of_a_match_are_short_until_both_are_there(hub: Hub, tmp_path: Path) -> None:
    # Fails when the hub gives credentials to the end of the call with the match.
    async with pair(hub, tmp_path) as devices:
        await devices.call()
        assert devices.carrier is not None
        assert devices.carrier.match("a").ttl_s <= 120
        assert devices.carrier.match("b").ttl_s <= 120


@pytest.fixture(params=[False, True], ids=["building", "internet"])
def building(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[tuple[BridgedNetwork, Hub, bool]]:
    """A hub with an address that is not loopback, and a neighbour."""
    if (reason := unavailable()) is not None:
        pytest.skip(reason)
    with BridgedNetwork(("hub", "thief")) as network:
        prefix = network.command("hub")
        with hub_process(tmp_path, network.address("hub"), prefix, public_peers=request.param) as hub:
            yield network, hub, request.param


@pytest.mark.namespaces
async def test_the_relay_reaches_nobody_inside(building: tuple[BridgedNetwork, Hub, bool]) -> None:
    # Fails without the denied-peer-ip lines (hub/turn/coturn.py).
    network, hub, is_public = building
    secret = hub.secrets.turn
    username = turn_username(secret, "c" * 32, "a", time.time() + 600)
    inside: tuple[str, ...] = ("127.0.0.1", "127.8.8.8", "0.0.0.0", "10.0.0.1", network.address("thief"))
    inside += ("172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "198.18.0.1", "224.0.0.251")
    inside += ("255.255.255.255",)
    answers: dict[str, int] = {}
    with network.inside("thief"):
        coming = allocation(hub.turn, username, turn_password(secret, username).reveal())
        client = await coming.__aenter__()
    try:
        for peer in (*inside, "203.0.114.7", network.address("hub")):
            answers[peer] = await permission(client, peer)
    finally:
        await coming.__aexit__(None, None, None)
    assert {peer: answers[peer] for peer in inside} == dict.fromkeys(inside, FORBIDDEN)
    # A building's relay is no way out either, past its filters and in its name.
    assert answers["203.0.114.7"] == (0 if is_public else FORBIDDEN)
    assert answers[network.address("hub")] == 0, "two relayed ends meet at the relay's own address"


async def permission(client: Any, peer: str) -> int:
    """Ask for a permission (RFC 8656 section 9); returns the error code, 0 when it is granted."""
    request = aioice.stun.Message(
        message_method=aioice.stun.Method.CREATE_PERMISSION, message_class=aioice.stun.Class.REQUEST
    )
    request.attributes["XOR-PEER-ADDRESS"] = (peer, 9)
    try:
        await client.request_with_retry(request)
    except aioice.stun.TransactionFailed as failed:
        return failed.response.error_code or -1
    return 0
