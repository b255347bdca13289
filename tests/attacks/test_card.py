"""A thief of the card: what its two readable partitions hold once the device took over what lay there."""

from __future__ import annotations

from pathlib import Path

from voicemeet_edge.backend.admission import as_typed, new_pass
from voicemeet_edge.call.keys import new_key
from voicemeet_edge.provision.plan import secret_keys
from voicemeet_edge.provision.takeover import take_over

KEY, PASS, APIKEY, WIFI = (
    new_key().reveal(),
    as_typed(new_pass()),
    "apikey-of-the-hub-0123456789",
    "words of the wifi",
)
SETTINGS = f"""\
[backend]
url = "https://127.0.0.1:8443"
apikey = "{APIKEY}"
pass = "{PASS}"
[call]
pool = "frontdesk"
[security]
intercom_keys = ["{KEY}"]
"""
NETWORK = f'[wifi]\nssid = "house"\npassword = "{WIFI}"\n'
SECRETS = (KEY, PASS, APIKEY, WIFI)


def prepared(tmp_path: Path) -> tuple[Path, Path]:
    """A card as a person left it, and a device that has started with it once."""
    card, data = tmp_path / "card", tmp_path / "data"
    card.mkdir()
    data.mkdir()
    (card / "voicemeet.toml").write_text(SETTINGS)
    (card / "network.toml").write_text(NETWORK)
    take_over(card, data)
    return card, data


def files_with(folder: Path, text: str) -> set[str]:
    """Which files below a folder hold a text."""
    return {
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_file() and text.encode() in path.read_bytes()
    }


def test_no_secret_is_left_on_the_fat_partition(tmp_path: Path) -> None:
    card, _ = prepared(tmp_path)
    for secret in SECRETS:
        assert files_with(card, secret) == set()
    assert "(kept)" in (card / "voicemeet.toml").read_text()


def test_what_the_data_partition_gives_away_is_what_the_threat_model_says(tmp_path: Path) -> None:
    _, data = prepared(tmp_path)
    for secret in (KEY, PASS, APIKEY):
        assert files_with(data, secret) == {"settings/voicemeet.toml"}
    assert files_with(data, WIFI) == set(), "only the key made from it, as wpa_supplicant wants it"
    for path in data.rglob("*"):
        if path.is_file() and any(path.read_bytes().find(secret.encode()) >= 0 for secret in SECRETS):
            assert path.stat().st_mode & 0o077 == 0


def test_every_setting_that_is_a_secret_is_taken_off(tmp_path: Path) -> None:
    """A secret setting that somebody adds later is taken off without being named here."""
    assert {("backend", "apikey"), ("backend", "pass"), ("security", "intercom_keys")} <= secret_keys()
