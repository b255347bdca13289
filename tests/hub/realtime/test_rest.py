"""REST broadcasts: batch and single, who may, what is refused, CORS, limits."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from tests.hub.realtime.wire import Wire, wire
from tests.signaling.realtime_hub import TestHub, call_token, hub, token
from voicemeet_edge.hub.limits import Rate
from voicemeet_edge.signaling.frames import Layout, PhoenixFrame, Version

BATCH = "/realtime/v1/api/broadcast"
T = "realtime:room"


class Rest:
    """A hub, a member of `room` on each protocol version, and a way to POST."""

    def __init__(self, server: TestHub, session: aiohttp.ClientSession, new: Wire, old: Wire) -> None:
        self.server, self.session, self.new, self.old = server, session, new, old

    async def post(
        self, path: str, *, key: str | None = None, bearer: str = "", **body: Any
    ) -> tuple[int, Any, dict[str, str]]:
        """Return status, JSON (or None) and headers."""
        headers = {"apikey": token() if key is None else key}
        if bearer:
            headers["authorization"] = f"Bearer {bearer}"
        headers |= body.pop("headers", {})
        async with self.session.post(self.server.base + path, headers=headers, **body) as response:
            text = await response.text()
            has_json = response.content_type == "application/json" and text
            return (
                response.status,
                await response.json() if has_json else None,
                {key.lower(): value for key, value in response.headers.items()},
            )

    async def nobody_heard(self) -> None:
        """Prove that no broadcast went out."""
        await self.new.silence()
        await self.old.silence()


@pytest.fixture
async def rest() -> AsyncIterator[Rest]:
    async with (
        hub(max_payload_bytes=1_000) as server,
        aiohttp.ClientSession() as session,
        wire(server) as new,
        wire(server, Version.V1) as old,
    ):
        await new.join(T)
        await old.join(T)
        yield Rest(server, session, new, old)


def batch(**changes: object) -> dict[str, object]:
    return {"messages": [{"topic": "room", "event": "hi", "payload": {"n": 1}, **changes}]}


async def test_a_batch_reaches_both_versions(rest: Rest) -> None:
    status, body, headers = await rest.post(BATCH, json=batch())
    assert (status, body) == (202, None)
    assert headers["access-control-allow-origin"] == "*"
    for member in (rest.new, rest.old):
        assert await member.expect("broadcast") == {"type": "broadcast", "event": "hi", "payload": {"n": 1}}


async def test_a_single_broadcast_takes_encoded_names(rest: Rest) -> None:
    await rest.new.join("realtime:call:a/b ä")
    status, _, _ = await rest.post(f"{BATCH}/call%3Aa%2Fb%20%C3%A4/events/hang%20up", json={"n": 2})
    assert status == 202
    assert (await rest.new.expect("broadcast"))["event"] == "hang up"
    await rest.nobody_heard()


async def test_bytes_reach_the_new_version_only(rest: Rest) -> None:
    headers = {"content-type": "application/octet-stream"}
    status, _, _ = await rest.post(f"{BATCH}/room/events/raw", data=b"\x00\xff", headers=headers)
    assert status == 202
    assert await rest.new.frame() == PhoenixFrame(None, None, T, "raw", b"\x00\xff", Layout.BROADCAST)
    await rest.old.silence()


async def test_what_is_denied_is_dropped_in_a_batch_and_403_alone(rest: Rest) -> None:
    await rest.new.join("realtime:call:c1", call_token("c1", "a"), private=True)
    foreign = batch(topic="call:c1", private=True)
    assert (await rest.post(BATCH, json=foreign))[0] == 202
    single = f"{BATCH}/call:c1/events/bye?private=true"
    assert (await rest.post(single, json={}))[:2] == (403, {"message": "Forbidden"})
    await rest.nobody_heard()
    assert (await rest.post(single, json={}, bearer=call_token("c1", "b")))[0] == 202
    assert (await rest.new.expect("broadcast"))["event"] == "bye"


async def test_the_bearer_wins_over_the_apikey(rest: Rest) -> None:
    good, bad = token(), token(life_s=-5)
    unauthorized = (401, {"message": "Unauthorized"})
    assert (await rest.post(BATCH, json=batch(), key=good, bearer=bad))[:2] == unauthorized
    assert (await rest.post(BATCH, json=batch(), key=bad, bearer=good))[0] == 202
    assert (await rest.post(BATCH, json=batch(), key=good, bearer="sb_secret"))[0] == 202
    assert (await rest.post(BATCH, json=batch(), key=""))[:2] == unauthorized
    assert (await rest.post(BATCH, json=batch(), key="junk"))[:2] == unauthorized


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"messages": []},
        {"messages": ["x"]},
        {"messages": [{}] * 101},
        batch(topic=""),
        batch(topic=7),
        batch(topic="x" * 250),
        batch(event="new\nline"),
        batch(event="\ud800"),
        batch(payload="text"),
        {"messages": [*batch()["messages"], {"topic": "room"}]},  # type: ignore[misc]  # one bad spoils all
    ],
)
async def test_a_misshapen_batch_is_422_and_nothing_is_sent(rest: Rest, body: object) -> None:
    status, answer, _ = await rest.post(BATCH, json=body)
    assert status == 422
    assert answer["errors"]
    await rest.nobody_heard()


@pytest.mark.parametrize("data", [b"", b"junk", b"[1]", b"\xff", b"[" * 900, b'{"a":NaN}'])
async def test_what_is_no_object_is_422(rest: Rest, data: bytes) -> None:
    headers = {"content-type": "application/json"}
    for path in (BATCH, f"{BATCH}/room/events/x"):
        assert (await rest.post(path, data=data, headers=headers))[0] == 422
    await rest.nobody_heard()


async def test_other_types_are_415_and_huge_bodies_413(rest: Rest) -> None:
    headers = {"content-type": "text/plain"}
    assert (await rest.post(BATCH, data=b"{}", headers=headers))[0] == 415
    assert (await rest.post(f"{BATCH}/room/events/x", data=b"{}", headers=headers))[0] == 415
    status, answer, _ = await rest.post(BATCH, json=batch(payload={"a": "x" * 2_000}))
    assert (status, answer) == (413, {"message": "Payload too large"})
    await rest.nobody_heard()


async def test_a_page_may_ask_first(rest: Rest) -> None:
    for path in (BATCH, f"{BATCH}/room/events/x"):
        async with rest.session.options(rest.server.base + path) as response:
            assert response.status == 204
            assert response.headers["access-control-allow-origin"] == "*"
            assert "authorization" in response.headers["access-control-allow-headers"]


async def test_an_address_that_asks_too_often_is_told_to_wait() -> None:
    async with (
        hub(rest=Rate(0.01, 2)) as server,
        aiohttp.ClientSession() as session,
        wire(server) as new,
        wire(server, Version.V1) as old,
    ):
        rest = Rest(server, session, new, old)
        assert [(await rest.post(BATCH, json=batch()))[0] for _ in range(2)] == [202, 202]
        status, answer, headers = await rest.post(BATCH, json=batch())
        assert (status, answer) == (429, {"message": "Too many requests"})
        assert int(headers["retry-after"]) >= 1


async def test_public_topics_can_be_switched_off() -> None:
    async with (
        hub(allow_public=False) as server,
        aiohttp.ClientSession() as session,
        wire(server) as new,
        wire(server, Version.V1) as old,
    ):
        rest = Rest(server, session, new, old)
        assert (await rest.post(BATCH, json=batch()))[0] == 202
        assert (await rest.post(f"{BATCH}/room/events/x", json={}))[0] == 403
