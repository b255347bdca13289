"""Settings files made of dataclasses: declared once, read, refused in one line, written as a template."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path

import pytest

from voicemeet_edge.errors import SettingsError
from voicemeet_edge.secret import Secret
from voicemeet_edge.settings_file import (
    MAX_FILE_BYTES,
    check_section,
    option,
    parse_sections,
    parse_toml,
    read_text,
    render,
    shown,
)
from voicemeet_edge.validators import Refused

KEY = "k" * 43


def number(value: object) -> int:
    if not isinstance(value, int):
        raise Refused("a number")
    return value


def secret(value: object) -> Secret:
    if not isinstance(value, str | Secret):
        raise Refused("a text")
    return value if isinstance(value, Secret) else Secret(value)


@dataclass(frozen=True)
class Lamp:
    """The lamp."""

    brightness: int = option(3, number, "How bright.")
    pass_: Secret = option(Secret(""), secret, "What opens it.", secret=True)  # noqa: RUF009 - a field
    pin: int = option(1, number, "Where it is.", template=5)


SECTIONS: dict[str, type[object]] = {"lamp": Lamp}


def refusal(table: dict[str, object]) -> str:
    with pytest.raises(SettingsError) as refused:
        parse_sections(table, SECTIONS, "x.toml")
    assert "\n" not in str(refused.value)
    return str(refused.value)


def test_what_the_file_says_and_the_defaults() -> None:
    found = parse_sections(parse_toml('[lamp]\nbrightness = 7\npass = "p"', "x.toml"), SECTIONS, "x.toml")
    assert found == {"lamp": Lamp(brightness=7, pass_=Secret("p"), pin=1)}
    check_section(found["lamp"], "lamp", "x.toml")


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({"lamp": {"brightness": "high"}}, 'x.toml: lamp.brightness = "high": expected a number'),
        ({"lamp": {"brightnes": KEY}}, 'expected a known name; did you mean "brightness"?'),
        ({"lamp": 3}, "expected a section [lamp]"),
        ({"sound": {}}, "expected one of lamp"),
    ],
)
def test_a_wrong_setting_is_one_line(table: dict[str, object], said: str) -> None:
    assert said in refusal(table)


@pytest.mark.parametrize(
    "table", [{"lamp": {"pass": 5_551_212}}, {"lamp": {"brightness": KEY}}, {"lamp": {KEY: 1}}, {KEY: {}}]
)
def test_a_secret_is_dots_wherever_it_was_pasted(table: dict[str, object]) -> None:
    assert KEY not in refusal(table)
    assert "5551212" not in refusal(table)


def test_a_section_made_in_code_is_checked_too() -> None:
    with pytest.raises(SettingsError, match="a number"):
        check_section(Lamp(brightness="high"), "lamp", "code")  # type: ignore[arg-type]


def test_a_file_that_is_no_toml_says_where_and_not_what() -> None:
    with pytest.raises(SettingsError) as refused:
        parse_toml(f"a = 1\nb = {KEY}\n", "x.toml")
    assert "line 2" in str(refused.value)
    assert KEY not in str(refused.value)


@pytest.mark.parametrize(
    ("content", "said"),
    [(None, "a file that is there"), (b"\xff\xfe", "UTF-8"), (b"#" * (MAX_FILE_BYTES + 1), "at most")],
)
def test_a_file_that_cannot_be_read_is_a_wrong_setting(
    tmp_path: Path, content: bytes | None, said: str
) -> None:
    place = tmp_path / "x.toml"
    if content is not None:
        place.write_bytes(content)
    with pytest.raises(SettingsError, match=said):
        read_text(place, "x.toml", "(file)")


def test_a_mark_of_windows_is_no_hindrance(tmp_path: Path) -> None:
    (tmp_path / "x.toml").write_bytes(b"\xef\xbb\xbfa = 1")
    assert read_text(tmp_path / "x.toml", "x.toml", "(file)") == "a = 1"


def test_a_value_is_shown_short_and_never_with_a_password_in_it() -> None:
    assert shown("a\nb") == '"a\\nb"'
    assert shown("sip:user:word@host") == shown(KEY) == "••••"
    assert len(shown("x y " * 50)) == 60


def test_the_template_reads_back_as_the_defaults() -> None:
    text = render(SECTIONS, commented=True)
    assert "# How bright.\n#brightness = 3\n" in text
    assert tomllib.loads(text) == {"lamp": {"pin": 5}}
    plain = parse_sections(tomllib.loads(render(SECTIONS, commented=False)), SECTIONS, "x.toml")
    assert plain == {"lamp": Lamp(pin=5)}
