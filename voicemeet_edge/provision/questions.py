"""What `voicemeet-edge setup` asks at a device, and the settings file it writes of the answers.

The one rule: nothing is written before all of it was checked, and what the file already says of sound,
buttons and lamp stays.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from voicemeet_edge.backend.verbs import Role
from voicemeet_edge.errors import LocalError, SettingsError
from voicemeet_edge.provision.enrolment import Enrolment, parse_line
from voicemeet_edge.provision.toml_text import dump
from voicemeet_edge.secret import Secret
from voicemeet_edge.settings import Settings

MAX_TRIES = 3  # of one question: whoever has no answer then needs another look at the hub's page

Answer = TypeVar("Answer")
Ask = Callable[[str], str]


class NoAnswerError(LocalError):
    """The questions ended before there was an answer."""

    code = "no_answer"


def ask_for_place(ask: Ask, tell: Callable[[str], None]) -> Enrolment:
    """Ask for the settings line, or for its parts one by one where there is none."""
    tell("Add this door on the hub's page (https://HUB:8443/operator/) and choose “Copy the line”, or run")
    tell("`voicemeet-edge enroll --name …` on the hub. Without a line press Enter: the parts are asked for.")

    def read() -> Enrolment | None:
        text = ask("Settings line: ")
        return parse_line(Secret(text)) if text.strip() else None

    found = _again(read, tell)
    return found if found is not None else _parts(ask, tell)


def _parts(ask: Ask, tell: Callable[[str], None]) -> Enrolment:
    """Ask for what a line holds, and bring it through the checks of a line."""

    def read() -> Enrolment:
        values = Enrolment(
            url=ask("Address of the hub (https://host:8443): ").strip(),
            apikey=Secret(ask("apikey: ").strip()),
            pin=ask("Pin of its certificate (Enter: it has one of an authority): ").strip(),
            pool=ask("Ring group, the pool [frontdesk]: ").strip() or "frontdesk",
            role=Role.CALLER,
            pass_=Secret(ask("Pass: ").strip()),
            keys=tuple(Secret(key) for key in ask("Intercom key (Enter: none): ").split()),
        )
        try:
            Settings.from_dict(values.table(), file="setup")
        except SettingsError as error:
            raise LocalError(f"{error.key}: expected {error.expected}") from None
        return parse_line(values.line())

    return _again(read, tell)


def ask_for_name(ask: Ask, place: Enrolment) -> Enrolment:
    """Ask what the door is called."""
    default = f" [{place.name}]" if place.name else ""
    return replace(place, name=ask(f"Name of this door{default}: ").strip() or place.name)


def ask_which(ask: Ask, tell: Callable[[str], None], what: str, names: Sequence[str]) -> str:
    """Let one of several sound devices be chosen; "auto" where there is nothing to choose."""
    if len(names) < 2:
        return "auto"
    tell(f"{what}:")
    for number, name in enumerate(names, 1):
        tell(f"  {number}  {name}")

    def read() -> str:
        text = ask(f"{what} [auto]: ").strip()
        if not text or text == "auto":
            return "auto"
        if not text.isdecimal() or not 1 <= int(text) <= len(names):
            raise LocalError(f"a number from 1 to {len(names)}, or Enter")
        return names[int(text) - 1]

    return _again(read, tell)


def merged(old: str, place: Enrolment, sound: dict[str, object]) -> Secret:
    """Return the settings file: what the old one says of other things, and the new place.

    Raises:
        SettingsError: the file would be refused.
    """
    try:
        table: dict[str, object] = dict(tomllib.loads(old))
    except (ValueError, RecursionError):
        table = {}  # it was no settings file; there is nothing in it to keep
    news = dict(place.table())
    if sound:
        news["audio"] = sound
    for section, values in news.items():
        known = table.get(section)
        # The old backend's pin or pass with a new hub's key would be neither's.
        kept = dict(known) if isinstance(known, dict) and section not in ("backend", "security") else {}
        table[section] = {**kept, **values}
    if not place.keys:
        table.pop("security", None)
    text = dump(table)
    Settings.parse(text)
    return Secret("# VoiceMeet Edge: written by `voicemeet-edge setup`. It holds the device's pass.\n" + text)


def read_old(path: Path) -> str:
    """Return what the settings file says now, "" when there is none.

    Raises:
        LocalError: it is there and cannot be read.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no text"
        raise LocalError(f"{path}: cannot be read ({why}); run it with sudo", code="unreadable") from None


def write(path: Path, text: Secret) -> None:
    """Write the file whole or not at all, readable by its owner only.

    Raises:
        LocalError: it cannot be written there.
    """
    part = path.with_name(path.name + ".new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
            file.write(text.reveal())
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        raise LocalError(f"{path}: cannot be written ({error.strerror}); run it with sudo") from None


def _again(read: Callable[[], Answer], tell: Callable[[str], None]) -> Answer:
    """Ask until the answer can be used; say what is wrong with one that cannot."""
    for _ in range(MAX_TRIES):
        try:
            return read()
        except NoAnswerError:
            raise
        except LocalError as error:
            tell(f"  {error}")
    raise NoAnswerError(f"no usable answer in {MAX_TRIES} tries: look at the hub's page, and start again")
