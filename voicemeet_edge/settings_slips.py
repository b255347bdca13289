"""What a person probably meant: where a wrong setting stands, and which slip makes a file no TOML.

Pure; the one rule: a line is named by its number and never repeated, because it may hold a key.
"""

from __future__ import annotations

import re
from typing import Final

from voicemeet_edge.errors import SettingsError

# Names are short: a key that was pasted where a name belongs is none.
_SECTION: Final = re.compile(r"\s*\[\s*([A-Za-z0-9_.-]{1,31})\s*\]\s*(?:#.*)?$")
_PAIR: Final = re.compile(r"\s*([A-Za-z0-9_-]{1,31})\s*=(.*)$")
_CURLY: Final = "“”„‟«»‘’"  # what word processors and messengers make of quotes
_PLAIN: Final = re.compile(r"(true|false|[+-]?[0-9][0-9_.eE+-]*|[\[\"'].*)\s*(?:#.*)?$")


def with_line(error: SettingsError, text: str) -> SettingsError:
    """Return the error with the line its key stands in, if the text has it."""
    line = line_of(text, error.key)
    if error.line or not line:
        return error
    return SettingsError(error.file, error.key, error.value, error.expected, line=line)


def line_of(text: str, name: str) -> int:
    """Return the line of "section.key" or "[section]", 0 when it is not there."""
    wanted_section, _, wanted_key = name.rpartition(".")
    section = ""
    for number, line in enumerate(text.splitlines(), 1):
        if found := _SECTION.match(line):
            section = found[1]
            if name == f"[{section}]":
                return number
        elif (found := _PAIR.match(line)) and (section, found[1]) == (wanted_section, wanted_key):
            return number
    return 0


def likely_slip(text: str, place: str) -> str:
    """Say what makes a text no TOML, as what was expected instead; `place` is tomllib's word for where."""
    lines = text.splitlines()
    if slip := _twice(lines):
        return slip
    found = re.match(r"line (\d+)", place)
    number = int(found[1]) if found else len(lines)
    line = lines[number - 1] if 0 < number <= len(lines) else ""
    return f"valid TOML{_slip_in(line)}"


def _twice(lines: list[str]) -> str:
    """Say which section or setting is there twice: settings were pasted under others."""
    sections: dict[str, int] = {}
    keys: dict[tuple[str, str], int] = {}
    section = ""
    for number, line in enumerate(lines, 1):
        if found := _SECTION.match(line):
            section = found[1]
            if section in sections:
                first = sections[section]
                return (
                    f"section [{section}] once, and it is there twice (lines {first} and {number}): "
                    "were the settings pasted under others? Keep one of them"
                )
            sections[section] = number
        elif found := _PAIR.match(line):
            where = (section, found[1])
            if where in keys:
                both = f"lines {keys[where]} and {number}"
                return f"{found[1]} once in [{section}], and it is there twice ({both})"
            keys[where] = number
    return ""


def _slip_in(line: str) -> str:
    """Name the slip that a line looks like; "" when it looks like none."""
    if any(letter in line for letter in _CURLY):
        return ': straight quotes ("), and there are curly ones'
    if re.match(r"\s*[A-Za-z0-9_-]+\s*:", line):
        return ': "name = value", and there is a colon'
    if re.match(r"\s*\[[^\]]*$", line):
        return ": a ] at the end of the section's name"
    pair = _PAIR.match(line)
    if pair is None:
        return ': "name = value" or "[section]" in each line'
    value = pair[2].strip()
    if value in ("True", "False", "yes", "no", "on", "off"):
        return ": true or false"
    if not value:
        return f": a value after {pair[1]} ="
    if value.count('"') % 2:
        return ": a quote at both ends of the value"
    if not _PLAIN.match(value):
        return ': quotes (") around the value'
    return ""
