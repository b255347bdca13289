"""The fakes keep to what they stand in for."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path

import gpiod
import pytest
from gpiod import EdgeEvent

from voicemeet_edge.call.signs import Lamp
from voicemeet_edge.panel import gpiod_api
from voicemeet_edge.panel.interface import ButtonEvent
from voicemeet_edge.testing.gpio import FakeChip, FakeGpiod, FakeLine, FakeRequest
from voicemeet_edge.testing.panel import FakePanel


def parameters(function: Callable[..., object]) -> list[tuple[str, bool]]:
    """Names of the parameters in order, and whether each may be left out."""
    return [
        (one.name, one.default is not inspect.Parameter.empty)
        for one in inspect.signature(function).parameters.values()
    ]


@pytest.mark.parametrize(
    ("protocol", "real", "fake"),
    [
        (gpiod_api.Chip, gpiod.Chip, FakeChip),
        (gpiod_api.LineRequest, gpiod.LineRequest, FakeRequest),
    ],
)
def test_what_the_panel_uses_is_what_gpiod_has(protocol: type, real: type, fake: type) -> None:
    names = [name for name in vars(protocol) if not name.startswith("_")]
    assert names
    for name in names:
        used = parameters(getattr(protocol, name))
        # gpiod may have more parameters behind ours, as long as they can be left out.
        offered = parameters(getattr(real, name))
        assert offered[: len(used)] == used, name
        assert all(optional for _, optional in offered[len(used) :]), name
        assert parameters(getattr(fake, name)) == used, name


def test_line_info_has_what_the_panel_reads() -> None:
    names = {one.name for one in gpiod.LineInfo.__dataclass_fields__.values()}
    assert {"name", "used", "consumer"} <= names
    assert {"name", "used", "consumer"} <= set(dir(FakeLine("x", 0)))


def test_chip_info_has_what_the_panel_reads() -> None:
    assert {"label", "num_lines"} <= set(gpiod.ChipInfo.__dataclass_fields__)


def test_line_settings_and_events_have_what_the_panel_sets_and_reads() -> None:
    assert {
        "direction",
        "edge_detection",
        "bias",
        "debounce_period",
        "event_clock",
        "output_value",
    } <= set(inspect.signature(gpiod.LineSettings).parameters)
    event = EdgeEvent(EdgeEvent.Type.RISING_EDGE.value, 5, 17, 1, 1)
    assert (event.event_type, event.timestamp_ns) == (EdgeEvent.Type.RISING_EDGE, 5)


def test_the_fake_kernel_drops_the_oldest_events() -> None:
    board = FakeGpiod()
    settings = gpiod.LineSettings(edge_detection=gpiod.line.Edge.BOTH)
    request = board.open_chip("/dev/gpiochip0").request_lines({17: settings})
    for _ in range(20):
        board.put("GPIO17", True)
        board.put("GPIO17", False)
    assert len(request.read_edge_events()) == 16
    assert not request.wait_edge_events(0)
    request.release()
    request.release()


async def test_a_fake_panel_passes_presses_and_remembers_lamps() -> None:
    panel = FakePanel()
    panel.press()
    panel.press(ButtonEvent.REPORT_PRESSED)
    panel.show(Lamp.READY)
    await panel.wait_for(Lamp.READY)
    await panel.close()
    await panel.close()
    panel.show(Lamp.ERROR)
    assert [event async for event in panel.events()] == [
        ButtonEvent.CALL_PRESSED,
        ButtonEvent.REPORT_PRESSED,
    ]
    assert (panel.shown, panel.lamp, panel.closed) == ([Lamp.READY], Lamp.OFF, True)


def test_a_chip_with_two_names_counts_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chips = [tmp_path / f"gpiochip{number}" for number in (0, 10, 11)]
    for chip in chips:
        chip.touch()
    (tmp_path / "gpiochip4").symlink_to(chips[0])
    monkeypatch.setattr(gpiod_api, "CHIPS", f"{tmp_path}/gpiochip*")
    assert gpiod_api.RealGpiod().chip_paths() == [str(chip) for chip in chips]
