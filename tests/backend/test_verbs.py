"""The verbs' shapes: what is written can be read, anything else is a MessageError."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voicemeet_edge.backend.ice_server import IceServer
from voicemeet_edge.backend.verbs import (
    Desks,
    DeskState,
    DoorsReply,
    DoorsRequest,
    EndedRequest,
    ErrorReply,
    LeaveRequest,
    ListedDoor,
    MatchedReply,
    MatchRequest,
    OkReply,
    RenewReply,
    ReportReply,
    ReportRequest,
    RingingReply,
    Role,
    SessionReply,
    WaitingReply,
    parse_match_reply,
    parse_ringing_reply,
)
from voicemeet_edge.errors import MessageError
from voicemeet_edge.secret import Secret

TICKET = "A" * 22
TURN = IceServer(("turn:turn.example:3478?transport=udp",), "1795374350:part", Secret("hush"))
STUN = IceServer(("stun:turn.example:3478",))
MATCHED = MatchedReply(
    call_id="c" * 32,
    slot="a",
    offerer="b",
    peer_role=Role.ANSWERER,
    token=Secret("call.jwt"),
    token_ttl_s=600.0,
    ice_servers=(STUN, TURN),
    ttl_s=3900.0,
    max_call_s=3600.0,
)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=6),
    max_leaves=12,
)
PARSERS: list[Callable[[object], object]] = [
    MatchRequest.parse,
    LeaveRequest.parse,
    ReportRequest.parse,
    EndedRequest.parse,
    SessionReply.parse,
    RenewReply.parse,
    ReportReply.parse,
    OkReply.parse,
    ErrorReply.parse,
    IceServer.parse,
    parse_match_reply,
    parse_ringing_reply,
    DoorsReply.parse,
    DoorsRequest.parse,
]


@pytest.mark.parametrize(
    ("value", "parse"),
    [
        (MatchRequest(TICKET, "frontdesk", Role.CALLER), MatchRequest.parse),
        (LeaveRequest(TICKET), LeaveRequest.parse),
        (ReportRequest("abuse"), ReportRequest.parse),
        (EndedRequest(42), EndedRequest.parse),
        (SessionReply(Secret("device.jwt"), 86400.0), SessionReply.parse),
        (WaitingReply(3.0, Secret("wait.jwt")), parse_match_reply),
        (MATCHED, parse_match_reply),
        (WaitingReply(3.0, Secret("wait.jwt"), callers=1, doors=2), parse_match_reply),
        (RingingReply(3.0, Secret("wait.jwt")), parse_ringing_reply),
        (RingingReply(3.0, Secret("wait.jwt"), (MATCHED,), 2, Desks(1, 3)), parse_ringing_reply),
        (DoorsRequest("frontdesk"), DoorsRequest.parse),
        (DoorsReply(2, (ListedDoor("0" * 32, "Gate"),)), DoorsReply.parse),
        (MatchRequest(TICKET, "p", Role.CALLER, ring=True, again=("c" * 22,)), MatchRequest.parse),
        (MatchRequest(TICKET, "p", Role.CALLER, label="Side entrance"), MatchRequest.parse),
        (MatchRequest(TICKET, "p", Role.ANSWERER, state=DeskState.AWAY), MatchRequest.parse),
        (MatchRequest(TICKET, "p", Role.ANSWERER, door="0" * 32), MatchRequest.parse),
        (RenewReply(Secret("call.jwt"), 600.0, (TURN,), 3900.0), RenewReply.parse),
        (ReportReply("ABCD-1234"), ReportReply.parse),
        (OkReply(), OkReply.parse),
        (ErrorReply("too_fast", "slow down", 2.5), ErrorReply.parse),
        (ErrorReply("bad_json", "no"), ErrorReply.parse),
    ],
    ids=lambda value: type(value).__name__,
)
def test_round_trip_through_json(value: MatchRequest, parse: Callable[[object], object]) -> None:
    assert parse(json.loads(json.dumps(value.serialize()))) == value


@pytest.mark.parametrize(
    "body",
    [
        None,
        [],
        {},
        {"ticket": "short", "pool": "public", "role": "either"},
        {"ticket": TICKET + "\n", "pool": "public", "role": "either"},
        {"ticket": "é" * 22, "pool": "public", "role": "either"},
        {"ticket": TICKET, "pool": "Public", "role": "either"},
        {"ticket": TICKET, "pool": "a" * 33, "role": "either"},
        {"ticket": TICKET, "pool": "public", "role": "boss"},
        {"ticket": TICKET, "pool": "public", "role": ["either"]},
    ],
)
def test_match_refuses_what_is_out_of_shape(body: object) -> None:
    with pytest.raises(MessageError):
        MatchRequest.parse(body)


@pytest.mark.parametrize("seconds", [-1, 86_401, True, "7", None, float("nan"), float("inf"), 10**400])
def test_ended_refuses_seconds_that_are_none(seconds: object) -> None:
    with pytest.raises(MessageError):
        EndedRequest.parse({"seconds": seconds})


@given(JSON, st.sampled_from(PARSERS))
def test_any_json_is_a_value_or_a_message_error(body: object, parse: Callable[[object], object]) -> None:
    try:
        parse(body)
    except MessageError:
        pass


@given(st.fixed_dictionaries(dict.fromkeys(MATCHED.serialize(), JSON)))
def test_any_fields_of_a_match_are_a_value_or_a_message_error(body: dict[str, object]) -> None:
    body["status"] = "matched"
    try:
        parse_match_reply(body)
    except MessageError:
        pass


def test_urls_may_be_one_text_as_browsers_allow() -> None:
    assert IceServer.parse({"urls": "stun:s.example"}) == IceServer(("stun:s.example",))


def test_secrets_do_not_show() -> None:
    assert "jwt" not in repr(MATCHED)
    assert "hush" not in repr(MATCHED)


def test_what_a_match_says_of_ringing_is_for_its_role_only() -> None:
    base = {"ticket": "t" * 22, "pool": "p"}
    wrong: list[tuple[str, dict[str, object]]] = [
        ("answerer", {"ring": True}),
        ("either", {"stand_by": True, "label": "x"}),
        ("answerer", {"again": ["c" * 22]}),
        ("caller", {"door": "0" * 32}),
        ("caller", {"state": "busy"}),
        ("answerer", {"state": "asleep"}),
        ("answerer", {"state": ["busy"]}),
        ("answerer", {"door": "0" * 31}),
        ("caller", {"stand_by": True}),
        ("caller", {"stand_by": True, "label": "x" * 513}),
        ("caller", {"ring": True, "again": ["c" * 22] * 25}),
        ("caller", {"ring": True, "again": "c" * 22}),
        ("caller", {"ring": True, "stand_by": True, "label": "x"}),
    ]
    for role, extra in wrong:
        body = {**base, "role": role, **extra}
        with pytest.raises(MessageError):
            MatchRequest.parse(body)
