"""Settings as TOML text: written anew, and the same text with its secrets taken out.

Settings files are flat: sections of text, numbers, switches and lists of those. Nothing else is written here.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Collection, Mapping

KEPT = "(kept)"  # stands on the card where a secret was: the device has it
HEADER = (
    '# Taken over. "(kept)" stands for a secret the device keeps to itself: leave it, or write a new one.\n'
)

Table = Mapping[str, object]


def dump(table: Table) -> str:
    """Write sections of plain values; what came first stays first."""
    lines: list[str] = []
    for name, values in table.items():
        if not isinstance(values, Mapping):
            lines.insert(0, f"{name} = {_value(values)}")
            continue
        lines += ["", f"[{name}]"]
        lines += [f"{key} = {_value(value)}" for key, value in values.items()]
    return "\n".join(lines).lstrip("\n") + "\n"


def _value(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_value(one) for one in value) + "]"
    # JSON's strings are TOML's basic strings, but for DEL.
    return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")


def without_secrets(text: str, secrets: Collection[tuple[str, str]]) -> str:
    """Return `text` with the named values as "(kept)", comments and order as they were where possible.

    `secrets` are pairs of section and key. Empty ones stay empty.
    """
    wanted = _masked(tomllib.loads(text), secrets)
    lines, section = [], ""
    for line in text.splitlines():
        if found := re.fullmatch(r"\s*\[\s*([A-Za-z0-9_-]+)\s*\]\s*(?:#.*)?", line):
            section = found[1]
        elif (found := re.match(r"\s*([A-Za-z0-9_-]+)\s*=", line)) and (section, found[1]) in secrets:
            values = wanted.get(section)
            if isinstance(values, Mapping) and found[1] in values:
                line = f"{found[1]} = {_value(values[found[1]])}"
        lines.append(line)
    edited = "\n".join(lines).removeprefix(HEADER.rstrip("\n")).lstrip("\n") + "\n"
    # A value over several lines, a key with dots, a comment that quotes the secret: then without comments.
    values_of = _secret_values(tomllib.loads(text), secrets)
    try:
        good = tomllib.loads(edited) == wanted and not any(value in edited for value in values_of)
    except ValueError:
        good = False
    return HEADER + (edited if good else dump(wanted))


def with_kept(table: Table, kept: Table, secrets: Collection[tuple[str, str]]) -> dict[str, object]:
    """Put what the device kept back where the card says "(kept)"; what it does not have becomes empty."""
    full: dict[str, object] = {}
    for section, values in table.items():
        if not isinstance(values, Mapping):
            full[section] = values
            continue
        old = kept.get(section)
        full[section] = {
            key: (old.get(key, "") if isinstance(old, Mapping) else "")
            if (section, key) in secrets and value in (KEPT, [KEPT])
            else value
            for key, value in values.items()
        }
    return full


def _masked(table: Table, secrets: Collection[tuple[str, str]]) -> dict[str, object]:
    masked: dict[str, object] = {}
    for section, values in table.items():
        if isinstance(values, Mapping):
            masked[section] = {
                key: _mask(value) if (section, key) in secrets else value for key, value in values.items()
            }
        else:
            masked[section] = values
    return masked


def _mask(value: object) -> object:
    if isinstance(value, list):
        return [KEPT] if value else []
    return KEPT if value else value


def _secret_values(table: Table, secrets: Collection[tuple[str, str]]) -> list[str]:
    found = []
    for section, key in secrets:
        values = table.get(section)
        value = values.get(key) if isinstance(values, Mapping) else None
        for one in value if isinstance(value, list) else [value]:
            if isinstance(one, str) and one and one != KEPT:
                found.append(one)
    return found
