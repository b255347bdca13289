"""The hub's secrets: made once, kept private, refused when others could read them."""

from __future__ import annotations

from pathlib import Path

import pytest

from voicemeet_edge.errors import SettingsError
from voicemeet_edge.hub.secrets import SECRETS_FILE, load_or_make_secrets, write_private


def test_made_at_first_start_and_kept(tmp_path: Path) -> None:
    directory = tmp_path / "state"
    first = load_or_make_secrets(directory)
    assert load_or_make_secrets(directory) == first
    assert directory.stat().st_mode & 0o777 == 0o700
    assert (directory / SECRETS_FILE).stat().st_mode & 0o777 == 0o600
    assert len({secret.reveal() for secret in (first.jwt, first.turn, first.salt)}) == 3
    assert load_or_make_secrets(tmp_path / "other") != first


def test_a_directory_that_cannot_be_made_is_a_settings_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(SettingsError) as caught:
        load_or_make_secrets(tmp_path / "file" / "state")
    assert caught.value.key == "state_dir"


def test_readable_by_others_is_refused(tmp_path: Path) -> None:
    load_or_make_secrets(tmp_path)
    (tmp_path / SECRETS_FILE).chmod(0o644)
    with pytest.raises(SettingsError, match="0600"):
        load_or_make_secrets(tmp_path)


@pytest.mark.parametrize(
    "content", [b"", b"[]", b"{}", b'{"jwt": "short", "turn": "x", "salt": "y"}', b"\xff"]
)
def test_damaged_file_is_refused_without_showing_it(tmp_path: Path, content: bytes) -> None:
    write_private(tmp_path / SECRETS_FILE, content)
    with pytest.raises(SettingsError) as caught:
        load_or_make_secrets(tmp_path)
    assert "short" not in str(caught.value)
