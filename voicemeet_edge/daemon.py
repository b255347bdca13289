"""The device as a service: what systemd starts and what it is told."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import TYPE_CHECKING

from voicemeet_edge.app import Device
from voicemeet_edge.build import sound_card
from voicemeet_edge.call.observed import Observed, ResetAsked, Tampered, VolumeChosen
from voicemeet_edge.call_maker import load_call_parts
from voicemeet_edge.errors import EnvironmentFault, SettingsError
from voicemeet_edge.health_report import HealthReport
from voicemeet_edge.panel.opening import open_panel
from voicemeet_edge.self_test import SelfTest
from voicemeet_edge.settings import Settings
from voicemeet_edge.system import chosen_volume, tamper
from voicemeet_edge.system.board import Board
from voicemeet_edge.system.findings import Finding, Outcome
from voicemeet_edge.system.image_state import ImageState, fault_of, read_image_state
from voicemeet_edge.system.life import Part
from voicemeet_edge.system.logs import set_up_logging
from voicemeet_edge.system.memory import settle_memory
from voicemeet_edge.system.notify import Notifier
from voicemeet_edge.system.reload import needs_start
from voicemeet_edge.system.reset_request import leave_request
from voicemeet_edge.system.watchdog import Watchdog
from voicemeet_edge.telling import Telling
from voicemeet_edge.timeouts import timeout

if TYPE_CHECKING:
    from voicemeet_edge.mqtt.link import MqttLink

FRESH_SETTINGS = Path("/run/voicemeet/voicemeet.toml")  # where the unit's ExecReload= puts them
SYSTEM_LOOK_S = 60.0  # s between two looks at what the image says of itself
READY_LIMIT_S = 10.0  # s; a part that neither works nor names a fault by then is told of as it is


logger = logging.getLogger(__name__)


class HungError(EnvironmentFault):
    """A part of the device gave no sign of life."""

    code = "hung"


class _Service:
    """Keeps systemd told: READY when every part has shown itself, and a sentence that follows the device."""

    def __init__(self, settings: Settings, config: Path) -> None:
        self._settings = settings
        self._config = config
        self._running: asyncio.Task[None] | None = None
        self.start_anew = False
        """New settings wait for a new start."""
        self.tampered = False
        self.mqtt: MqttLink | None = None
        self.self_test: SelfTest | None = None
        self.board = Board()
        self.notifier = Notifier()
        self._shown = asyncio.Event()
        self._said = ""
        self._ready = False

    def observe(self, event: Observed) -> None:
        """Take an event of the device."""
        if isinstance(event, ResetAsked):
            leave_request()
        elif isinstance(event, Tampered):
            self.tampered = True
            tamper.remember(self._settings)
        elif isinstance(event, VolumeChosen):
            chosen_volume.remember(self._settings.audio.volume, event.volume)
        self.board.observe(event)
        if self.mqtt is not None:
            self.mqtt.observe(event)
        if self.self_test is not None and self.board.state != "idle":
            self.self_test.interrupt()
        if self.board.has_shown_itself:
            self._shown.set()
        sentence = self.board.sentence
        if self._ready and sentence != self._said:
            self._said = sentence
            self.notifier.status(sentence)

        self._end_when_idle()

    def reload(self, device: Device, running: asyncio.Task[None]) -> None:
        """Read the settings again and take over what can be."""
        self.notifier.reloading()
        try:
            new = Settings.load(FRESH_SETTINGS if FRESH_SETTINGS.exists() else self._config)
        except SettingsError as error:
            logger.error("the new settings are not taken: %s", error)
        else:
            device.apply(new)
            set_up_logging(new.log.level)
            self.start_anew = needs_start(self._settings, new)
            self._running = running
            logger.info("new settings taken%s", ", the rest by a new start" if self.start_anew else "")
        self.notifier.ready(self.board.sentence)
        self._end_when_idle()

    def _end_when_idle(self) -> None:
        if self.start_anew and self._running is not None and self.board.state == "idle":
            self._running.cancel()

    async def say_ready(self) -> None:
        """Wait until the device has shown itself, and tell systemd; then load what only a call needs."""
        try:
            async with timeout(READY_LIMIT_S):
                await self._shown.wait()
        except TimeoutError:
            pass
        self._ready, self._said = True, self.board.sentence
        self.notifier.ready(self._said)
        await asyncio.to_thread(load_call_parts)
        settle_memory()


def own_faults(board: Board) -> list[Finding]:
    """What the running device knows of itself, as rows of its test."""
    rows = [
        Finding(part, Outcome.FAULT, sentence, "see `voicemeet-edge doctor`")
        for part, sentence in board.fault_sentences().items()
        if part not in ("line", "system")  # of the last test; and calls go on above a doubtful system
    ]
    return rows or [Finding("device", Outcome.WELL, board.sentence)]


async def watch_system(
    device: Device, read: Callable[[], ImageState | None] = read_image_state, every_s: float = SYSTEM_LOOK_S
) -> None:
    """Look each minute whether the image is whole; ends at once on a system that is none."""
    while (state := await asyncio.to_thread(read)) is not None:
        device.system_changed(fault_of(state))
        await asyncio.sleep(every_s)


def _beside(work: Coroutine[object, object, None], what: str) -> asyncio.Task[None]:
    """Start what calls go on without; a fault of ours that ends it is told of."""
    task = asyncio.create_task(work)

    def tell(done: asyncio.Task[None]) -> None:
        if not done.cancelled() and (error := done.exception()) is not None:
            logger.error(
                "%s has ended by a fault of ours (%s) until the next start", what, type(error).__name__
            )
            logger.debug("the fault in full", exc_info=error)

    task.add_done_callback(tell)
    return task


async def _be_at_broker(settings: Settings, device: Device, service: _Service) -> None:
    """Tell an MQTT broker what happens, where the settings name one."""
    if not settings.mqtt.broker:
        return
    # Not for everybody: it takes memory and time of the start.
    from voicemeet_edge.mqtt.link import MqttLink

    service.mqtt = MqttLink(settings, device.open_door)
    await service.mqtt.run()


async def _tell_hub(settings: Settings, telling: Telling) -> None:
    """Tell the hub how the device is, where the settings ask for it."""
    if settings.status.fleet:
        await HealthReport(settings.backend, telling.snapshot, settings.status.fleet_key).run()


def _background(
    settings: Settings, device: Device, service: _Service, telling: Telling
) -> list[asyncio.Task[None]]:
    """Start what runs beside the calls."""
    assert service.self_test is not None
    return [
        _beside(service.self_test.run(), "the self-test"),
        _beside(_be_at_broker(settings, device, service), "the link to the MQTT broker"),
        _beside(_tell_hub(settings, telling), "the report to the hub"),
        _beside(watch_system(device), "the look at the system"),
    ]


async def run_device(settings: Settings, config: Path) -> None:
    """Be a device until cancelled; systemd hears what it is doing.

    On SIGHUP the settings are read again: what can change at once does, and for the rest the device ends,
    to be started anew, as soon as no call runs.

    Raises:
        HungError: a part hung, and the device ended itself to be started again.
        SettingsError: the box was opened, and has not been set up again.
    """
    tamper.check(settings)
    service = _Service(settings, config)
    panel = open_panel(settings.panel)
    device = Device(settings, panel, sound_card(settings), observe=service.observe)
    volume = chosen_volume.remembered(settings.audio.volume)
    if volume is not None:
        device.levels.choose(volume)
    settle_memory()
    loop = asyncio.get_running_loop()
    running = asyncio.create_task(device.run())
    loop.add_signal_handler(signal.SIGHUP, service.reload, device, running)
    hung: list[Part] = []

    def end(part: Part) -> bool:
        hung.append(part)
        if part is Part.LOOP:  # it would never do it
            device.close_notify()
            return False
        loop.call_soon_threadsafe(running.cancel)
        return True

    service.self_test = SelfTest(
        settings,
        is_idle=lambda: service.board.state == "idle",
        own_faults=lambda: own_faults(service.board),
        tell=device.self_test_ended,
    )
    telling = Telling(settings.status, service.board, device, service.self_test)
    background = _background(settings, device, service, telling)
    await telling.start()
    watchdog = Watchdog(service.notifier, device.proofs_of_life, end)
    watchdog.start()
    ready = asyncio.create_task(service.say_ready())
    try:
        await running
    except asyncio.CancelledError:
        if not hung and not service.start_anew:
            raise
    finally:
        loop.remove_signal_handler(signal.SIGHUP)
        service.notifier.stopping()
        await telling.close()
        for task in (ready, *background):
            task.cancel()
        await asyncio.gather(ready, *background, return_exceptions=True)
        if not hung:  # else it sees to it that the end comes
            watchdog.stop()
    if service.tampered:
        tamper.check(settings)
    if hung:
        raise HungError(f"the {hung[0].value} hung")
