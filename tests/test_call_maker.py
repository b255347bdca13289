"""What a call begins with: which pool is searched, what is kept from call to call."""

from __future__ import annotations

from dataclasses import replace

import pytest

from voicemeet_edge.backend.client import Backend
from voicemeet_edge.backend.tokens import DeviceTokens
from voicemeet_edge.backend.verbs import MatchedReply, Role
from voicemeet_edge.call.keys import new_key
from voicemeet_edge.call.negotiation import Kind
from voicemeet_edge.call_maker import CallMaker, load_call_parts
from voicemeet_edge.panel.interface import ButtonEvent
from voicemeet_edge.panel.keypad import PoolPressed
from voicemeet_edge.secret import Secret
from voicemeet_edge.settings import Settings
from voicemeet_edge.signaling.socket import RealtimeSocket

URL = "http://127.0.0.1:1"  # nobody is asked
MATCHED = MatchedReply("c" * 32, "a", "a", Role.ANSWERER, Secret("t"), 600.0, (), 120.0, 3600.0)


@pytest.fixture(scope="module", autouse=True)
def call_parts() -> None:
    """A device has them before its first call."""
    load_call_parts()


def maker() -> CallMaker:
    settings = Settings.from_dict(
        {
            "backend": {"url": URL, "apikey": "k"},
            "call": {"pool": "house", "role": "caller"},
            "security": {"intercom_keys": [new_key().reveal()]},
            "panel": {"factory": "gpiod", "relay_line": "GPIO24", "keypad": ["GPIO5 office"]},
        }
    )
    backend = Backend(URL, Secret("k"))
    return CallMaker(
        settings,
        backend,
        RealtimeSocket(URL, Secret("k")),
        DeviceTokens(backend, shown_pass=Secret("")),
        lambda packet: None,
    )


async def test_a_keypads_button_is_for_its_pool_and_every_other_for_the_devices_own() -> None:
    made = maker()
    assert made.search()._target.pool == "house"
    made.choose_pool(PoolPressed("office"))
    there = made.search()
    assert (there._target.pool, there._tokens) == ("office", made._pool_tokens["office"])
    assert made.standing()._target.pool == "house", "desks call the device where it belongs"
    made.choose_pool(ButtonEvent.CALL_PRESSED)
    back = made.search()
    assert (back._target.pool, back._tokens) == ("house", made._tokens)


async def test_settings_that_change_count_from_the_next_call_on() -> None:
    made = maker()
    before = made.session(MATCHED, Kind.CALLING, lambda news: None)
    made.settings = replace(made.settings, panel=replace(made.settings.panel, relay_s=9.0))
    after = made.session(MATCHED, Kind.CALLING, lambda news: None)
    assert before._conversation._lock.open_s != 9.0
    assert after._conversation._lock.open_s == 9.0


async def test_what_was_learned_of_the_line_is_kept_and_a_certificate_is_not() -> None:
    made = maker()
    one, other = (made.session(MATCHED, Kind.CALLING, lambda news: None)._parts for _ in range(2))
    assert one.peer_options.line_memory is other.peer_options.line_memory
    assert one.peer_options.turn_memory is other.peer_options.turn_memory
    assert one.certificate.sha256 != other.certificate.sha256
