"""Every way to say a pin of the Raspberry Pi's header means the same line."""

from __future__ import annotations

import pytest
from gpiozero.pins.mock import MockFactory

from voicemeet_edge.panel.header import (
    MAINLINE,
    POSITIONS,
    POWER,
    NoSuchPositionError,
    header_number,
    is_header,
    line_name,
)


@pytest.mark.parametrize(
    ("name", "kernel_name"),
    [
        (17, "GPIO17"),
        ("17", "GPIO17"),
        ("BCM17", "GPIO17"),
        ("GPIO17", "GPIO17"),
        ("gpio17", "GPIO17"),
        ("GPIO07", "GPIO7"),
        ("PIN11", "GPIO17"),
        ("pin11", "GPIO17"),
        ("BOARD40", "GPIO21"),
        ("J8:3", "GPIO2"),
        ("PA3", "PA3"),
        ("PIN_12", "PIN_12"),
        ("GPIO17_IN", "GPIO17_IN"),
    ],
)
def test_names_become_the_kernels(name: int | str, kernel_name: str) -> None:
    assert line_name(name) == kernel_name


def test_the_header_is_the_one_gpiozero_knows() -> None:
    pins = MockFactory().board_info.headers["J8"].pins
    assert {place: f"GPIO{number}" for place, number in POSITIONS.items()} == {
        place: pin.name for place, pin in pins.items() if pin.name.startswith("GPIO")
    }
    said = {"3V3": "3.3 V", "5V": "5 V", "GND": "ground"}
    assert {p: said[pin.name] for p, pin in pins.items() if pin.name in said} == POWER


@pytest.mark.parametrize(
    ("place", "why"),
    [("PIN2", "5 V"), ("PIN6", "ground"), ("BOARD17", "3.3 V"), ("PIN0", "1 to 40"), ("J8:41", "1 to 40")],
)
def test_a_place_without_a_line_says_what_is_there(place: str, why: str) -> None:
    with pytest.raises(NoSuchPositionError, match=why):
        line_name(place)


@pytest.mark.parametrize(
    ("name", "number"),
    [("PIN11", 17), ("GPIO27", 27), ("GPIO28", None), ("SDA1", 2), ("gpio_gclk", 4), (0, 0), ("PA3", None)],
)
def test_the_number_on_the_header(name: int | str, number: int | None) -> None:
    assert header_number(name) == number


def test_the_mainline_names_are_of_lines_that_have_two_uses() -> None:
    assert set(MAINLINE.values()) == {0, 1, 2, 3, 4, 7, 8, 9, 10, 11, 14, 15}


@pytest.mark.parametrize(
    ("label", "names", "answer"),
    [
        ("pinctrl-rp1", ["ID_SDA", "ID_SCL", "GPIO2"], True),
        ("pinctrl-bcm2835", ["", "", ""], True),
        ("pinctrl-bcm2711", ["GPIO4", "GPIO5"], False),
        ("raspberrypi-exp-gpio", ["BT_ON", "WL_ON"], False),
    ],
)
def test_which_chip_is_the_headers(label: str, names: list[str], answer: bool) -> None:
    assert is_header(label, names) is answer
