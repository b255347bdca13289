"""The gate every request passes: names that are ours, and the way it may have come."""

from __future__ import annotations

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request

from voicemeet_edge.hub.gate import is_own, make_gate, own_names
from voicemeet_edge.hub.settings import HttpSettings

PROXIED = HttpSettings(tls="off", listen=("0.0.0.0",), trusted_proxies=("192.0.2.1",), names=("hub.example",))


class Transport:
    """A transport that only knows who is at its other end."""

    def __init__(self, peer: str) -> None:
        self._peer = peer

    def get_extra_info(self, name: str) -> object:
        return (self._peer, 1) if name == "peername" else None

    def get_protocol(self) -> None:
        return None


async def status(settings: HttpSettings, peer: str, host: str) -> int:
    gate = make_gate(settings, lambda number, _code, _text: web.Response(status=number))
    request = make_mocked_request("GET", "/", headers={"Host": host}, transport=Transport(peer))

    async def handler(_request: web.Request) -> web.StreamResponse:
        return web.Response()

    return (await gate(request, handler)).status


async def test_without_tls_only_the_proxies_are_answered() -> None:
    # Fails without `only_proxies`: then everybody on the network is answered in the clear.
    assert await status(PROXIED, "192.0.2.1", "anything.example") == 200
    assert await status(PROXIED, "127.0.0.1", "localhost") == 200
    assert await status(PROXIED, "192.0.2.66", "hub.example") == 403


@pytest.mark.parametrize(
    "host", ["hub.example", "HUB.example:8443", "localhost", "192.0.2.9", "[2001:db8::1]:8443"]
)
async def test_our_names_and_any_address_are_answered(host: str) -> None:
    settings = HttpSettings(names=("hub.example",))
    assert await status(settings, "192.0.2.66", host) == 200


@pytest.mark.parametrize(
    "host", ["", "evil.example", "hub.example.evil", "127.0.0.1.evil.example", "[", "a b"]
)
def test_other_names_are_not(host: str) -> None:
    assert not is_own(
        host, own_names(HttpSettings(names=("hub.example",), public_url="https://door.example:1"))
    )
