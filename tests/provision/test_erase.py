"""A box that was opened keeps no secret but the name of its hub."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from voicemeet_edge.cli import main
from voicemeet_edge.provision.erase import erase

SETTINGS = """# a comment with the key AAAA
[backend]
apikey = "a.b.c"
pass = "PPPP"
[security]
intercom_keys = [
  "AAAA",
]
[panel]
keypad = ["GPIO5 office KKKK"]
[call]
pool = "frontdesk"
"""


def test_every_secret_goes_and_the_rest_stays(tmp_path: Path) -> None:
    settings, credential = tmp_path / "voicemeet.toml", tmp_path / "intercom_key"
    settings.write_text(SETTINGS)
    credential.write_text("AAAA")
    assert erase(settings, [credential, tmp_path / "none"]) == ["intercom_key", "voicemeet.toml"]
    assert not credential.exists()
    text = settings.read_text()
    assert not any(secret in text for secret in ("AAAA", "PPPP", "KKKK", "\0"))
    table = tomllib.loads(text)
    assert table["backend"] == {"apikey": "a.b.c", "pass": ""}
    assert table["security"] == {"intercom_keys": []}
    assert table["call"] == {"pool": "frontdesk"}


def test_it_may_be_done_twice_and_without_files(tmp_path: Path) -> None:
    settings = tmp_path / "voicemeet.toml"
    assert erase(settings, []) == []
    settings.write_text(SETTINGS)
    erase(settings, [])
    before = settings.read_text()
    erase(settings, [])
    assert settings.read_text() == before


@pytest.mark.parametrize("text", [b"[security", b"\xff\xfe intercom_keys"])
def test_of_a_file_that_cannot_be_read_nothing_is_left(tmp_path: Path, text: bytes) -> None:
    settings = tmp_path / "voicemeet.toml"
    settings.write_bytes(text)
    erase(settings, [])
    assert settings.read_bytes() == b""


def test_a_list_where_a_section_should_be_is_survived(tmp_path: Path) -> None:
    settings = tmp_path / "voicemeet.toml"
    settings.write_text("security = 3\n")
    erase(settings, [])
    assert settings.read_text() == "security = 3\n"


def test_the_secrets_of_a_box_nobody_opened_stay_unless_it_is_said_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    settings, mark = tmp_path / "voicemeet.toml", tmp_path / "tampered"
    monkeypatch.setattr("voicemeet_edge.system.tamper.MARK", mark)
    settings.write_text(SETTINGS)
    words = ["erase-secrets", "--config", str(settings), "--credential", str(tmp_path / "none")]
    assert main(words) == 1
    assert settings.read_text() == SETTINGS
    assert "was not opened" in capsys.readouterr().err
    mark.touch()  # as the device leaves it, and the unit begins
    assert main(words) == 0
    assert "PPPP" not in settings.read_text()
    mark.unlink()
    settings.unlink()
    assert main([*words, "--anyway"]) == 0
    assert "nothing to erase" in capsys.readouterr().out
