"""Tokens: each opens its own door and no other."""

from __future__ import annotations

import base64
import json

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from voicemeet_edge.hub.realtime.authorizer import TokenError, TokenFault
from voicemeet_edge.hub.refusal import RefusedError
from voicemeet_edge.hub.secrets import HubSecrets
from voicemeet_edge.hub.tokens import HubAuthorizer, Tokens
from voicemeet_edge.secret import Secret

KEY = "k" * 64
SECRETS = HubSecrets(Secret(KEY), Secret("t" * 64), Secret("s" * 64))
CALL = "c" * 32
TICKET = "t" * 22


def make() -> Tokens:
    return Tokens(SECRETS, call_ttl_s=600, device_ttl_s=86_400)


def authorizer(tokens: Tokens, now: float = 0.0, allow_public: bool = False) -> HubAuthorizer:
    return HubAuthorizer(tokens, allow_public=allow_public, unix=lambda: now)


def signed(claims: dict[str, object], key: str = KEY) -> str:
    return jwt.encode(claims, key, algorithm="HS256")


def test_device_token_has_a_hash_that_is_not_in_it() -> None:
    tokens = make()
    token, device = tokens.make_device(0)
    assert tokens.read_device(token.reveal(), 86_399).device == device
    assert device not in token.reveal()
    assert make().read_device(token.reveal(), 1).device == device


def test_device_token_expires_even_when_cached() -> None:
    tokens = make()
    token, device = tokens.make_device(0)
    tokens.read_device(token.reveal(), 1)
    with pytest.raises(RefusedError) as caught:
        tokens.read_device(token.reveal(), 86_400)
    assert (caught.value.status, caught.value.code) == (401, "bad_token")
    assert tokens.read_device(token.reveal(), 86_401, grace_s=10).device == device


def test_call_token_round_trip_and_grace() -> None:
    tokens = make()
    token = tokens.make_call(CALL, "b", 3600, 0).reveal()
    claims = tokens.read_call(token, 599)
    assert (claims.call_id, claims.slot, claims.until) == (CALL, "b", 3600)
    with pytest.raises(RefusedError):
        tokens.read_call(token, 600)
    assert tokens.read_call(token, 4000, grace_s=3600).slot == "b"
    with pytest.raises(RefusedError):
        tokens.read_call(token, 4200, grace_s=3600)


def test_no_token_opens_another_door() -> None:
    tokens = make()
    device = tokens.make_device(0)[0].reveal()
    call = tokens.make_call(CALL, "a", 10, 0).reveal()
    wait = tokens.make_wait(TICKET, 0).reveal()
    for token in (call, wait, tokens.apikey.reveal()):
        with pytest.raises(RefusedError):
            tokens.read_device(token, 0)
    for token in (device, wait, tokens.apikey.reveal()):
        with pytest.raises(RefusedError):
            tokens.read_call(token, 0)
    with pytest.raises(TokenError):
        authorizer(tokens).token_claims(device)
    for token in (call, wait, device):
        with pytest.raises(TokenError):
            authorizer(tokens).apikey_claims(token)


@pytest.mark.parametrize(
    "token",
    [
        "",
        "x",
        "a.b.c",
        "é.é.é",
        signed({"role": "device", "exp": 1e9, "jti": "x"}, "w" * 64),
        jwt.encode({"role": "device", "exp": 10**9, "jti": "x"}, "", algorithm="none"),
        signed({"role": "device", "jti": "x"}),
        signed({"role": "device", "exp": "soon", "jti": "x"}),
        signed({"role": "device", "exp": True, "jti": "x"}),
        signed({"role": "device", "exp": 10**9}),
        signed({"role": "device", "exp": 10**9, "jti": ["x"]}),
        "x" * 5000,
    ],
)
def test_forged_and_misshapen_tokens_are_refused(token: str) -> None:
    tokens = make()
    for read in (tokens.read_device, tokens.read_call):
        with pytest.raises(RefusedError) as caught:
            read(token, 0)
        assert caught.value.status == 401


JSON = st.none() | st.booleans() | st.integers() | st.text() | st.lists(st.integers()) | st.floats()


@given(st.dictionaries(st.sampled_from(["role", "exp", "call_id", "slot", "until", "jti", "ticket"]), JSON))
def test_any_signed_claims_are_read_or_refused(claims: dict[str, object]) -> None:
    def part(value: object) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()

    tokens = make()
    head = f"{part({'alg': 'HS256', 'typ': 'JWT'})}.{part(claims)}"
    signature = jwt.get_algorithm_by_name("HS256").sign(head.encode(), KEY.encode())
    token = f"{head}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"
    for read in (tokens.read_device, tokens.read_call):
        try:
            read(token, 0)
        except RefusedError:
            pass
    try:
        authorizer(tokens).token_claims(token)
    except TokenError:
        pass


def test_realtime_doors() -> None:
    tokens = make()
    door = authorizer(tokens)
    call = door.token_claims(tokens.make_call(CALL, "a", 10, 0).reveal())
    wait = door.token_claims(tokens.make_wait(TICKET, 0).reveal())
    key = door.apikey_claims(tokens.apikey.reveal())
    assert (call.role, call.call_id, call.slot, wait.ticket) == ("anon", CALL, "a", TICKET)
    readers = [
        (who, topic)
        for who, claims in (("call", call), ("wait", wait), ("key", key))
        for topic in (f"call:{CALL}", f"call:{'d' * 32}", f"wait:{TICKET}", "wait:", "call:", "room")
        if door.may_read(claims, topic, True)
    ]
    assert readers == [("call", f"call:{CALL}"), ("wait", f"wait:{TICKET}")]
    assert door.may_write(call, f"call:{CALL}", True)
    assert not door.may_write(wait, f"wait:{TICKET}", True)
    assert not door.may_read(call, f"call:{CALL}", False)
    assert authorizer(tokens, allow_public=True).may_read(key, "room", False)


def test_realtime_is_told_why() -> None:
    tokens = make()
    faults = {}
    for name, token, now in (
        ("expired", tokens.make_call(CALL, "a", 10, 0).reveal(), 605.0),
        ("signature", signed({"role": "anon", "exp": 10}, "w" * 64), 0.0),
        ("malformed", "nonsense", 0.0),
        ("claims", signed({"exp": 10}), 0.0),
    ):
        with pytest.raises(TokenError) as caught:
            authorizer(tokens, now).token_claims(token)
        faults[name] = caught.value.kind
        if name == "expired":
            assert caught.value.expired_s == 5.0
    assert faults == {fault.value: fault for fault in TokenFault}


def test_tokens_are_what_pyjwt_makes_and_reads() -> None:
    token = make().make_wait(TICKET, 100.0).reveal()
    claims = jwt.decode(token, KEY, algorithms=["HS256"], options={"verify_exp": False})
    assert claims == {"role": "anon", "exp": 700, "ticket": TICKET, "jti": claims["jti"]}
    assert token == signed(claims)


def test_receipts_are_stable_and_different() -> None:
    tokens = make()
    receipts = {tokens.receipt(CALL, "a"), tokens.receipt(CALL, "b"), tokens.receipt("d" * 32, "a")}
    assert len(receipts) == 3
    assert make().receipt(CALL, "a") in receipts


def test_the_apikey_is_the_same_at_each_start_and_another_elsewhere() -> None:
    assert make().apikey == make().apikey
    assert make().is_apikey(make().apikey.reveal())
    elsewhere = HubSecrets(Secret("o" * 64), Secret("t" * 64), Secret("s" * 64))
    other = Tokens(elsewhere, call_ttl_s=600, device_ttl_s=60)
    assert not make().is_apikey(other.apikey.reveal())
    assert not make().is_apikey("\ud800")
