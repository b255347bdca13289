"""The lamp and the door without the device: to try a panel's wiring, and to say that the device cannot start.

One rule: it works with a settings file that does not, as long as the panel's own section can be read.
"""

from __future__ import annotations

import asyncio
import tomllib
from functools import partial
from pathlib import Path

from voicemeet_edge.call.signs import Lamp
from voicemeet_edge.errors import EnvironmentFault, SettingsError
from voicemeet_edge.panel.door import DoorRelease
from voicemeet_edge.panel.gpiod_factory import GpiodFactory
from voicemeet_edge.panel.lamp import LampDriver
from voicemeet_edge.panel.light import PanelLight
from voicemeet_edge.panel.opening import make_factory, panel_error
from voicemeet_edge.settings import PanelSettings, Settings
from voicemeet_edge.settings_file import MAX_FILE_BYTES


def panel_settings(config: Path) -> PanelSettings:
    """Read the panel's section of a file that may be wrong elsewhere; the defaults when it is, too."""
    try:
        with config.open("rb") as file:
            table = tomllib.loads(file.read(MAX_FILE_BYTES).decode("utf-8-sig"))
        return Settings.from_dict({"panel": table.get("panel", {})}).panel
    except (OSError, ValueError, RecursionError, SettingsError):
        return PanelSettings()


async def try_door(settings: PanelSettings) -> bool:
    """Open the door for as long as the settings say, and wait until it is let go; False when it cannot be.

    Raises:
        EnvironmentFault: the line cannot be had, or there is none.
    """
    if not settings.relay_line:
        raise EnvironmentFault("the panel has no door release: panel.relay_line is empty", code="no_door")
    with panel_error(settings):
        factory = make_factory(settings)
        assert isinstance(factory, GpiodFactory)  # the settings see to it
        try:
            factory.place(settings.relay_line)
            door = DoorRelease(partial(factory.place, settings.relay_line), low=settings.relay_low)
            opened = await door.open(settings.relay_s)
            try:
                await door.wait_shut()
            finally:
                await door.close()
            return opened
        finally:
            factory.close()


async def show_lamp(settings: PanelSettings, lamp: Lamp) -> None:
    """Show a pattern until cancelled.

    Raises:
        EnvironmentFault: the line is in use, or there is no GPIO.
    """
    if settings.factory in ("none", "terminal"):
        raise EnvironmentFault(f'the panel has no lamp: panel.factory = "{settings.factory}"', code="no_lamp")
    with panel_error(settings):
        factory = make_factory(settings)
        try:
            light = PanelLight(settings, factory)
        except BaseException:
            factory.close()
            raise
    driver = LampDriver(
        light.write,
        loop=asyncio.get_running_loop(),
        night_level=settings.night_level,
        ready=settings.ready_lamp,
    )
    driver.show(lamp)
    try:
        await asyncio.Event().wait()
    finally:
        driver.close()
        light.close()
        factory.close()
