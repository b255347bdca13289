"""The lamp lines on a fake board: what each kind of panel lights, and what a lost line takes with it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from voicemeet_edge.call.signs import Lamp
from voicemeet_edge.panel.gpiod_factory import GpiodFactory
from voicemeet_edge.panel.light import PanelLight
from voicemeet_edge.settings import Lamps, PanelSettings
from voicemeet_edge.testing.gpio import FakeGpiod

LINES = ("GPIO22", "GPIO23", "GPIO24")


@contextmanager
def light_on(board: FakeGpiod, lamps: Lamps) -> Iterator[PanelLight]:
    factory = GpiodFactory(board)
    light = PanelLight(PanelSettings(lamps=lamps), factory)
    try:
        yield light
    finally:
        light.close()
        factory.close()


def lit(board: FakeGpiod) -> list[bool]:
    return [board.line(name).level for name in LINES]


@pytest.mark.parametrize(
    ("lamps", "microphone", "ringing"),
    [
        ("one", [True, False, False], [True, False, False]),
        ("two", [True, False, False], [False, True, False]),
        ("rgb", [True, False, False], [False, True, True]),
    ],
)
def test_what_each_kind_lights(lamps: Lamps, microphone: list[bool], ringing: list[bool]) -> None:
    board = FakeGpiod()
    with light_on(board, lamps) as light:
        light.write(Lamp.RINGING, 1.0)
        assert lit(board) == ringing
        light.write(Lamp.MICROPHONE_OPEN, 1.0)
        assert lit(board) == microphone
        light.write(Lamp.OFF, 0.0)
        assert lit(board) == [False, False, False]
    assert not any(board.line(name).used for name in LINES)


def test_a_kind_takes_only_its_own_lines() -> None:
    board = FakeGpiod()
    with light_on(board, "two"):
        assert [board.line(name).used for name in LINES] == [True, True, False]


def test_a_line_that_is_in_use_gives_the_others_back() -> None:
    board = FakeGpiod()
    board.line("GPIO24").owner = "somebody"
    factory = GpiodFactory(board)
    with pytest.raises(Exception, match="in use by somebody"):
        PanelLight(PanelSettings(lamps="rgb"), factory)
    assert not board.line("GPIO22").used
    assert not board.line("GPIO23").used
    factory.close()


def test_a_lost_line_does_not_keep_the_others_dark() -> None:
    board = FakeGpiod()
    with light_on(board, "rgb") as light:
        light.write(Lamp.DISTRUST, 1.0)
        board.line("GPIO22").request.release()  # type: ignore[union-attr]
        with pytest.raises(Exception, match="released"):
            light.write(Lamp.RINGING, 1.0)
        assert lit(board)[1:] == [True, True]
