"""The Cloudflare provider against a local stand-in that answers as documented."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

import pytest
from aiohttp import web

from voicemeet_edge.errors import BackendError, MessageError
from voicemeet_edge.hub.turn.cloudflare import MAX_TTL_S, CloudflareTurn, parse_cloudflare
from voicemeet_edge.secret import Secret

USER = "ab" * 48
TURN = {
    "urls": [
        "turn:turn.cloudflare.com:3478?transport=udp",
        "turn:turn.cloudflare.com:53?transport=udp",
        "turns:turn.cloudflare.com:443?transport=tcp",
    ],
    "username": USER,
    "credential": "cd" * 48,
}
STUN = {"urls": ["stun:stun.cloudflare.com:3478", "stun:stun.cloudflare.com:53"]}
OLD_SHAPE: dict[str, object] = {"iceServers": TURN}
NEW_SHAPE: dict[str, object] = {"iceServers": [STUN, TURN]}


class StandIn:
    """What the API saw and what it shall answer."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, str, object]] = []
        self.status = 201
        self.answer: object = NEW_SHAPE

    async def handle(self, request: web.Request) -> web.Response:
        body = await request.json() if request.can_read_body else None
        self.requests.append((request.path, request.headers.get("Authorization", ""), body))
        if request.path.endswith("/revoke"):
            return web.Response(status=204)
        return web.json_response(self.answer, status=self.status)


@contextlib.asynccontextmanager
async def api() -> AsyncIterator[tuple[StandIn, CloudflareTurn]]:
    stand_in = StandIn()
    app = web.Application()
    app.router.add_post("/{path:.*}", stand_in.handle)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    provider = CloudflareTurn(f"http://127.0.0.1:{runner.addresses[0][1]}", "keyid", Secret("tok"))
    try:
        yield stand_in, provider
    finally:
        await provider.close()
        await runner.cleanup()


@pytest.mark.parametrize("shape", [NEW_SHAPE, OLD_SHAPE])
async def test_issue_and_revoke(shape: dict[str, object]) -> None:
    async with api() as (stand_in, provider):
        stand_in.answer = shape
        grant = await provider.issue("call", "a", 1000.0, 4900.5)
        await provider.revoke(grant)
    turn = grant.ice_servers[-1]
    assert turn.username == USER
    assert not any(":53" in url for server in grant.ice_servers for url in server.urls)
    assert grant.expires_at == 4900.0
    base = "/v1/turn/keys/keyid/credentials"
    assert stand_in.requests == [
        (f"{base}/generate-ice-servers", "Bearer tok", {"ttl": 3900}),
        (f"{base}/{USER}/revoke", "Bearer tok", None),
    ]


async def test_lifetime_is_capped_at_what_the_api_takes() -> None:
    async with api() as (stand_in, provider):
        await provider.issue("call", "a", 0.0, 1e7)
    assert stand_in.requests[0][2] == {"ttl": MAX_TTL_S}


@pytest.mark.parametrize(
    ("status", "answer"),
    [
        (401, {}),
        (500, {}),
        (302, {}),
        (201, None),
        (201, {}),
        (201, {"iceServers": []}),
        (201, {"iceServers": STUN}),
    ],
)
async def test_anything_else_is_turn_unavailable(status: int, answer: object) -> None:
    async with api() as (stand_in, provider):
        stand_in.status, stand_in.answer = status, answer
        with pytest.raises(BackendError) as caught:
            await provider.issue("call", "a", 0.0, 600.0)
    assert caught.value.code == "turn_unavailable"
    assert caught.value.retryable


async def test_nobody_there() -> None:
    provider = CloudflareTurn("http://127.0.0.1:9", "keyid", Secret("tok"))
    with pytest.raises(BackendError):
        await provider.issue("call", "a", 0.0, 600.0)
    await provider.close()


@pytest.mark.parametrize("body", [None, [], {}, {"iceServers": 7}, {"iceServers": [{"urls": 7}]}])
def test_misshapen_answers(body: object) -> None:
    with pytest.raises(MessageError):
        parse_cloudflare(body)
