"""What is done with the card's files, case by case."""

from __future__ import annotations

import tomllib

import pytest

from voicemeet_edge.call.keys import new_key
from voicemeet_edge.errors import SettingsError
from voicemeet_edge.provision.plan import SETTINGS, make_plan, secret_keys
from voicemeet_edge.provision.toml_text import KEPT

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBfjF2GzAnYEc5FS0zHnWlZdZWj5aCvuXqmH2bLnDQvN me@desk"
PIN = "ab" * 32
RIGHT = """\
# my hub
[backend]
url = "https://hub.lan:8443"   # in the cellar
apikey = "secret-of-the-hub"
[call]
pool = "frontdesk"
"""


def test_right_settings_are_taken_and_their_secrets_leave_the_card() -> None:
    plan = make_plan({SETTINGS: RIGHT.encode()}, kept_settings=None)
    stored = tomllib.loads(plan.writes["settings/voicemeet.toml"])
    assert stored["backend"]["apikey"] == "secret-of-the-hub"
    left = plan.rewrites[SETTINGS]
    assert "secret-of-the-hub" not in left
    assert "# in the cellar" in left
    assert tomllib.loads(left)["call"]["pool"] == "frontdesk"
    assert plan.problems == []


def test_what_was_left_on_the_card_changes_nothing_and_can_be_edited() -> None:
    first = make_plan({SETTINGS: RIGHT.encode()}, kept_settings=None)
    stored, left = first.writes["settings/voicemeet.toml"], first.rewrites[SETTINGS]
    edited = left.replace("frontdesk", "backdoor")
    second = make_plan({SETTINGS: edited.encode()}, kept_settings=stored)
    table = tomllib.loads(second.writes["settings/voicemeet.toml"])
    assert table["call"]["pool"] == "backdoor"
    assert table["backend"]["apikey"] == "secret-of-the-hub"
    assert second.rewrites[SETTINGS] == edited


def test_every_secret_setting_leaves_the_card_whatever_its_form() -> None:
    key = new_key().reveal()
    text = RIGHT + f'[security]\nintercom_keys = [\n  "{key}", # {key}\n]\n'
    plan = make_plan({SETTINGS: text.encode()}, kept_settings=None)
    assert plan.problems == []
    assert key not in plan.rewrites[SETTINGS]
    assert tomllib.loads(plan.rewrites[SETTINGS])["security"]["intercom_keys"] == [KEPT]


def test_all_secrets_are_known() -> None:
    assert {("backend", "apikey"), ("backend", "pass"), ("security", "intercom_keys")} <= secret_keys()


def test_wrong_settings_are_refused_and_the_old_ones_stay() -> None:
    old = make_plan({SETTINGS: RIGHT.encode()}, kept_settings=None).writes["settings/voicemeet.toml"]
    plan = make_plan({SETTINGS: RIGHT.replace("pool =", "pol =").encode()}, kept_settings=old)
    assert "call.pol" in plan.problems[0]
    assert plan.writes == {}
    assert plan.rewrites == {}
    assert plan.taken == []


@pytest.mark.parametrize("text", ["[backend\n", '[backend]\napikey = ""\n', "\x00", '[call]\npool = "NO"\n'])
def test_wrong_settings_on_a_new_device_reach_it_so_that_its_lamp_shows_the_fault(text: str) -> None:
    plan = make_plan({SETTINGS: text.encode()}, kept_settings=None)
    assert plan.problems
    assert "settings/voicemeet.toml" in plan.writes
    assert plan.taken == []


def test_single_secrets_go_into_the_settings() -> None:
    files = {SETTINGS: RIGHT.encode(), "tls_pin.txt": f"{PIN}\n".encode()}
    plan = make_plan(files, kept_settings=None)
    assert tomllib.loads(plan.writes["settings/voicemeet.toml"])["backend"]["tls_pin"] == PIN
    assert "tls_pin.txt" in plan.removes
    later = make_plan(
        {"tls_pin.txt": ("cd" * 32).encode()}, kept_settings=plan.writes["settings/voicemeet.toml"]
    )
    assert tomllib.loads(later.writes["settings/voicemeet.toml"])["backend"]["tls_pin"] == "cd" * 32


def test_a_wrong_single_secret_is_refused_without_being_shown() -> None:
    plan = make_plan({SETTINGS: RIGHT.encode(), "tls_pin.txt": b"not-a-pin-12345"}, kept_settings=None)
    assert plan.problems
    assert "not-a-pin-12345" not in "".join(plan.problems)
    assert "tls_pin.txt" not in plan.removes


def test_an_old_imagers_script_is_removed_and_never_run() -> None:
    plan = make_plan({"firstrun.sh": b"#!/bin/sh\nrm -rf /\n"}, kept_settings=None)
    assert plan.removes == ["firstrun.sh"]
    assert plan.writes == {}


def test_the_imagers_file_brings_wifi_name_and_key() -> None:
    text = f"""
config_version = "1.1"
[system]
hostname = "Lobby"
[user]
name = "pi"
password = "$6$salt$hash"
password_encrypted = true
[ssh]
enabled = true
authorized_keys = ["{KEY}"]
[wlan]
ssid = "Cellar"
password = "{"0f" * 32}"
password_encrypted = true
country = "DE"
[locale]
timezone = "Europe/Berlin"
keymap = "de"
[runcmd]
early = ["reboot"]
"""
    plan = make_plan({"rpi-preseed.toml": text.encode()}, kept_settings=None)
    assert plan.problems == []
    assert plan.writes["etc/hostname"] == "lobby\n"
    assert plan.writes["ssh/authorized_keys"] == KEY + "\n"
    assert f"psk={'0f' * 32}" in plan.writes["network/wpa_supplicant.conf"]
    assert "country=DE" in plan.writes["network/wpa_supplicant.conf"]
    assert plan.removes == ["rpi-preseed.toml"]
    assert any("runcmd" in note for note in plan.notes)


def test_a_hubs_settings_are_checked_where_there_is_a_hub() -> None:
    def refuse(_text: str) -> None:
        raise SettingsError("hub.toml", "http.port", "-1", "a port")

    assert make_plan({"hub.toml": b"x = 1"}, kept_settings=None).writes == {}
    assert make_plan({"hub.toml": b"x = 1"}, kept_settings=None, check_hub=refuse).problems
    fine = make_plan({"hub.toml": b"x = 1"}, kept_settings=None, check_hub=lambda text: None)
    assert fine.writes["hub/hub.toml"] == "x = 1"
