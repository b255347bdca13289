"""What a line of the Raspberry Pi's 40-pin header is called: by us, by gpiozero, by two kernels.

Raspberry Pi OS names the header's lines GPIO0 to GPIO27. The mainline kernel names many after their second
use (`GPIO_GCLK` for GPIO4), and older boards' device trees name none. Header positions are the same on all
models since the B+.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

HEADER_LINES = 28
CHIP_LABELS = frozenset({"pinctrl-bcm2835", "pinctrl-bcm2711", "pinctrl-rp1"})
"""Labels of the chips whose first 28 lines are the header: Zero to 3 and Zero 2 W, 4, 5."""

POSITIONS = {
    3: 2, 5: 3, 7: 4, 8: 14, 10: 15, 11: 17, 12: 18, 13: 27, 15: 22, 16: 23, 18: 24, 19: 10, 21: 9, 22: 25,
    23: 11, 24: 8, 26: 7, 27: 0, 28: 1, 29: 5, 31: 6, 32: 12, 33: 13, 35: 19, 36: 16, 37: 26, 38: 20, 40: 21,
}  # fmt: skip
"""Position on the header: number of the line."""
POWER = {1: "3.3 V", 17: "3.3 V", 2: "5 V", 4: "5 V"} | dict.fromkeys(
    (6, 9, 14, 20, 25, 30, 34, 39), "ground"
)

# Names the header's lines have in the mainline kernel's device trees (bcm283x, bcm2711, bcm2712).
MAINLINE = {
    "ID_SDA": 0, "ID_SDAA": 0, "ID_SCL": 1, "ID_SCLA": 1, "SDA1": 2, "SCL1": 3, "GPIO_GCLK": 4,
    "SPI_CE1_N": 7, "SPI_CE0_N": 8, "SPI_MISO": 9, "SPI_MOSI": 10, "SPI_SCLK": 11,
    "TXD1": 14, "TXD0": 14, "RXD1": 15, "RXD0": 15,
}  # fmt: skip

_NUMBER = re.compile(r"(?:GPIO|BCM)?(\d{1,3})")
_POSITION = re.compile(r"(?:PIN|BOARD|J8:)(\d{1,2})")


class NoSuchPositionError(ValueError):
    """A header position without a line; the sentence says what is there instead."""


def line_name(name: int | str) -> str:
    """Translate the ways to say a pin (17, "BCM17", "PIN11", "BOARD11", "J8:11", "GPIO17") into GPIO17.

    Any other name is returned as it is: it may be a line of another board.

    Raises:
        NoSuchPositionError: a position of the header that carries power or ground, or does not exist.
    """
    text = str(name)
    if match := _POSITION.fullmatch(text.upper()):
        position = int(match[1])
        if position in POWER:
            raise NoSuchPositionError(f"position {position} of the header is {POWER[position]}")
        if position not in POSITIONS:
            raise NoSuchPositionError(f"the header has positions 1 to 40, not {position}")
        return f"GPIO{POSITIONS[position]}"
    match = _NUMBER.fullmatch(text.upper())
    return f"GPIO{int(match[1])}" if match else text


def header_number(name: int | str) -> int | None:
    """Return the number of the header's line of that name, whoever's name it is; None when it is none."""
    wanted = line_name(name)
    if (match := _NUMBER.fullmatch(wanted)) and int(match[1]) < HEADER_LINES:
        return int(match[1])
    return MAINLINE.get(wanted.upper())


def is_header(label: str, names: Iterable[str]) -> bool:
    """Say whether a chip's first lines are the header's.

    Args:
        label: the chip's.
        names: of its first lines; one that is called GPIOn must be line n, or the chip is laid out otherwise.
    """
    if label not in CHIP_LABELS:
        return False
    matches = ((offset, _NUMBER.fullmatch(name)) for offset, name in enumerate(names) if name)
    return all(match is None or int(match[1]) == offset for offset, match in matches)
