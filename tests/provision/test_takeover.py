"""The card's files on a real file system, with the power cut at every step."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.provision.test_plan import KEY, RIGHT
from voicemeet_edge.provision import takeover
from voicemeet_edge.provision.takeover import STATUS, take_over


@pytest.fixture
def card(tmp_path: Path) -> Path:
    (tmp_path / "card").mkdir()
    return tmp_path / "card"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


def secrets_on(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if b"secret-of-the-hub" in path.read_bytes()]


def test_settings_move_from_the_card_to_the_device(card: Path, data: Path) -> None:
    (card / "voicemeet.toml").write_text(RIGHT)
    (card / "authorized_keys").write_text(KEY + "\n")
    take_over(card, data, slot="a")
    stored = data / "settings/voicemeet.toml"
    assert "secret-of-the-hub" in stored.read_text()
    assert stored.stat().st_mode & 0o077 == 0
    assert secrets_on(card) == []
    assert not (card / "authorized_keys").exists()
    assert "voicemeet.toml" in (card / STATUS).read_text()
    # What lies on the card now is remembered as seen: the next start has nothing to do.
    assert (data / "card/voicemeet.toml").read_bytes() == (card / "voicemeet.toml").read_bytes()


def test_a_refused_file_stays_on_the_card_with_the_reason_beside_it(card: Path, data: Path) -> None:
    (card / "voicemeet.toml").write_text(RIGHT.replace("pool", "pol"))
    take_over(card, data)
    assert "call.pol" in (card / STATUS).read_text()
    assert "pol =" in (card / "voicemeet.toml").read_text()
    assert not (data / "card/voicemeet.toml").exists()


@pytest.mark.parametrize("step", range(12))
def test_a_power_cut_at_any_step_loses_nothing(
    card: Path, data: Path, step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Writes are counted; at the given one the power goes. The next start finishes the work."""
    (card / "voicemeet.toml").write_text(RIGHT)
    (card / "authorized_keys").write_text(KEY + "\n")

    class PowerCut(BaseException):
        pass

    done = 0

    def cut(real: object) -> object:
        def write(*arguments: object) -> object:
            nonlocal done
            if done == step:
                raise PowerCut
            done += 1
            return real(*arguments)  # type: ignore[operator]

        return write

    for name in ("_write", "_overwrite", "_sync"):
        monkeypatch.setattr(takeover, name, cut(getattr(takeover, name)))
    try:
        take_over(card, data)
    except PowerCut:
        pass
    monkeypatch.undo()
    take_over(card, data)
    assert "secret-of-the-hub" in (data / "settings/voicemeet.toml").read_text()
    assert (data / "ssh/authorized_keys").read_text() == KEY + "\n"
    assert secrets_on(card) == []
