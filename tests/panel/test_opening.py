"""Which panel the settings open, and what is said when it cannot be."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Iterator

import pytest

from voicemeet_edge.call.signs import Lamp
from voicemeet_edge.errors import EnvironmentFault, SettingsError
from voicemeet_edge.panel import gpiod_factory
from voicemeet_edge.panel.buttons import GpioPanel
from voicemeet_edge.panel.gpiod_factory import GpiodFactory
from voicemeet_edge.panel.opening import make_factory, open_panel
from voicemeet_edge.panel.terminal import TerminalPanel
from voicemeet_edge.settings import PanelSettings
from voicemeet_edge.testing.gpio import FakeGpiod


@pytest.fixture
def board(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeGpiod]:
    board = FakeGpiod()
    monkeypatch.setattr(gpiod_factory, "GpiodFactory", lambda: GpiodFactory(board))
    yield board
    assert not any(board.line(name).used for name in ("GPIO17", "GPIO22", "GPIO27"))


async def test_gpiod(board: FakeGpiod) -> None:
    panel = open_panel(PanelSettings())
    assert isinstance(panel, GpioPanel)
    assert board.line("GPIO17").used
    await panel.close()


async def test_mock() -> None:
    panel = open_panel(PanelSettings(factory="mock"))
    panel.show(Lamp.READY)
    await panel.close()


async def test_none() -> None:
    panel = open_panel(PanelSettings(factory="none"))
    panel.show(Lamp.READY)
    await panel.close()
    assert [event async for event in panel.events()] == []


async def test_terminal_quits_by_sigterm_unless_told_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    master, slave = os.openpty()
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, ended.set)
    with os.fdopen(slave, closefd=False) as terminal:
        monkeypatch.setattr(sys, "stdin", terminal)
        panel = open_panel(PanelSettings(factory="terminal"))
        assert isinstance(panel, TerminalPanel)
        os.write(master, b"q")
        async with asyncio.timeout(30):
            await ended.wait()
        await panel.close()
    loop.remove_signal_handler(signal.SIGTERM)
    os.close(master)
    os.close(slave)


async def test_a_line_that_does_not_exist_may_come_later(board: FakeGpiod) -> None:
    with pytest.raises(EnvironmentFault, match="GPIO99") as raised:
        open_panel(PanelSettings(call_line="GPIO99"))
    assert raised.value.retryable


async def test_a_line_in_use_is_the_worlds_fault(board: FakeGpiod) -> None:
    line = board.line("GPIO27")
    line.owner = "somebody"
    with pytest.raises(EnvironmentFault, match="in use by somebody"):
        open_panel(PanelSettings())
    line.owner = ""


async def test_no_permission_is_the_worlds_fault(board: FakeGpiod) -> None:
    board.refuse_open = PermissionError(13, "Permission denied")
    with pytest.raises(EnvironmentFault, match="Permission denied"):
        open_panel(PanelSettings())


def test_lgpio_says_when_it_is_not_installed() -> None:
    try:
        import lgpio  # type: ignore[import-not-found, import-untyped, unused-ignore]  # noqa: F401
    except ImportError:
        pass
    else:
        pytest.skip("lgpio is installed here")
    with pytest.raises(SettingsError, match="lgpio"):
        make_factory(PanelSettings(factory="lgpio"))
