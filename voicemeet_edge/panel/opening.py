"""Open the panel the settings name; the only place that knows every kind there is.

One rule: the pin factory is named, never guessed, and one that cannot work says why in one line. What a kind
needs is loaded with it: gpiozero takes a twelfth of a device's start.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from typing import TYPE_CHECKING, assert_never

from typing_extensions import override

from voicemeet_edge.call.signs import Lamp
from voicemeet_edge.errors import EnvironmentFault, SettingsError
from voicemeet_edge.panel.interface import Panel, PanelEvent
from voicemeet_edge.panel.queue import ButtonQueue
from voicemeet_edge.panel.terminal import TerminalPanel
from voicemeet_edge.settings import PanelSettings

if TYPE_CHECKING:
    from gpiozero.pins import Factory


class NoPanel(Panel):
    """No buttons and no lamp."""

    def __init__(self) -> None:
        self._queue = ButtonQueue()

    @override
    def events(self) -> AsyncIterator[PanelEvent]:
        """Yield nothing until the panel is closed."""
        return self._queue.events()

    @override
    def show(self, lamp: Lamp) -> None:
        """Show nothing."""

    @override
    def dim(self, night_level: int) -> None:
        """Nothing to dim."""

    @override
    def alive_at(self) -> None:
        """Nothing to read."""

    @override
    async def open_door(self, seconds: float) -> bool:
        """No door here."""
        return False

    @override
    async def close(self) -> None:
        """End `events`; idempotent."""
        self._queue.close()


def open_panel(settings: PanelSettings, *, on_quit: Callable[[], None] | None = None) -> Panel:
    """Open the panel on the running loop.

    Args:
        settings: which factory and which lines.
        on_quit: called when a person ends the program at the panel (key q); SIGTERM to ourselves,
            which every app ends cleanly on, when left out.

    Raises:
        SettingsError: the factory is not installed.
        EnvironmentFault: a line is in use or not there (yet), or there is no GPIO or terminal.
    """
    if settings.factory == "none":
        return NoPanel()
    if settings.factory == "terminal":
        return TerminalPanel(sys.stdin.fileno(), on_quit or _terminate)
    from voicemeet_edge.panel.buttons import GpioPanel

    with panel_error(settings):
        return GpioPanel(settings, make_factory(settings))


@contextlib.contextmanager
def panel_error(settings: PanelSettings) -> Iterator[None]:
    """Turn what pin factories raise into one sentence.

    A line that does not exist is no wrong setting: its chip may come later, as a Raspberry Pi 5's does, and
    then the next try finds it.
    """
    from gpiozero.exc import GPIOZeroError, PinInvalidPin, PinMultiplePins

    try:
        yield
    except (PinInvalidPin, PinMultiplePins) as error:
        lines = ", ".join((settings.call_line, settings.report_line, *settings.lamp_lines))
        raise EnvironmentFault(f"the panel's lines {lines}: {error}", code="panel_line_missing") from error
    except GPIOZeroError as error:
        raise EnvironmentFault(f"the panel cannot be opened: {error}", code="panel_unusable") from error
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise EnvironmentFault(f"the panel cannot be opened: {reason}", code="panel_unusable") from error


def make_factory(settings: PanelSettings) -> Factory:
    """Make the gpiozero pin factory of that name."""
    match settings.factory:
        case "gpiod":
            from voicemeet_edge.panel.gpiod_factory import GpiodFactory

            return GpiodFactory()
        case "lgpio":
            try:
                from gpiozero.pins.lgpio import LGPIOFactory
            except ImportError as error:
                expected = 'the package "lgpio" to be installed, or "gpiod"'
                raise SettingsError("settings", "panel.factory", '"lgpio"', expected) from error
            return LGPIOFactory()
        case "mock":
            from gpiozero.pins.mock import MockFactory, MockPWMPin

            return MockFactory(pin_class=MockPWMPin)
        case "terminal" | "none":
            raise ValueError(f"{settings.factory} has no pins")
        case _:
            assert_never(settings.factory)


def _terminate() -> None:
    # From the loop, not from within a reader's callback: handlers may stop the loop.
    asyncio.get_running_loop().call_soon(signal.raise_signal, signal.SIGTERM)
