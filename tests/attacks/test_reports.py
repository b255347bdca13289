"""Reports as a weapon: what somebody who never said a word can do to others by reporting them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.attacks.guest import DefaultHub, Guest, default_hub, enrolled, guest

pytestmark = [pytest.mark.system, pytest.mark.timeout(120)]

POOL = "frontdesk"
MANY = 8  # more than are enough to refuse somebody
QUICK = {"device_per_s": 100.0, "device_burst": 1000.0, "report_per_s": 10.0, "report_burst": 100.0}


async def waits(one: Guest, token: str, pool: str, role: str) -> str:
    """Begin a search that waits, and is not set apart; its ticket."""
    ticket = f"{role}-{id(one)}-{len(one.tickets)}".ljust(24, "x")
    one.tickets.append(ticket)
    status, body = await one.match(token, pool, role, ticket)
    assert (status, body["status"], body.get("separated")) == (200, "waiting", None), body
    return ticket


async def matched_reports_and_goes(hub: DefaultHub, number: int, shown: str, pool: str, role: str) -> None:
    """One more stranger, from an address of its own: match, say nothing, report at once."""
    async with guest(hub.url, f"127.0.1.{number + 1}") as liar:
        token = await enrolled(liar, shown)
        _, call = await liar.match(token, pool, role)
        assert call["status"] == "matched"
        status, reply = await liar.ask("report", {"reason": "abuse"}, str(call["token"]))
        assert status == 200
        assert reply["receipt"], "it is kept for the operator"
        await liar.ask("ended", {"seconds": 0}, str(call["token"]))


@pytest.mark.parametrize(
    ("pool", "role", "other"),
    [(POOL, "answerer", "caller"), ("public", "either", "either")],
    ids=["desk", "stranger"],
)
async def test_reports_of_calls_that_never_were_set_nobody_apart(
    tmp_path: Path, pool: str, role: str, other: str
) -> None:
    # The stranger fails without `has_talked` in Complaints._weigh (hub/complaints.py). The desk stands behind
    # two more: fails when also neither `_weigh` nor Verbs.match (hub/verbs.py) look at pool and roles.
    with default_hub(tmp_path, limits=QUICK) as hub:
        async with guest(hub.url, "127.0.0.2") as victim:
            is_closed = pool == POOL
            token = await enrolled(victim, hub.desk_pass if is_closed else "")
            for number in range(MANY):
                ticket = await waits(victim, token, pool, role)
                await matched_reports_and_goes(hub, number, hub.device_pass if is_closed else "", pool, other)
                assert (await victim.match(token, pool, role, ticket))[1]["status"] == "matched"
            await waits(victim, token, pool, role)
            async with guest(hub.url, "127.0.0.3") as honest:
                fresh = await enrolled(honest, hub.device_pass if is_closed else "")
                _, call = await honest.match(fresh, pool, other)
                assert call["status"] == "matched", "somebody who was never reported still meets it"


async def test_a_forged_forwarding_line_makes_nobody_somebody_else(tmp_path: Path) -> None:
    # Fails when the proxy's own line is not read last (forwarded addresses in hub/server.py, `getall`).
    http = {"port": 0, "trusted_proxies": ["127.0.0.7"]}
    with default_hub(tmp_path, http=http, limits={"session_per_s": 0.01, "session_burst": 5.0}) as hub:
        async with guest(hub.url, "127.0.0.7") as proxy:
            proxy.http.headers.add("X-Forwarded-For", "")
            given = 0
            for number in range(20):
                proxy.http.headers.popall("X-Forwarded-For")
                proxy.http.headers.add("X-Forwarded-For", f"203.0.113.{number}")  # what the client made up
                proxy.http.headers.add("X-Forwarded-For", "192.0.2.1")  # what HAProxy adds
                given += bool(await proxy.session())
    assert given == 5
