"""Settings reach the parts they are for."""

from __future__ import annotations

from voicemeet_edge.build import turn_memory
from voicemeet_edge.settings import Settings
from voicemeet_edge.webrtc.options import IceUrl, parse_ice_url

URLS = ("turn:relay:3478?transport=udp", "turn:relay:3478?transport=tcp", "turns:relay:443?transport=tcp")


def tried(order: list[str], *, remembered: str = "") -> list[str]:
    memory = turn_memory(Settings.from_dict({"ice": {"turn_order": order}}))
    memory.remember(remembered)
    urls: list[IceUrl] = [url for url in map(parse_ice_url, URLS) if url is not None]
    return [url.transport.name.lower() for url in memory.order(urls)]


def test_the_relay_is_tried_in_the_order_of_the_settings() -> None:
    assert tried(["udp", "tcp", "tls"]) == ["udp", "tcp", "tls"]
    assert tried(["tls", "udp", "tcp"]) == ["tls", "udp", "tcp"]


def test_a_way_that_is_not_named_is_never_tried() -> None:
    assert tried(["tls"]) == ["tls"]
    assert tried(["tls"], remembered=URLS[0]) == ["tls"]


def test_what_worked_last_comes_first() -> None:
    assert tried(["tls", "udp", "tcp"], remembered=URLS[1]) == ["tcp", "tls", "udp"]
