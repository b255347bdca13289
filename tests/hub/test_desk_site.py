"""The desk page as static files: complete, bound to one backend, and nothing else overwritten."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from voicemeet_edge.cli import main
from voicemeet_edge.errors import SettingsError
from voicemeet_edge.hub.desk_site import site_headers, write_site
from voicemeet_edge.hub.server import read_page

URL = "https://calls.example.org/berlin"


def test_every_file_of_the_page_and_its_settings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "site"
    words = ["desk-site", str(out), "--url", URL + "/", "--apikey", "sb_publishable_x", "--pool", "frontdesk"]
    assert main(words) == 0
    assert f"{out}: " in capsys.readouterr().out
    names = {path.name for path in out.iterdir()}
    assert names == (set(read_page()) - {"desk.html"}) | {"index.html", "config.json", "_headers"}
    assert json.loads((out / "config.json").read_text()) == {
        "apikey": "sb_publishable_x",
        "realtime": f"{URL}/realtime/v1",
        "verbs": f"{URL}/functions/v1/voicemeet",
        "pools": ["frontdesk"],
    }
    assert main(words) == 0, "it may be written again"


def test_the_page_may_speak_to_its_backend_only(tmp_path: Path) -> None:
    policy = site_headers(URL)["Content-Security-Policy"]
    assert "connect-src 'self' https://calls.example.org wss://calls.example.org" in policy
    assert "default-src 'self'" in policy
    assert "frame-ancestors 'none'" in policy
    write_site(tmp_path / "site", URL, "key")
    lines = (tmp_path / "site" / "_headers").read_text().splitlines()
    assert lines[0] == "/*"
    assert f"  Content-Security-Policy: {policy}" in lines


@pytest.mark.parametrize("url", ["calls.example.org", "ftp://x", "https://", "https://x?y=1", "https://x#z"])
def test_what_is_no_base_url(tmp_path: Path, url: str) -> None:
    with pytest.raises(SettingsError):
        write_site(tmp_path / "site", url, "key")
    assert not (tmp_path / "site").exists()


def test_somebody_elses_directory_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(SettingsError):
        write_site(tmp_path, URL, "key")
    with pytest.raises(SettingsError):
        write_site(tmp_path / "new", URL, "")
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]
