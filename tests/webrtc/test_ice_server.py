"""STUN and TURN servers: URLs as RFC 7064 and RFC 7065 write them, and the way that worked last first."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voicemeet_edge.choices import RelayProtocol
from voicemeet_edge.webrtc.ice_server import IceUrl, TurnMemory, parse_ice_url

UDP, TCP, TLS = RelayProtocol.UDP, RelayProtocol.TCP, RelayProtocol.TLS
URLS = (
    "turns:relay.example:443?transport=tcp",
    "turn:relay.example?transport=tcp",
    "turn:relay.example:3478?transport=udp",
)


def parsed(*texts: str) -> list[IceUrl]:
    urls = [parse_ice_url(text) for text in texts]
    return [url for url in urls if url is not None]


@pytest.mark.parametrize(
    ("text", "relay", "host", "port", "protocol"),
    [
        ("stun:192.0.2.1", False, "192.0.2.1", 3478, UDP),
        ("turn:relay.example", True, "relay.example", 3478, UDP),
        ("turn:relay.example:80?transport=tcp", True, "relay.example", 80, TCP),
        ("turns:relay.example", True, "relay.example", 5349, TLS),
        ("turns:[2001:db8::1]:443?transport=tcp", True, "2001:db8::1", 443, TLS),
    ],
)
def test_urls_are_read(text: str, relay: bool, host: str, port: int, protocol: RelayProtocol) -> None:
    assert parse_ice_url(text) == IceUrl(text, relay, host, port, protocol)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "http://relay.example",
        "turn:",
        "turn:relay.example:0",
        "turn:relay.example:70000",
        "turn:relay.example:53",  # many networks hijack it
        "turns:relay.example?transport=udp",  # DTLS to the server
        "stun:relay.example?transport=tcp",
        "stuns:relay.example",
        "turn:relay.example?transport=sctp",
        "turn:user@relay.example",
        "turn:relay example",
    ],
)
def test_what_we_cannot_use_is_none(text: str) -> None:
    assert parse_ice_url(text) is None


@given(st.text(max_size=60))
def test_any_text_is_a_url_or_none(text: str) -> None:
    url = parse_ice_url(text)
    assert url is None or 0 < url.port < 65536


def test_the_cheapest_way_comes_first() -> None:
    assert [url.transport for url in TurnMemory().order(parsed(*URLS))] == [UDP, TCP, TLS]


def test_a_way_that_is_not_named_is_never_tried() -> None:
    assert [url.transport for url in TurnMemory([TLS, UDP]).order(parsed(*URLS))] == [TLS, UDP]


def test_what_worked_last_comes_first_until_it_fails() -> None:
    memory = TurnMemory()
    memory.remember(URLS[0])
    assert [url.transport for url in memory.order(parsed(*URLS))] == [TLS, UDP, TCP]
    memory.forget(URLS[1])  # another one
    assert memory.order(parsed(*URLS))[0].text == URLS[0]
    memory.forget(URLS[0])
    assert memory.order(parsed(*URLS))[0].transport is UDP
