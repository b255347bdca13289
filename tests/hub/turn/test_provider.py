"""TURN credentials as coturn and Cloudflare's users expect them."""

from __future__ import annotations

from voicemeet_edge.backend.verbs import Slot
from voicemeet_edge.hub.turn.provider import (
    HmacTurn,
    NoTurn,
    TurnAddress,
    stun_url,
    turn_password,
    turn_urls,
    turn_username,
)
from voicemeet_edge.secret import Secret

SECRET = Secret("testsecret123")


def test_check_vector_that_coturn_accepted() -> None:
    password = turn_password(SECRET, "1795374350:call_abc")
    assert password.reveal() == "kGZqnodfdk5TdHQ3/W+n8F2DLcA="


def test_user_part_is_the_calls_and_slots_own_and_stays_at_renewal() -> None:
    first = turn_username(SECRET, "call1", "a", 1000.9)
    expiry, part = first.split(":")
    assert expiry == "1000"
    assert turn_username(SECRET, "call1", "a", 2000).split(":")[1] == part
    slots: list[tuple[str, Slot]] = [("call1", "b"), ("call2", "a")]
    others = {turn_username(SECRET, call, slot, 0).split(":")[1] for call, slot in slots}
    assert part not in others
    assert "call1" not in first


def test_urls_come_in_the_order_to_be_tried() -> None:
    assert turn_urls(TurnAddress("turn.example", 3478, 443)) == (
        "turn:turn.example:3478?transport=udp",
        "turn:turn.example:3478?transport=tcp",
        "turns:turn.example:443?transport=tcp",
    )
    assert turn_urls(TurnAddress("2001:db8::1", 1))[0] == "turn:[2001:db8::1]:1?transport=udp"
    assert stun_url(TurnAddress("2001:db8::1", 1)) == "stun:[2001:db8::1]:1"


async def test_grant_holds_stun_and_turn() -> None:
    provider = HmacTurn(SECRET, TurnAddress("turn.example", 3478))
    grant = await provider.issue("call1", "a", 0.0, 1795374350.5)
    stun, turn = grant.ice_servers
    assert (stun.username, stun.credential) == (None, None)
    assert turn.username is not None
    assert turn.credential == turn_password(SECRET, turn.username)
    assert grant.expires_at == 1795374350.0
    await provider.revoke(grant)
    await provider.close()


async def test_urls_of_a_server_elsewhere_replace_ours() -> None:
    urls = ("stun:far.example", "turns:far.example:443?transport=tcp")
    grant = await HmacTurn(SECRET, TurnAddress("", 0), urls).issue("c", "a", 0.0, 1.0)
    assert [server.urls for server in grant.ice_servers] == [urls[:1], urls[1:]]


async def test_no_turn_gives_nothing() -> None:
    provider = NoTurn()
    grant = await provider.issue("c", "a", 0.0, 5.0)
    assert grant.ice_servers == ()
    await provider.revoke(grant)
    await provider.close()
