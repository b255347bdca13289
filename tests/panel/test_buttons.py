"""The GPIO panel on a fake board: from contact to event, from lamp to light, and back to nothing."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from gpiozero.pins.mock import MockFactory, MockPWMPin

from voicemeet_edge.call.signs import Lamp
from voicemeet_edge.panel import buttons as buttons_module
from voicemeet_edge.panel import edge_reader as edge_reader_module
from voicemeet_edge.panel import reset as reset_module
from voicemeet_edge.panel.buttons import GpioPanel
from voicemeet_edge.panel.gpiod_factory import GpiodFactory
from voicemeet_edge.panel.interface import ButtonEvent, Panel, PanelEvent
from voicemeet_edge.panel.keypad import KeypadButton, PoolPressed
from voicemeet_edge.secret import Secret
from voicemeet_edge.settings import PanelSettings
from voicemeet_edge.testing.gpio import FakeGpiod
from voicemeet_edge.testing.waiting import until

LONG_HOLD = PanelSettings(hold_s=10.0)  # so that a stall of the machine makes no press a hold
SHORT_HOLD = PanelSettings(hold_s=0.3)


@asynccontextmanager
async def panel_on(board: FakeGpiod, settings: PanelSettings = LONG_HOLD) -> AsyncIterator[GpioPanel]:
    panel = GpioPanel(settings, GpiodFactory(board))
    try:
        yield panel
    finally:
        await panel.close()


async def next_event(events: AsyncIterator[PanelEvent]) -> PanelEvent:
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


async def test_a_dropped_edge_does_not_leave_the_button_stuck(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(buttons_module, "READ_AGAIN_S", 0.1)
    monkeypatch.setattr(edge_reader_module, "WAIT_LIMIT_MS", 20)
    board = FakeGpiod()
    async with panel_on(board) as panel:
        events = panel.events()
        board.press("GPIO17")
        await settle()
        line = board.line("GPIO17")
        line.outside = None  # released, and the edge is lost
        assert await next_event(events) is ButtonEvent.CALL_PRESSED
        line.outside = False  # pressed, and the edge is lost
        lost_at = time.monotonic()
        await until(lambda: (panel.alive_at() or 0.0) > lost_at)  # all lines were read again
        await settle()
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


async def test_keypad_and_housing_work_on_gpiozeros_own_mock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(buttons_module, "TAMPER_S", 0.1)
    factory = MockFactory(pin_class=MockPWMPin)
    housing = factory.pin("GPIO12")
    settings = PanelSettings(
        hold_s=10.0,
        tamper_line="GPIO12",
        keypad=(KeypadButton("GPIO5", "office", Secret("")), KeypadButton("GPIO6", "workshop", Secret(""))),
    )
    panel: Panel = GpioPanel(settings, factory)
    assert housing.pull == "up"
    housing.drive_low()  # the contact is closed while the box is shut; a mock's pull drives its pin
    events = panel.events()
    for line, pool in (("GPIO6", "workshop"), ("GPIO5", "office")):
        factory.pin(line).drive_low()
        await settle()
        factory.pin(line).drive_high()
        assert await next_event(events) == PoolPressed(pool)
    housing.drive_high()
    assert await next_event(events) is ButtonEvent.TAMPERED
    assert not await panel.open_door(1.0)  # a relay is held through libgpiod alone (panel/door.py)
    await panel.close()


async def test_it_says_when_its_lines_were_last_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(buttons_module, "READ_AGAIN_S", 0.01)
    monkeypatch.setattr(edge_reader_module, "WAIT_LIMIT_MS", 10)
    async with panel_on(FakeGpiod()) as panel:
        first = panel.alive_at()
        assert first is not None
        await until(lambda: panel.alive_at() != first)
    assert panel.alive_at() is None, "closed: nothing is owed"


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


async def test_a_stuck_button_is_told_once_and_is_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(buttons_module, "READ_AGAIN_S", 0.01)
    monkeypatch.setattr(buttons_module, "STUCK_S", 0.1)
    board = FakeGpiod()
    async with panel_on(board) as panel, asyncio.timeout(20):
        events = panel.events()
        board.press("GPIO27")
        assert await anext(events) is ButtonEvent.REPORT_PRESSED
        assert await anext(events) is ButtonEvent.STUCK
        board.press("GPIO17")
        board.release("GPIO17")
        assert await anext(events) is ButtonEvent.CALL_PRESSED
        board.release("GPIO27")
        assert await anext(events) is ButtonEvent.FREED


TOGETHER = PanelSettings(hold_s=10.0, factory_reset=True)


async def test_both_buttons_count_down_and_are_neither_call_nor_report(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(reset_module, "HOLD_S", 0.25)
    monkeypatch.setattr(reset_module, "COUNT_EVERY_S", 0.1)
    board = FakeGpiod()
    async with panel_on(board, TOGETHER) as panel:
        events = panel.events()
        board.press("GPIO17")
        board.press("GPIO27")
        assert await next_event(events) is ButtonEvent.RESET_COUNTED
        while (event := await next_event(events)) is ButtonEvent.RESET_COUNTED:
            pass
        assert event is ButtonEvent.RESET_ASKED
        board.release("GPIO17")
        await settle()
        board.release("GPIO27")
        await settle()
        await press(board, "GPIO27")
        assert await next_event(events) is ButtonEvent.REPORT_PRESSED


async def test_let_go_too_soon_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reset_module, "COUNT_EVERY_S", 0.1)
    board = FakeGpiod()
    async with panel_on(board, TOGETHER) as panel:
        events = panel.events()
        board.press("GPIO17")
        board.press("GPIO27")
        assert await next_event(events) is ButtonEvent.RESET_COUNTED
        board.release("GPIO17")
        while (event := await next_event(events)) is ButtonEvent.RESET_COUNTED:
            pass
        assert event is ButtonEvent.RESET_LEFT
        board.release("GPIO27")


async def test_unless_it_is_wanted_both_buttons_are_two_buttons() -> None:
    board = FakeGpiod()
    async with panel_on(board, SHORT_HOLD) as panel:
        events = panel.events()
        board.press("GPIO17")
        await settle()
        board.press("GPIO27")
        assert {await next_event(events), await next_event(events)} == {
            ButtonEvent.REPORT_PRESSED,
            ButtonEvent.CALL_HELD,
        }


async def test_a_stuck_button_does_not_silence_the_other() -> None:
    board = FakeGpiod()
    board.press("GPIO17")
    async with panel_on(board, TOGETHER) as panel:
        events = panel.events()
        await press(board, "GPIO27")
        assert await next_event(events) is ButtonEvent.REPORT_PRESSED


async def test_the_door_release_is_brought_to_rest_at_start() -> None:
    board = FakeGpiod()
    async with panel_on(board, PanelSettings(relay_line="PIN29", relay_low=True)) as panel:
        assert board.line("GPIO5").history == [False]
        assert not board.line("GPIO5").used  # free for its keeper
        assert not await panel.open_door(1.0)  # this board has no real chip
    assert not await panel.open_door(1.0)


async def test_without_a_relay_there_is_no_door() -> None:
    async with panel_on(FakeGpiod()) as panel:
        assert not await panel.open_door(1.0)


async def test_each_button_of_a_keypad_calls_its_pool() -> None:
    board = FakeGpiod()
    keypad = tuple(
        KeypadButton(line, pool, Secret("")) for line, pool in (("GPIO5", "up"), ("PIN31", "down"))
    )
    async with panel_on(board, PanelSettings(keypad=keypad, hold_s=10.0)) as panel:
        events = panel.events()
        await press(board, "GPIO6")  # position 31
        assert await next_event(events) == PoolPressed("down")
        await press(board, "GPIO5")
        assert await next_event(events) == PoolPressed("up")
        await press(board, "GPIO17")
        assert await next_event(events) is ButtonEvent.CALL_PRESSED


HOUSED = PanelSettings(tamper_line="GPIO5", hold_s=10.0)


async def test_a_housing_that_is_opened_is_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(buttons_module, "TAMPER_S", 0.1)
    board = FakeGpiod()
    board.put("GPIO5", False)  # the contact is closed
    async with panel_on(board, HOUSED) as panel:
        events = panel.events()
        await press(board, "GPIO17")
        assert await next_event(events) is ButtonEvent.CALL_PRESSED  # and nothing of the housing before it
        board.put("GPIO5", None)
        assert await next_event(events) is ButtonEvent.TAMPERED
        await press(board, "GPIO17")
        assert await next_event(events) is ButtonEvent.CALL_PRESSED


async def test_a_slammed_door_is_no_burglary() -> None:
    board = FakeGpiod()
    board.put("GPIO5", False)
    async with panel_on(board, HOUSED) as panel:
        events = panel.events()
        board.put("GPIO5", None)
        await settle()
        board.put("GPIO5", False)
        await settle()
        await press(board, "GPIO17")
        assert await next_event(events) is ButtonEvent.CALL_PRESSED


async def test_a_housing_opened_without_power_is_told_at_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(buttons_module, "TAMPER_S", 0.1)
    async with panel_on(FakeGpiod(), HOUSED) as panel:
        assert await next_event(panel.events()) is ButtonEvent.TAMPERED
