"""The hub's HTTP side, over real HTTP: clear refusals, nothing stored, nothing logged."""

from __future__ import annotations

import asyncio
import json
import logging
from pathlib import Path

import pytest
from multidict import CIMultiDict

from tests.hub.running import RunningHub, loopback, new_ticket, run
from voicemeet_edge.hub.server import _Server, client_address, read_desk
from voicemeet_edge.hub.settings import HttpSettings, HubSettings, LimitSettings
from voicemeet_edge.hub.verbs import Verbs

MATCH = json.dumps({"ticket": "t" * 22, "pool": "public", "role": "either"}).encode()
DEEP = b"[" * 8000
BIG_NUMBER = b'{"seconds": ' + b"9" * 5000 + b"}"


async def device(hub: RunningHub) -> str:
    return str(json.loads((await hub.post("session")).body)["device_token"])


async def test_health(hub: RunningHub) -> None:
    answer = await hub.get("/healthz")
    assert (answer.status, json.loads(answer.body)) == (200, {"ok": True})


@pytest.mark.parametrize("verb", ["", "nothing", "MATCH", "match/", "..%2fsession", "\u00e9"])
async def test_unknown_verbs(hub: RunningHub, verb: str) -> None:
    assert (await hub.post(verb)).status == 404


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "OPTIONS", "PATCH"])
async def test_verbs_are_posted(hub: RunningHub, method: str) -> None:
    answer = await hub.post("match", method=method)
    assert (answer.status, answer.code) == (405, "method_not_allowed")
    assert answer.headers["Allow"] == "POST"


@pytest.mark.parametrize(
    ("verb", "body", "status", "code"),
    [
        ("match", b"", 400, "bad_request"),
        ("match", b"[]", 400, "bad_request"),
        ("match", b"{", 400, "bad_json"),
        ("match", b"\xff\xfe", 400, "bad_json"),
        ("match", DEEP, 400, "bad_json"),
        ("ended", BIG_NUMBER, 400, "bad_json"),
        ("match", b'{"ticket": 5}', 400, "bad_request"),
        ("match", b" " * 16_385, 413, "too_large"),
        ("match", MATCH, 401, "bad_token"),
        ("leave", b'{"ticket": "tttttttttttttttttttttt"}', 401, "bad_token"),
        ("renew", b"{}", 401, "bad_token"),
        ("report", b'{"reason": "abuse"}', 401, "bad_token"),
        ("report", b'{"reason": "NOT A WORD"}', 400, "bad_request"),
        ("ended", b'{"seconds": 5}', 401, "bad_token"),
        ("ended", b'{"seconds": NaN}', 400, "bad_request"),
    ],
)
async def test_bad_requests(hub: RunningHub, verb: str, body: bytes, status: int, code: str) -> None:
    answer = await hub.post(verb, body)
    assert (answer.status, answer.code) == (status, code)


async def test_bad_tokens_and_keys(hub: RunningHub) -> None:
    token = await device(hub)
    for bad in ("x", "a.b.c", token[:-2] + "xx", hub.info.apikey.reveal()):
        assert (await hub.post("match", MATCH, token=bad)).code == "bad_token"
    assert (await hub.post("renew", token=token)).code == "bad_token"
    assert (await hub.post("session", token="x")).code == "bad_token"
    for bad in ("", "x", token):
        assert (await hub.post("session", apikey=bad)).code == "bad_apikey"


async def test_chunked_bodies_are_bounded_too(hub: RunningHub) -> None:
    port = hub.info.port
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(
        b"POST /functions/v1/voicemeet/session HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n"
        b"apikey: " + hub.info.apikey.reveal().encode() + b"\r\n\r\n"
    )
    writer.write(b"5000\r\n" + b"x" * 0x5000 + b"\r\n")
    assert b" 413 " in await reader.readline()
    writer.close()
    await writer.wait_closed()


async def test_answers_carry_security_headers(hub: RunningHub) -> None:
    answer = await hub.post("session")
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert "aiohttp" not in answer.headers["Server"]
    assert "aiohttp" not in (await hub.get("/nothing/here")).headers["Server"]


async def test_desk_page_is_served_with_a_policy(hub: RunningHub) -> None:
    assert (await hub.get("/desk?role=answerer")).headers["Location"] == "/desk/?role=answerer"
    config = json.loads((await hub.get("/desk/config.json")).body)
    assert config == {
        "apikey": hub.info.apikey.reveal(),
        "realtime": "/realtime/v1",
        "open_pools": ["*"],
        "verbs": "/functions/v1/voicemeet",
    }
    page = await hub.get("/desk/")
    if page.status == 200:
        assert "default-src 'self'" in page.headers["Content-Security-Policy"]
        assert page.headers["Content-Type"].startswith("text/html")
    for outside in ("/desk/..%2fserver.py", "/desk/%2e%2e/server.py", "/desk/nothing.js", "/desk/x/y"):
        assert (await hub.get(outside)).status == 404


async def test_rate_limits_say_when_to_come_back(tmp_path: Path) -> None:
    limits = LimitSettings(session_burst=2, session_per_s=0.1, device_burst=2, device_per_s=0.5)
    async with run(loopback(tmp_path, limits=limits)) as hub:
        token = await device(hub)
        await device(hub)
        answer = await hub.post("session")
        assert (answer.status, answer.code) == (429, "too_fast")
        wait = json.loads(answer.body)["error"]["retry_after_s"]
        assert 1 <= wait <= int(answer.headers["Retry-After"]) <= 11
        codes = {(await hub.post("match", MATCH, token=token)).status for _ in range(3)}
        assert codes == {200, 429}


async def test_requests_without_a_key_count_too(tmp_path: Path) -> None:
    async with run(loopback(tmp_path)) as hub:
        statuses = [(await hub.post("session", apikey="x")).status for _ in range(40)]
        assert statuses[:10] == [401] * 10
        assert statuses[-5:] == [429] * 5
        assert (await hub.post("session")).status == 200, "a wrong key draws from no good one's share"


async def test_nothing_about_anybody_is_logged(hub: RunningHub, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger="voicemeet_edge")
    caplog.set_level(logging.INFO)
    token = await device(hub)
    ticket = new_ticket()
    body = json.dumps({"ticket": ticket, "pool": "public", "role": "either"}).encode()
    await hub.post("match", body, token=token)
    await hub.post("match", b"{", token=token)
    reader, writer = await asyncio.open_connection("127.0.0.1", hub.info.port)
    writer.write(b"\x16\x03\x01 not http\r\n\r\n")
    await reader.read()
    writer.close()
    await writer.wait_closed()
    text = caplog.text
    for private in (token, ticket, hub.info.apikey.reveal(), "127.0.0.1"):
        assert private not in text


async def test_a_bug_is_a_clear_500_and_its_text_is_not_logged(
    hub: RunningHub, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_arguments: object) -> dict[str, object]:
        raise RuntimeError("with a ticket in it")

    monkeypatch.setattr(Verbs, "handle", broken)
    caplog.set_level(logging.INFO)
    answer = await hub.post("session")
    assert (answer.status, answer.code) == (500, "internal")
    assert "RuntimeError in test_server.py" in caplog.text
    assert "ticket" not in caplog.text


async def test_what_aiohttp_logs_about_a_peer_loses_its_address(
    hub: RunningHub, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_arguments: object) -> None:
        raise RuntimeError("out of order")

    monkeypatch.setattr(_Server, "_desk_answer", broken)
    assert (await hub.get("/desk/")).status == 500
    assert "an HTTP request failed in the server" in caplog.text
    assert "127.0.0.1" not in caplog.text


def test_forwarded_addresses_are_believed_from_our_proxies_only(tmp_path: Path) -> None:
    class Request:
        remote = "10.0.0.1"

        def __init__(self, *lines: str) -> None:
            self.headers = CIMultiDict([("X-Forwarded-For", line) for line in lines])

    trusting = HttpSettings(trusted_proxies=("10.0.0.1", "10.0.0.2"))

    def believed(*lines: str, http: HttpSettings = trusting) -> str:
        return client_address(HubSettings(tmp_path, http=http))(Request(*lines))  # type: ignore[arg-type]

    assert believed("6.6.6.6, 198.51.100.9, 10.0.0.2") == "198.51.100.9"
    # A proxy that adds a line of its own (HAProxy) must not let the client choose with the first.
    assert believed("6.6.6.6", "198.51.100.9") == "198.51.100.9"
    assert believed("198.51.100.9:5000") == "198.51.100.9"
    assert believed("[2001:db8::1]:5000") == "2001:db8::1"
    for nonsense in ("", "unknown", "a, b", "6.6.6.6, x", "," * 1000):
        assert believed(nonsense) == "10.0.0.1", "what no proxy of ours wrote counts for the proxy"
    assert believed("6.6.6.6", http=HttpSettings()) == "10.0.0.1"


def test_only_known_kinds_of_files_are_read(tmp_path: Path) -> None:
    (tmp_path / "desk.html").write_text("page")
    (tmp_path / "secret.key").write_text("no")
    assert read_desk(tmp_path) == {"desk.html": b"page"}
    assert read_desk(tmp_path / "missing") == {}
