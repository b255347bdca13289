"""The light of a panel: one, two or three dimmable lines, as gpiozero devices.

One rule: a line that fails does not keep the others from being set, the microphone's first of all.
"""

from __future__ import annotations

import logging
from typing import Any

from gpiozero import PWMLED
from gpiozero.pins import Factory

from voicemeet_edge.call.signs import Lamp
from voicemeet_edge.choices import LampKind
from voicemeet_edge.panel.colours import line_levels
from voicemeet_edge.panel.header import line_name
from voicemeet_edge.settings import PanelSettings

logger = logging.getLogger(__name__)

LAMP_FREQUENCY_HZ = 100  # Hz; above what an eye sees flicker, and few enough wake-ups for a Pi


class PanelLight:
    """All lamp lines of a panel.

    Raises:
        Exception: what the factory raises for a line it cannot give; lines taken before are let go.
    """

    def __init__(self, settings: PanelSettings, factory: Factory) -> None:
        self._kind = LampKind(settings.lamps)
        self._leds: list[Any] = []
        try:
            for line in settings.lamp_lines:
                led = PWMLED(line_name(line), frequency=LAMP_FREQUENCY_HZ, pin_factory=factory)
                self._leds.append(led)
        except BaseException:
            self.close()
            raise

    def write(self, lamp: Lamp, level: float) -> None:
        """Set one step of a pattern, `level` from 0 to 1; raises what the first line that fails raised."""
        failed: Exception | None = None
        for led, value in zip(self._leds, line_levels(self._kind, lamp, level), strict=True):
            try:
                led.value = value
            except Exception as error:  # of the pin factory in use, each with errors of its own
                failed = failed or error
        if failed is not None:
            raise failed

    def close(self) -> None:
        """Dark, lines released; idempotent. A line that is lost keeps nobody from letting the others go."""
        for led in self._leds:
            try:
                led.close()
            except Exception as error:  # of the pin factory in use, each with errors of its own
                logger.warning("A lamp could not be switched off: %s", type(error).__name__)
