"""Against a real HTTP server, which is cut off, lies and goes on in the middle."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.web import Answers, serving
from voicemeet_edge.errors import LocalError
from voicemeet_edge.secret import Secret
from voicemeet_edge.update import server as update_server
from voicemeet_edge.update.offer import OfferError, UpdateOffer
from voicemeet_edge.update.server import ServerError, UpdateServer
from voicemeet_edge.update.version import SystemVersion

BUNDLE = bytes(range(256)) * 2_000
SHA256 = hashlib.sha256(BUNDLE).hexdigest()
OFFER = UpdateOffer("board", SystemVersion(0, 2, 0), "x.raucb", len(BUNDLE), SHA256)


class Files:
    """A folder on a web server; `cut_after` bytes of a bundle the line breaks, once."""

    def __init__(self) -> None:
        self.files = {"/updates/offer-board.json": OFFER.serialize(), "/updates/x.raucb": BUNDLE}
        self.cut_after: int | None = None
        self.first_byte_seen: threading.Event | None = None
        """When set: the second byte waits for it."""
        self.was_seen = False
        self.asked: list[tuple[str, str, str, str]] = []
        self.posted: list[object] = []
        self.url = ""


@pytest.fixture
def web() -> Iterator[Files]:
    files = Files()

    class Handler(Answers):
        def do_GET(self) -> None:  # noqa: N802 - its name there
            asked_range = self.headers.get("Range", "")
            files.asked.append(("GET", self.path, asked_range, self.headers.get("apikey", "")))
            if self.path.endswith("moved.raucb"):
                self.send_response(302)
                self.send_header("Location", "/updates/x.raucb")
                self.end_headers()
                return
            content = files.files.get(self.path)
            if content is None:
                self.send_error(404)
                return
            begin = int(asked_range.removeprefix("bytes=").partition("-")[0] or 0)
            self.send_response(206 if asked_range else 200)
            self.send_header("Content-Length", str(len(content) - begin))
            self.end_headers()
            if files.first_byte_seen is not None:
                self.wfile.write(content[:1])
                files.was_seen = files.first_byte_seen.wait(10)
                content = content[1:]
            cut, files.cut_after = files.cut_after, None
            self.wfile.write(content[begin : None if cut is None else begin + cut])

        def do_POST(self) -> None:  # noqa: N802 - its name there
            files.posted.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_error(404)

    with serving(Handler) as root:
        files.url = f"{root}/updates"
        yield files


def test_the_offer_is_read_with_the_hubs_key(web: Files) -> None:
    server = UpdateServer(web.url + "/", apikey=Secret("key"))
    assert server.offer("board") == OFFER
    assert server.offer("other") is None
    assert web.asked[0][3] == "key"


def test_a_bad_offer_and_a_bad_server_are_told_apart(web: Files) -> None:
    web.files["/updates/offer-board.json"] = b"[]"
    with pytest.raises(OfferError):
        UpdateServer(web.url).offer("board")
    with pytest.raises(ServerError, match="does not answer"):
        UpdateServer("http://127.0.0.1:1/updates").offer("board")


def test_a_bundle_is_fetched_and_goes_on_where_it_was_cut_off(web: Files, tmp_path: Path) -> None:
    web.cut_after = 300_000
    server = UpdateServer(web.url)
    with pytest.raises(ServerError, match="cut off"):
        server.fetch("x.raucb", tmp_path, size=len(BUNDLE), sha256=SHA256)
    seen: list[tuple[int, int]] = []
    path = server.fetch(
        "x.raucb", tmp_path, size=len(BUNDLE), sha256=SHA256, progress=lambda *far: seen.append(far)
    )
    assert path.read_bytes() == BUNDLE
    assert web.asked[-1][2] == "bytes=300000-"
    assert seen[-1] == (len(BUNDLE), len(BUNDLE))
    assert [one.name for one in tmp_path.iterdir()] == [path.name]


def test_another_bundle_than_offered_is_thrown_away(web: Files, tmp_path: Path) -> None:
    web.files["/updates/x.raucb"] = bytes(len(BUNDLE))
    with pytest.raises(ServerError, match="hash"):
        UpdateServer(web.url).fetch("x.raucb", tmp_path, size=len(BUNDLE), sha256=SHA256)
    assert list(tmp_path.iterdir()) == []


def test_a_longer_one_is_not_read_to_its_end(web: Files, tmp_path: Path) -> None:
    web.files["/updates/x.raucb"] = BUNDLE + bytes(1_000_000)
    path = UpdateServer(web.url).fetch("x.raucb", tmp_path, size=len(BUNDLE), sha256=SHA256)
    assert path.stat().st_size == len(BUNDLE)


def test_an_address_alone_takes_the_servers_word_for_the_size(web: Files, tmp_path: Path) -> None:
    (tmp_path / "0123456789abcdef.part").write_bytes(b"an older one")
    assert UpdateServer(web.url).fetch("x.raucb", tmp_path).read_bytes() == BUNDLE
    assert len(list(tmp_path.iterdir())) == 1


def test_who_drips_does_not_put_off_the_look_at_the_clock(web: Files, tmp_path: Path) -> None:
    seen = web.first_byte_seen = threading.Event()
    UpdateServer(web.url).fetch("x.raucb", tmp_path, progress=lambda *_: seen.set())
    assert web.was_seen


def test_a_bundle_that_takes_too_long_is_left(
    web: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(update_server, "FETCH_LIMIT_S", -1.0)
    with pytest.raises(ServerError, match="takes too long"):
        UpdateServer(web.url).fetch("x.raucb", tmp_path, size=len(BUNDLE), sha256=SHA256)


def test_a_full_disk_is_not_blamed_on_the_server(web: Files, tmp_path: Path) -> None:
    (tmp_path / f"{SHA256[:16]}.part").symlink_to("/dev/full")
    with pytest.raises(ServerError, match="cannot be kept: No space left"):
        UpdateServer(web.url).fetch("x.raucb", tmp_path, size=len(BUNDLE), sha256=SHA256)


def test_a_bundle_left_by_a_power_cut_makes_room(web: Files, tmp_path: Path) -> None:
    (tmp_path / "bundle.raucb").write_bytes(b"of an update that never ended")
    seen: list[bool] = []
    UpdateServer(web.url).fetch(
        "x.raucb", tmp_path, progress=lambda *_: seen.append((tmp_path / "bundle.raucb").exists())
    )
    assert not any(seen)


def test_redirects_are_not_followed(web: Files, tmp_path: Path) -> None:
    with pytest.raises(ServerError, match="302"):
        UpdateServer(web.url).fetch("moved.raucb", tmp_path)


def test_an_empty_or_huge_one_is_refused_before_it_is_read(web: Files, tmp_path: Path) -> None:
    web.files["/updates/x.raucb"] = b""
    with pytest.raises(ServerError, match="how long"):
        UpdateServer(web.url).fetch("x.raucb", tmp_path)


def test_an_outcome_says_version_and_how_it_went_and_nothing_else(web: Files) -> None:
    UpdateServer(web.url).report("board", "0.2.0", good=False)
    assert web.posted == [{"board": "board", "version": "0.2.0", "good": False}]


@pytest.mark.parametrize("url", ["ftp://host/x", "file:///etc/passwd", "https:///x", "x"])
def test_other_addresses_are_refused(url: str) -> None:
    with pytest.raises(LocalError):
        UpdateServer(url)
