"""Whatever is sent: an answer in the contract's shape, and nothing half-done."""

from __future__ import annotations

import base64
import json

import pytest

from tests.conformance.deployments import Deployment

MATCH = json.dumps({"ticket": "t" * 22, "pool": "public", "role": "either"}).encode()


@pytest.mark.parametrize("verb", ["", "nothing", "MATCH", "match/", "..%2fsession", "\u00e9", "constructor"])
async def test_unknown_verbs(backend: Deployment, verb: str) -> None:
    answer = await backend.post(verb)
    assert answer.status == 404
    assert answer.code in ("unknown_verb", "not_found")


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH"])
async def test_verbs_are_posted(backend: Deployment, method: str) -> None:
    answer = await backend.post("match", method=method)
    assert (answer.status, answer.code) == (405, "method_not_allowed")
    assert answer.headers["Allow"] == "POST"


@pytest.mark.parametrize(
    ("verb", "body", "status", "codes"),
    [
        ("match", b"", 400, "bad_request"),
        ("match", b"[]", 400, "bad_request"),
        ("match", b"null", 400, "bad_request"),
        ("match", b"{", 400, "bad_json"),
        ("match", b"\xff\xfe", 400, "bad_json"),
        ("match", b"[" * 8000, 400, "bad_json bad_request"),
        ("match", b"[" * 6000 + b"]" * 6000, 400, "bad_json bad_request"),
        ("match", b'{"a":' * 2000 + b"1" + b"}" * 2000, 400, "bad_json bad_request"),
        ("ended", b'{"seconds": ' + b"9" * 5000 + b"}", 400, "bad_json bad_request"),
        ("match", b'{"ticket": 5}', 400, "bad_request"),
        ("match", b" " * 16_385, 413, "too_large"),
        ("match", b" " * 1_000_000, 413, "too_large"),
        ("match", MATCH, 401, "bad_token"),
        ("leave", b'{"ticket": "tttttttttttttttttttttt"}', 401, "bad_token"),
        ("renew", b"{}", 401, "bad_token"),
        ("report", b'{"reason": "abuse"}', 401, "bad_token"),
        ("report", b'{"reason": "NOT A WORD"}', 400, "bad_request"),
        ("ended", b'{"seconds": 5}', 401, "bad_token"),
        ("ended", b'{"seconds": NaN}', 400, "bad_json bad_request"),
        ("ended", b'{"seconds": -1}', 400, "bad_request"),
        ("ended", b'{"seconds": true}', 400, "bad_request"),
        ("session", b'{"pass": 5}', 400, "bad_request"),
    ],
)
async def test_bad_requests(backend: Deployment, verb: str, body: bytes, status: int, codes: str) -> None:
    answer = await backend.post(verb, body)
    assert answer.status == status
    assert answer.code in codes.split()


async def test_unknown_fields_are_ignored(backend: Deployment) -> None:
    assert (await backend.post("session", b'{"from": "the future", "x": [{}]}')).status == 200


async def test_wrong_apikeys(backend: Deployment) -> None:
    for apikey in ("", "x", backend.apikey.reveal() + "x", backend.apikey.reveal()[:-1]):
        answer = await backend.post("session", apikey=apikey)
        assert (answer.status, answer.code) == (401, "bad_apikey")


async def test_forged_tokens(backend: Deployment) -> None:
    def part(value: object) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")

    party = await backend.party()
    good = party.token.reveal()
    head, body, signature = good.split(".")
    claims = json.loads(base64.urlsafe_b64decode(body + "=="))
    for bad in (
        "x", "a.b.c", good[:-2], f"{good}x", "x" * 5000,
        f"{part({'alg': 'none', 'typ': 'JWT'})}.{body}.",
        f"{part({'alg': 'none', 'typ': 'JWT'})}.{body}.{signature}",
        f"{part({'alg': 'ES256', 'typ': 'JWT'})}.{body}.{signature}",
        f"{head}.{part({**claims, 'exp': claims['exp'] + 9})}.{signature}",
        f"{head}.{part({**claims, 'pass': '0' * 16})}.{signature}",
        f"{head}.{part([])}.{signature}",
    ):  # fmt: skip
        answer = await backend.post("match", MATCH, token=bad)
        assert (answer.status, answer.code) == (401, "bad_token"), bad[:80]
    assert (await backend.post("match", MATCH, token=good)).status == 200
