"""Fuzz target for the verbs' bodies.

Accept list: any bytes give a parsed request or RefusedError 400 / MessageError; anything else is a
crash. By hand, for long: `python -m tests.hub.fuzz_verbs 1000000`.
"""

from __future__ import annotations

import random
import sys

from voicemeet_edge.backend.verbs import (
    DoorsReply,
    EndedRequest,
    ErrorReply,
    LeaveRequest,
    MatchRequest,
    RenewReply,
    ReportRequest,
    SessionReply,
    parse_match_reply,
    parse_ringing_reply,
)
from voicemeet_edge.errors import MessageError
from voicemeet_edge.hub.answers import parse_body
from voicemeet_edge.hub.refusal import RefusedError

PARSERS = (
    MatchRequest.parse,
    LeaveRequest.parse,
    ReportRequest.parse,
    EndedRequest.parse,
    SessionReply.parse,
    RenewReply.parse,
    ErrorReply.parse,
    parse_match_reply,
    parse_ringing_reply,
    DoorsReply.parse,
)
SEEDS = (
    b'{"ticket":"tttttttttttttttttttttt","pool":"public","role":"either"}',
    b'{"reason":"abuse"}',
    b'{"seconds":42}',
    b'{"status":"waiting","poll_after_s":3,"wait_token":"x"}',
    b'{"status":"matched","call_id":"cccccccccccccccccccccccccccccccc","slot":"a","offerer":"b",'
    b'"peer_role":"caller","token":"x","token_ttl_s":1,"ice_servers":[{"urls":["turn:x"],"username":"u",'
    b'"credential":"c"}],"ttl_s":1,"max_call_s":1}',
    b'{"ticket":"tttttttttttttttttttttt","pool":"p","role":"answerer","state":"busy","door":"'
    + b"0" * 32
    + b'"}',
    b'{"ticket":"tttttttttttttttttttttt","pool":"p","role":"caller","ring":true,'
    b'"again":["cccccccccccccccccccccc"]}',
    b'{"status":"ringing","poll_after_s":3,"wait_token":"x","calls":[],"place":1,"desks":{"busy":1,"away":0}}',
    b'{"count":1,"doors":[{"door":"00000000000000000000000000000000","label":"gate"}]}',
    b'{"error":{"code":"too_fast","message":"m","retry_after_s":1}}',
)
_PIECES = (
    b"{",
    b"}",
    b"[",
    b"]",
    b'"',
    b",",
    b":",
    b"null",
    b"true",
    b"1e999",
    b"NaN",
    b"-1",
    b"\x00",
    b"\xff",
    b"\\ud800",
)


def fuzz_one(data: bytes) -> None:
    """Feed one body to every parser."""
    try:
        body = parse_body(data)
    except RefusedError as refused:
        if refused.status != 400:
            raise
        return
    for parse in PARSERS:
        try:
            parse(body)
        except MessageError:
            pass


def mutated(rng: random.Random) -> bytes:
    """Return a seed with a few bytes cut, doubled or replaced."""
    data = bytearray(rng.choice(SEEDS))
    for _ in range(rng.randint(0, 6)):
        at = rng.randrange(len(data) + 1)
        if rng.random() < 0.5:
            data[at : at + rng.randint(0, 8)] = rng.choice(_PIECES)
        else:
            data[at : at + rng.randint(0, 4)] = rng.randbytes(rng.randint(0, 4))
    return bytes(data)


def run(inputs: int, seed: int) -> None:
    """Feed that many inputs."""
    rng = random.Random(seed)
    for _ in range(inputs):
        fuzz_one(mutated(rng))


if __name__ == "__main__":
    run(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000, seed=1)
