"""Settings reach the parts they are for."""

from __future__ import annotations

import pytest

from voicemeet_edge.build import sound_card, turn_memory
from voicemeet_edge.errors import SettingsError
from voicemeet_edge.settings import Settings
from voicemeet_edge.testing.sound import VirtualCard
from voicemeet_edge.webrtc.ice_server import IceUrl, parse_ice_url

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


@pytest.mark.parametrize("heard", ["", "speech"])
def test_a_virtual_microphone_hears_speech_that_is_no_file(heard: str) -> None:
    card = sound_card(Settings.from_dict({"audio": {"card": "virtual", "virtual_in": heard}}))
    assert isinstance(card, VirtualCard)


def test_a_virtual_microphone_of_a_file_that_is_not_there_is_a_wrong_setting() -> None:
    with pytest.raises(SettingsError, match="WAV file that is there"):
        sound_card(Settings.from_dict({"audio": {"card": "virtual", "virtual_in": "/nowhere/a.wav"}}))
