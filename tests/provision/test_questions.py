"""What the set-up of a device asks, writes and keeps."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from voicemeet_edge.backend.verbs import Role
from voicemeet_edge.errors import LocalError
from voicemeet_edge.provision.enrolment import Enrolment
from voicemeet_edge.provision.questions import (
    NoAnswerError,
    ask_for_name,
    ask_for_place,
    ask_which,
    merged,
    read_old,
    write,
)
from voicemeet_edge.secret import Secret
from voicemeet_edge.settings import Settings

PLACE = Enrolment(
    "https://hub:8443", Secret("key.of.hub"), "ab" * 32, "lobby", Role.CALLER, "Gate", Secret("0" * 26)
)


def answers(*texts: str) -> Callable[[str], str]:
    """Answer each question in turn."""
    left = list(texts)
    return lambda _question: left.pop(0)


def test_a_line_is_all_that_is_needed() -> None:
    told: list[str] = []
    assert ask_for_place(answers(PLACE.line().reveal()), told.append) == PLACE


def test_a_line_that_was_cut_is_asked_for_again() -> None:
    told: list[str] = []
    place = ask_for_place(answers("nonsense", PLACE.line().reveal()[:60], PLACE.line().reveal()), told.append)
    assert place == PLACE
    assert "begins with voicemeet-settings:1:" in "\n".join(told)
    assert "cut" in told[-1]


def test_after_three_wrong_answers_it_ends() -> None:
    with pytest.raises(NoAnswerError):
        ask_for_place(answers("a", "b", "c"), lambda _: None)


def test_without_a_line_the_parts_are_asked_for() -> None:
    place = ask_for_place(
        answers("", "https://hub:8443/", "key.of.hub", "AB:" * 31 + "AB", "", "00000-" * 5 + "0", ""),
        lambda _: None,
    )
    assert (place.url, place.pin, place.pool) == ("https://hub:8443/", "AB:" * 31 + "AB", "frontdesk")
    settings = Settings.parse(merged("", place, {}).reveal())
    assert (settings.backend.url, settings.backend.tls_pin) == ("https://hub:8443", "ab" * 32)


def test_a_part_that_cannot_be_says_which() -> None:
    told: list[str] = []
    bad = ("", "hub:8443", "k", "", "", "", "")
    good = ("https://hub:8443", "k", "", "", "", "")
    ask_for_place(answers(*bad, *good), told.append)
    assert "backend.url: expected https://host[:port]" in told[-1]


def test_the_name_can_be_kept_or_changed() -> None:
    assert ask_for_name(answers(""), PLACE).name == "Gate"
    assert ask_for_name(answers(" Door 2 "), PLACE).name == "Door 2"


def test_only_a_choice_is_asked_for() -> None:
    assert ask_which(answers(), lambda _: None, "Microphone", ["one"]) == "auto"
    assert ask_which(answers("7", "2"), lambda _: None, "Microphone", ["one", "two"]) == "two"
    assert ask_which(answers(""), lambda _: None, "Microphone", ["one", "two"]) == "auto"


def test_other_settings_stay_and_the_old_hub_goes() -> None:
    old = (
        '[backend]\nurl = "https://old:1"\napikey = "old"\ntls_pin = "' + "cd" * 32 + '"\n'
        '[panel]\ncall_line = "GPIO5"\n[audio]\nvolume = 55\n[call]\nmax_call_s = 100\n'
    )
    place = Enrolment("https://hub:8443", Secret("key"), name="Gate")
    settings = Settings.parse(merged(old, place, {"capture": "plughw:CARD=Device"}).reveal())
    assert (settings.backend.url, settings.backend.tls_pin) == ("https://hub:8443", "")
    assert settings.panel.call_line == "GPIO5"
    assert (settings.audio.volume, settings.audio.capture) == (55, "plughw:CARD=Device")
    assert (settings.call.max_call_s, settings.call.pool) == (100, "frontdesk")


def test_the_file_is_for_its_owner_only_and_a_fault_is_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "boot" / "voicemeet.toml"
    assert read_old(path) == ""
    write(path, merged("", PLACE, {}))
    assert path.stat().st_mode & 0o777 == 0o600
    assert read_old(path).startswith("# VoiceMeet Edge: written by")
    with pytest.raises(LocalError, match="cannot be written"):
        write(path / "below", Secret(""))
    with pytest.raises(LocalError, match="cannot be read"):
        read_old(tmp_path)
