"""Colours and lines of the lamps: what they promise about red, and what the docs say of them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from voicemeet_edge.call.signs import Lamp
from voicemeet_edge.choices import LampKind
from voicemeet_edge.panel.colours import COLOURS, line_levels
from voicemeet_edge.panel.lamp import PATTERNS

SATURATED_RED = 0.8  # R / (R + G + B); WCAG 2.2, red flash
HUES = {
    "red": (True, False, False),
    "green": (False, True, False),
    "blue": (False, False, True),
    "cyan": (False, True, True),
    "amber": (True, True, False),
    "white": (True, True, True),
    "magenta": (True, False, True),
}


def test_every_lamp_has_a_colour() -> None:
    assert set(COLOURS) == set(Lamp)
    for colour in COLOURS.values():
        assert max(colour) == 1.0  # so that a level is as bright as the pattern says
        assert min(colour) >= 0.0


def test_only_an_open_microphone_is_red() -> None:
    for lamp, colour in COLOURS.items():
        is_red = colour.red / sum(colour) >= SATURATED_RED
        assert is_red == (lamp is Lamp.MICROPHONE_OPEN), lamp


def test_one_lamp_shows_everything() -> None:
    for lamp in Lamp:
        assert line_levels(LampKind.ONE, lamp, 0.3) == (0.3,)


def test_of_two_lamps_the_red_one_is_the_microphones_alone() -> None:
    for lamp in Lamp:
        if lamp is Lamp.DOOR_OPEN:  # shown only while the microphone is open too
            assert line_levels(LampKind.TWO, lamp, 0.6) == (1.0, 0.6)
            continue
        expected = (0.6, 0.0) if lamp is Lamp.MICROPHONE_OPEN else (0.0, 0.6)
        assert line_levels(LampKind.TWO, lamp, 0.6) == expected


@pytest.mark.parametrize("kind", list(LampKind))
def test_dark_is_dark_on_every_line(kind: LampKind) -> None:
    for lamp in Lamp:
        assert set(line_levels(kind, lamp, 0.0)) == {0.0}


def test_colours_keep_the_pattern() -> None:
    for lamp, pattern in PATTERNS.items():
        for step in pattern:
            assert max(line_levels(LampKind.RGB, lamp, step.level)) == step.level


def test_the_table_in_the_docs_is_this_one() -> None:
    docs = (Path(__file__).parent.parent.parent / "docs" / "panel.md").read_text()
    said = {
        sign.strip(): HUES[hue]
        for hue, signs in re.findall(rf"^\| ({'|'.join(HUES)}) \| ([^|`]+) \|$", docs, re.MULTILINE)
        for sign in signs.split(",")
    }
    lit = {
        lamp.value.replace("_", " "): tuple(share > 0 for share in colour)
        for lamp, colour in COLOURS.items()
        if lamp is not Lamp.OFF
    }
    assert said == lit
