"""The servers of a call: what is written can be read, and a server's list has its limits."""

from __future__ import annotations

import pytest

from voicemeet_edge.backend.ice_server import (
    MAX_ICE_SERVERS,
    MAX_ICE_TEXT,
    MAX_ICE_URLS,
    IceServer,
    read_ice_servers,
)
from voicemeet_edge.errors import MessageError
from voicemeet_edge.secret import Secret

TURN = IceServer(("turn:turn.example:3478?transport=udp",), "1795374350:part", Secret("hush"))
STUN = IceServer(("stun:turn.example:3478",))


def test_what_is_written_can_be_read() -> None:
    assert read_ice_servers({"ice_servers": [STUN.serialize(), TURN.serialize()]}) == (STUN, TURN)


@pytest.mark.parametrize(
    "servers",
    [
        None,
        [STUN.serialize()] * (MAX_ICE_SERVERS + 1),
        [{"urls": []}],
        [{"urls": ["stun:a.example"] * (MAX_ICE_URLS + 1)}],
        [{"urls": "s" * (MAX_ICE_TEXT + 1)}],
        [{"urls": [""]}],
        [{"urls": "turn:a.example", "username": "part"}],
    ],
)
def test_anything_else_is_refused(servers: object) -> None:
    with pytest.raises(MessageError):
        read_ice_servers({"ice_servers": servers})
