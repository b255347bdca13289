"""Updates and notices of a real hub, as its own devices and strangers ask for them."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.hub.running import Answer, RunningHub, loopback, run
from voicemeet_edge import __version__
from voicemeet_edge.backend.verbs import Role
from voicemeet_edge.hub.pass_desk import DATABASE_FILE, make_pass
from voicemeet_edge.hub.public_files import security_txt
from voicemeet_edge.hub.settings import HttpSettings
from voicemeet_edge.hub.store import Store
from voicemeet_edge.hub.updates import BOOK, Book
from voicemeet_edge.secret import Secret
from voicemeet_edge.timeouts import timeout
from voicemeet_edge.update.offer import UpdateOffer
from voicemeet_edge.update.server import ServerError, UpdateServer
from voicemeet_edge.update.version import SystemVersion

BOARD = "voicemeet-edge-device-arm64"
BUNDLE = bytes(range(256)) * 4_000
OFFER = UpdateOffer(BOARD, SystemVersion(0, 2, 0), "x.raucb", len(BUNDLE), hashlib.sha256(BUNDLE).hexdigest())


async def ask(hub: RunningHub, path: str, body: bytes | None = None) -> Answer:
    """Ask as somebody who has the hub's key."""
    headers = {"apikey": hub.info.apikey.reveal()}
    method = "GET" if body is None else "POST"
    async with hub.http.request(method, hub.info.url + path, data=body, headers=headers) as response:
        return Answer(response.status, response.headers, await response.read())


def put_on_offer(state: Path) -> None:
    folder = state / "updates"
    (folder / "x.raucb").write_bytes(BUNDLE)
    (folder / f"offer-{BOARD}.json").write_bytes(OFFER.serialize())


async def test_a_device_finds_its_offer_and_fetches_the_bundle(hub: RunningHub, tmp_path: Path) -> None:
    server = UpdateServer(f"{hub.info.url}/updates", apikey=hub.info.apikey)
    assert await asyncio.to_thread(server.offer, BOARD) is None
    put_on_offer(tmp_path / "state")
    offer = await asyncio.to_thread(server.offer, BOARD)
    assert offer is not None
    assert (offer.version, offer.percent) == (OFFER.version, 1)
    (tmp_path / f"{OFFER.sha256[:16]}.part").write_bytes(BUNDLE[:1000])
    path = await asyncio.to_thread(
        lambda: server.fetch(offer.bundle, tmp_path, size=offer.size, sha256=offer.sha256)
    )
    assert path.read_bytes() == BUNDLE


async def test_a_stranger_gets_no_update(hub: RunningHub, tmp_path: Path) -> None:
    put_on_offer(tmp_path / "state")
    server = UpdateServer(f"{hub.info.url}/updates")
    with pytest.raises(ServerError, match="401"):
        await asyncio.to_thread(server.offer, BOARD)


async def test_a_guest_who_reads_nothing_keeps_no_update_from_a_device(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("voicemeet_edge.hub.public_files.STRANGER_LIMIT_S", 0.5)
    state = tmp_path / "state"
    async with run(loopback(state)) as hub:
        put_on_offer(state)
        large = 64 << 20  # more than sockets hold, so that the hub waits for its reader
        with (state / "updates" / "large.raucb").open("wb") as file:
            file.truncate(large)
        store = Store(state / DATABASE_FILE)
        await store.open()
        shown = await make_pass(store, "frontdesk", Role.CALLER, "box")
        await store.close()
        key = hub.info.apikey
        guest = await asyncio.open_connection("127.0.0.1", hub.info.port, limit=1024)
        request = f"GET /updates/large.raucb HTTP/1.1\r\nHost: 127.0.0.1\r\napikey: {key.reveal()}\r\n\r\n"
        guest[1].write(request.encode())
        await guest[0].readline()
        assert (await ask(hub, "/updates/x.raucb")).status == 503, "one place for all who show no pass"
        device = UpdateServer(f"{hub.info.url}/updates", apikey=key, shown_pass=shown)

        def fetch() -> bytes:
            return device.fetch("x.raucb", tmp_path, size=OFFER.size, sha256=OFFER.sha256).read_bytes()

        for _ in range(200):  # the hub reads new passes within a second
            with contextlib.suppress(ServerError):
                if await asyncio.to_thread(fetch) == BUNDLE:
                    break
            await asyncio.sleep(0.05)
        else:
            pytest.fail("the device was not served")
        async with asyncio.timeout(20):
            while (await ask(hub, "/updates/x.raucb")).status != 200:  # noqa: ASYNC110 - its own answer is the event
                await asyncio.sleep(0.1)  # and the guest is cut off in the end
        guest[1].close()


@pytest.mark.parametrize(
    "name",
    ["secrets.json", "rollout.json", "..%2fsecrets.json", "offer-..%2f.json", "offer-%00.json", "x.img"],
)
async def test_nothing_else_of_the_hub_is_served(hub: RunningHub, name: str) -> None:
    assert (await ask(hub, f"/updates/{name}")).status == 404


async def test_only_a_pass_counts_and_each_once(tmp_path: Path) -> None:
    state = tmp_path / "state"
    async with run(loopback(state)) as hub:
        put_on_offer(state)
        store = Store(state / DATABASE_FILE)
        await store.open()
        shown = [await make_pass(store, "frontdesk", Role.CALLER, f"box {number}") for number in range(2)]
        await store.close()

        async def told(pass_text: Secret | None) -> int:
            key = hub.info.apikey
            server = UpdateServer(f"{hub.info.url}/updates", apikey=key, shown_pass=pass_text)
            await asyncio.to_thread(lambda: server.report(BOARD, "0.2.0", good=False))
            offer = await asyncio.to_thread(server.offer, BOARD)
            assert offer is not None
            return offer.percent

        assert await told(None) == 1
        assert await told(Secret("vm1-not-a-pass")) == 1
        while (await told(shown[0]), len(counted(state)))[1] == 0:  # noqa: ASYNC110 - its own word is the event
            await asyncio.sleep(0.05)  # the hub reads new passes within a second
        assert await told(shown[0]) == 1
        assert await told(shown[1]) == 0, "two of two went back: it stops"


def counted(state: Path) -> list[str]:
    """Who told how the version went, as the hub keeps it."""
    return Book.parse((state / "updates" / BOOK).read_bytes()).told.get("0.2.0", [])


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'{"board": 1}', b"[" * 1000])
async def test_a_bad_outcome_is_refused(hub: RunningHub, body: bytes) -> None:
    assert (await ask(hub, "/updates/outcome", body)).status == 400


async def test_a_full_disk_is_said_and_the_device_asks_again(
    hub: RunningHub, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    put_on_offer(tmp_path / "state")
    (
        tmp_path / "state" / "updates" / f"{BOOK}.new"
    ).mkdir()  # what cannot be written; root may write all else
    answer = await ask(hub, f"/updates/offer-{BOARD}.json")
    assert (answer.status, answer.code, answer.headers["Retry-After"]) == (503, "storage", "600")
    assert "how the update goes cannot be written down (Is a directory)" in caplog.messages


async def test_an_outcome_that_does_not_come_holds_nothing_open(
    hub: RunningHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("voicemeet_edge.hub.answers.BODY_TIMEOUT_S", 0.2)
    reader, writer = await asyncio.open_connection("127.0.0.1", hub.info.port)
    head = f"POST /updates/outcome HTTP/1.1\r\nHost: 127.0.0.1:{hub.info.port}\r\n"
    writer.write(f"{head}apikey: {hub.info.apikey.reveal()}\r\nContent-Length: 100\r\n\r\n".encode())
    async with timeout(10.0):
        assert (await reader.readline()).startswith(b"HTTP/1.1 408")
    writer.close()


async def test_model_and_version_need_no_password(hub: RunningHub) -> None:
    answer = await hub.get("/version")
    assert json.loads(answer.body) == {"model": "VoiceMeet Edge hub", "version": __version__}


async def test_whom_to_tell_of_a_hole(hub: RunningHub, tmp_path: Path) -> None:
    assert (await hub.get("/.well-known/security.txt")).status == 404
    http = HttpSettings(port=0, tls="off", security_contact="mailto:security@example.org")
    async with run(replace(loopback(tmp_path / "other"), http=http)) as named:
        answer = await named.get("/.well-known/security.txt")
    assert answer.body.decode().startswith("Contact: mailto:security@example.org\nExpires: 20")


def test_the_notice_ends_within_a_year() -> None:
    text = security_txt(datetime(2026, 1, 1, 12, 0, 0, 5, tzinfo=UTC), "https://example.org")
    assert "Expires: 2026-06-30T12:00:00Z\n" in text
