"""The lamp of a device that cannot start."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from voicemeet_edge.call.signs import Lamp
from voicemeet_edge.errors import EnvironmentFault
from voicemeet_edge.panel import gpiod_factory
from voicemeet_edge.panel.alone import panel_settings, show_lamp, try_door
from voicemeet_edge.panel.gpiod_factory import GpiodFactory
from voicemeet_edge.settings import PanelSettings
from voicemeet_edge.testing.gpio import FakeGpiod


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (b'[panel]\nlamp_line = "GPIO5"\n[call]\nrole = "nobody"\n', "GPIO5"),
        (b"[panel]\nlamp_line = 5\n", "GPIO22"),
        (b"[panel", "GPIO22"),
        (b"panel = 3", "GPIO22"),
        (b"\xff\xfe", "GPIO22"),
    ],
)
def test_the_panels_section_counts_when_it_can_be_read(tmp_path: Path, text: bytes, line: str) -> None:
    config = tmp_path / "voicemeet.toml"
    config.write_bytes(text)
    assert panel_settings(config).lamp_line == line


def test_without_a_file_the_lamp_is_where_it_usually_is(tmp_path: Path) -> None:
    assert panel_settings(tmp_path / "none") == PanelSettings()


async def test_the_pattern_is_shown_until_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    board = FakeGpiod()
    monkeypatch.setattr(gpiod_factory, "GpiodFactory", lambda: GpiodFactory(board))
    task = asyncio.create_task(show_lamp(PanelSettings(), Lamp.ERROR))
    async with asyncio.timeout(30):
        while not (board.line("GPIO22").used and board.line("GPIO22").level):  # noqa: ASYNC110  # nobody announces it
            await asyncio.sleep(0.01)
    assert not board.line("GPIO17").used
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert not board.line("GPIO22").used
    assert not board.line("GPIO22").level


async def test_a_terminal_has_no_lamp() -> None:
    with pytest.raises(EnvironmentFault, match="no lamp"):
        await show_lamp(PanelSettings(factory="terminal"), Lamp.ERROR)


async def test_the_door_is_tried_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    board = FakeGpiod()
    monkeypatch.setattr(gpiod_factory, "GpiodFactory", lambda: GpiodFactory(board))
    assert not await try_door(PanelSettings(relay_line="GPIO5"))  # its keeper finds no real chip here
    with pytest.raises(EnvironmentFault, match="GPIO99"):
        await try_door(PanelSettings(relay_line="GPIO99"))
    with pytest.raises(EnvironmentFault, match="no door release"):
        await try_door(PanelSettings())
