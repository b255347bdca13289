"""The GPIO panel on a fake board: from contact to event, from lamp to light, and back to nothing."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from gpiozero.pins.mock import MockFactory, MockPWMPin

from voicemeet_edge.call.signs import Lamp
from voicemeet_edge.panel.buttons import GpioPanel
from voicemeet_edge.panel.gpiod_factory import GpiodFactory
from voicemeet_edge.panel.interface import ButtonEvent, Panel
from voicemeet_edge.settings import PanelSettings
from voicemeet_edge.testing.gpio import FakeGpiod

LONG_HOLD = PanelSettings(hold_s=10.0)  # so that a stall of the machine makes no press a hold
SHORT_HOLD = PanelSettings(hold_s=0.3)


@asynccontextmanager
async def panel_on(board: FakeGpiod, settings: PanelSettings = LONG_HOLD) -> AsyncIterator[GpioPanel]:
    panel = GpioPanel(settings, GpiodFactory(board))
    try:
        yield panel
    finally:
        await panel.close()


async def next_event(events: AsyncIterator[ButtonEvent]) -> ButtonEvent:
    async with asyncio.timeout(30):
        return await anext(events)


async def settle() -> None:
    """Let the debounce time of a real contact pass."""
    await asyncio.sleep(0.05)


async def press(board: FakeGpiod, line: str) -> None:
    board.press(line)
    await settle()
    board.release(line)
    await settle()


async def test_call_and_report() -> None:
    board = FakeGpiod()
    async with panel_on(board) as panel:
        events = panel.events()
        await press(board, "GPIO17")
        assert await next_event(events) is ButtonEvent.CALL_PRESSED
        await press(board, "GPIO27")
        assert await next_event(events) is ButtonEvent.REPORT_PRESSED


async def test_a_hold_comes_while_the_button_is_down_and_alone() -> None:
    board = FakeGpiod()
    async with panel_on(board, SHORT_HOLD) as panel:
        events = panel.events()
        board.press("GPIO17")
        assert await next_event(events) is ButtonEvent.CALL_HELD
        board.release("GPIO17")
        await press(board, "GPIO27")
        assert await next_event(events) is ButtonEvent.REPORT_PRESSED


async def test_a_stalled_loop_makes_no_hold_of_a_press() -> None:
    board = FakeGpiod()
    async with panel_on(board, PanelSettings(hold_s=5.0)) as panel:
        events = panel.events()
        board.press("GPIO17")
        await settle()
        board.release("GPIO17")
        threading.Event().wait(0.2)  # the loop sees neither edge nor deadline meanwhile
        assert await next_event(events) is ButtonEvent.CALL_PRESSED


async def test_a_dropped_edge_does_not_leave_the_button_stuck() -> None:
    board = FakeGpiod()
    async with panel_on(board) as panel:
        events = panel.events()
        board.press("GPIO17")
        await settle()
        line = board.line("GPIO17")
        line.outside = None  # released, and the edge is lost
        assert await next_event(events) is ButtonEvent.CALL_PRESSED
        line.outside = False  # pressed, and the edge is lost
        await asyncio.sleep(1.2)
        board.release("GPIO17")  # this one arrives
        assert await next_event(events) is ButtonEvent.CALL_PRESSED


@pytest.mark.parametrize(
    ("stuck", "other", "event"),
    [
        ("GPIO17", "GPIO27", ButtonEvent.REPORT_PRESSED),
        ("GPIO27", "GPIO17", ButtonEvent.CALL_PRESSED),
    ],
)
async def test_a_button_stuck_since_before_the_start_gives_nothing(
    stuck: str, other: str, event: ButtonEvent
) -> None:
    board = FakeGpiod()
    board.press(stuck)
    async with panel_on(board) as panel:
        events = panel.events()
        await settle()
        board.release(stuck)
        await settle()
        await press(board, other)
        assert await next_event(events) is event


async def test_the_time_of_an_edge_counts_and_not_of_its_arrival() -> None:
    board = FakeGpiod()
    async with panel_on(board, PanelSettings(hold_s=2.0)) as panel:
        events = panel.events()
        line = panel._lines[0]
        now = line.device.pin_factory.ticks()
        line.on_edge(now - 3.0, 0)
        line.on_edge(now - 0.5, 1)
        assert await next_event(events) is ButtonEvent.CALL_HELD


@pytest.mark.parametrize(("pull", "rest"), [("down", None), ("none", True)])
async def test_other_wirings(pull: str, rest: bool | None) -> None:
    board = FakeGpiod()
    board.line("GPIO17").outside = board.line("GPIO27").outside = rest
    settings = PanelSettings(hold_s=10.0, pull="down" if pull == "down" else "none")
    async with panel_on(board, settings) as panel:
        events = panel.events()
        board.put("GPIO17", pull == "down")
        await settle()
        board.put("GPIO17", rest)
        assert await next_event(events) is ButtonEvent.CALL_PRESSED


async def test_the_lamp_of_an_open_microphone_is_lit_at_once_and_fully() -> None:
    board = FakeGpiod()
    async with panel_on(board, PanelSettings(night_level=10)) as panel:
        panel.show(Lamp.READY)
        panel.show(Lamp.MICROPHONE_OPEN)
        assert board.line("GPIO22").history[-1] is True
        panel.show(Lamp.OFF)
        assert board.line("GPIO22").history[-1] is False


async def test_close_leaves_nothing_behind() -> None:
    board = FakeGpiod()
    threads = threading.active_count()
    panel = GpioPanel(LONG_HOLD, GpiodFactory(board))
    events = panel.events()
    panel.show(Lamp.READY)
    await settle()
    await panel.close()
    await panel.close()
    panel.show(Lamp.MICROPHONE_OPEN)
    assert [event async for event in events] == []
    assert board.line("GPIO22").history[-1] is False
    assert not any(board.line(name).used for name in ("GPIO17", "GPIO22", "GPIO27"))
    gpio_threads = [one.name for one in threading.enumerate() if one.name.startswith(("gpio-", "lamp-"))]
    assert gpio_threads == []
    assert threading.active_count() <= threads + 1  # asyncio keeps its worker


async def test_a_panel_that_cannot_be_made_gives_its_lines_back() -> None:
    board = FakeGpiod()
    board.line("GPIO27").owner = "somebody"
    with pytest.raises(Exception, match="in use by somebody"):
        GpioPanel(LONG_HOLD, GpiodFactory(board))
    gc.collect()
    assert not board.line("GPIO17").used
    assert not board.line("GPIO22").used


async def test_it_works_on_gpiozeros_own_mock() -> None:
    factory = MockFactory(pin_class=MockPWMPin)
    panel: Panel = GpioPanel(LONG_HOLD, factory)
    pin = factory.pin("GPIO17")
    lamp = factory.pin("GPIO22")
    events = panel.events()
    pin.drive_low()
    await settle()
    pin.drive_high()
    assert await next_event(events) is ButtonEvent.CALL_PRESSED
    panel.show(Lamp.MICROPHONE_OPEN)
    assert lamp.state == 1
    await panel.close()


async def test_a_line_that_cannot_be_read_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    board = FakeGpiod()
    async with panel_on(board) as panel:
        events = panel.events()
        line = panel._lines[0]
        original = line.device.pin._get_state

        def gone() -> float:
            raise OSError("gone")

        line.device.pin._get_state = gone
        line.read_again()
        line.read_again()
        assert caplog.text.count("cannot be read") == 1
        line.device.pin._get_state = original
        await press(board, "GPIO17")
        assert await next_event(events) is ButtonEvent.CALL_PRESSED
