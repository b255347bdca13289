"""How settings files are made of dataclasses: declare, read, check, complain, and write the template.

One rule: an unknown key is an error, and an error is one line with file, key, value (secrets as dots) and
what was expected. Device (settings.py) and hub (hub/settings.py) both use it.
"""

from __future__ import annotations

import errno
import re
import tomllib
from collections.abc import Mapping
from dataclasses import Field, field, fields
from pathlib import Path
from typing import Any, TypeVar

from voicemeet_edge.errors import SettingsError
from voicemeet_edge.secret import Secret
from voicemeet_edge.settings_slips import likely_slip
from voicemeet_edge.validators import Check, Refused

MAX_FILE_BYTES = 65_536  # bytes; the commented template is a tenth of it
MAX_SHOWN_VALUE = 60  # characters of a wrong value in an error: enough to recognise it on one line
DOTS = "••••"
QUOTE = '"'
# A key pasted into the wrong line, or as a section's name, must not end up in the journal.
_LIKE_A_KEY = re.compile(r"(?<![\w-])[A-Za-z0-9_-]{32,200}(?![\w-])")

_FILE_CURES = {
    errno.ENOENT: "a file that is there: give its path with --config FILE",
    errno.EACCES: "a file you may read: run this as root, or as the user of its service",
    errno.EISDIR: "a file, and this is a directory",
}

T = TypeVar("T")


def option(default: T, check: Check[T], doc: str, *, secret: bool = False, template: T | None = None) -> T:
    """Declare one setting.

    Args:
        default: when the file does not say.
        check: of what the file says.
        doc: the sentence above it in the template.
        secret: whether it prints as dots.
        template: what the template sets instead of the default.
    """
    metadata = {"check": check, "doc": doc, "secret": secret, "template": template}
    return field(default=default, metadata=metadata)


def parse_toml(text: str, file: str) -> dict[str, Any]:
    """Read the text of a settings file; `file` only names it in errors."""
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        # Not TOML, a number of thousands of digits, or lists in lists in lists. The error says only
        # where, never what, since the line may hold a key; `from None` for the same reason.
        place = _place(str(error))
        raise SettingsError(file, "(syntax)", place, likely_slip(text, place)) from None


def parse_sections(
    table: Mapping[str, object], sections: Mapping[str, type[Any]], file: str
) -> dict[str, Any]:
    """Check each section that is given; one that is not is left out."""
    found: dict[str, Any] = {}
    for name, values in table.items():
        if name not in sections:
            raise SettingsError(file, f"[{shown(name).strip(QUOTE)}]", DOTS, _nearest(name, list(sections)))
        if not isinstance(values, Mapping):
            raise SettingsError(file, name, DOTS, f"a section [{name}]")
        found[name] = _parse_section(sections[name], name, values, file)
    return found


def check_section(section: object, name: str, file: str) -> None:
    """Check a section that was made in code and not read."""
    for one in fields(section):  # type: ignore[arg-type]
        _checked(one, name, getattr(section, one.name), file)


def _checked(one: Field[Any], section: str, value: object, file: str) -> object:
    try:
        return one.metadata["check"](value)
    except Refused as refused:
        written = DOTS if one.metadata["secret"] else shown(value)
        raise SettingsError(file, f"{section}.{_key(one)}", written, str(refused)) from None


def _parse_section(kind: type[Any], section: str, values: Mapping[str, object], file: str) -> object:
    known: dict[str, Field[Any]] = {_key(one): one for one in fields(kind)}
    checked: dict[str, object] = {}
    for key, value in values.items():
        if key not in known:
            # A misspelled key may hold a secret, so the value of an unknown one is never shown.
            raise SettingsError(
                file, f"{section}.{shown(key).strip(QUOTE)}", DOTS, _nearest(key, list(known))
            )
        checked[known[key].name] = _checked(known[key], section, value, file)
    return kind(**checked)


def _key(one: Field[Any]) -> str:
    """Return what a field is called in the file: `pass` is a word that Python keeps for itself."""
    return one.name.rstrip("_")


def read_text(place: Path, file: str, key: str) -> str:
    """Read a small UTF-8 file; every way this can fail is a wrong setting."""
    try:
        with place.open("rb") as stream:
            data = stream.read(MAX_FILE_BYTES + 1)
        text = data.decode("utf-8-sig")  # Windows' Notepad puts a mark in front
    except OSError as error:
        expected = _FILE_CURES.get(error.errno or 0, "a readable file")
        raise SettingsError(file, key, error.strerror or "unreadable", expected) from None
    except UnicodeDecodeError:
        raise SettingsError(file, key, "not UTF-8", "a text file in UTF-8") from None
    if len(data) > MAX_FILE_BYTES:
        raise SettingsError(file, key, "too large", f"at most {MAX_FILE_BYTES} bytes")
    return text


def shown(value: object) -> str:
    """Write a value on one short line."""
    try:
        written = repr(value) if not isinstance(value, str) else '"' + repr(value)[1:-1] + '"'
    except ValueError:  # Python refuses to write a number of thousands of digits
        return DOTS
    if "@" in written or _LIKE_A_KEY.search(written):  # user:password@host is a secret too
        return DOTS
    return written if len(written) <= MAX_SHOWN_VALUE else written[: MAX_SHOWN_VALUE - 2] + "…" + written[-1]


def _nearest(name: str, known: list[str]) -> str:
    """Say what could have been meant by an unknown name."""
    import difflib  # for slips alone, and no start has one

    close = difflib.get_close_matches(name, known, n=1)
    return f'a known name; did you mean "{close[0]}"?' if close else "one of " + ", ".join(known)


def _place(message: str) -> str:
    """Keep "line 3, column 5" of a TOML error and drop the rest."""
    return message.rpartition("(at ")[2].rstrip(")") if "(at " in message else "the text"


def render(sections: Mapping[str, type[Any]], *, commented: bool) -> str:
    """Write sections with every key; `commented` shows the defaults as comments, so that they may change."""
    lines: list[str] = []
    for name, kind in sections.items():
        lines += ["", *(f"# {line}".rstrip() for line in (kind.__doc__ or "").splitlines()), f"[{name}]"]
        for one in fields(kind):
            set_here = one.metadata["template"]
            value = one.default if set_here is None else set_here
            mark = "#" if commented and set_here is None else ""
            lines += [f"# {one.metadata['doc']}", f"{mark}{_key(one)} = {_as_toml(value)}"]
    return "\n".join(lines) + "\n"


def _as_toml(value: object) -> str:
    """Write a default as TOML; only the types the sections use."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Secret):
        return '""'
    if isinstance(value, tuple):
        return "[" + ", ".join(_as_toml(one) for one in value) + "]"
    return f'"{value}"' if isinstance(value, str) else str(value)
