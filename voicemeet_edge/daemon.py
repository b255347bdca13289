"""The device as a service: what systemd starts and what it is told."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from voicemeet_edge.app import Device
from voicemeet_edge.build import sound_card
from voicemeet_edge.panel.opening import open_panel
from voicemeet_edge.settings import Settings
from voicemeet_edge.system.memory import settle_memory
from voicemeet_edge.system.notify import Notifier, feed_watchdog


async def run_device(settings: Settings) -> None:
    """Be a device until cancelled; systemd hears what it is doing."""
    notifier = Notifier()

    def observe(event: str, facts: Mapping[str, object]) -> None:
        if event == "started":
            notifier.ready("idle")
        elif event == "state":
            notifier.status(str(facts["state"]))

    panel = open_panel(settings.panel)
    device = Device(settings, panel, sound_card(settings), observe=observe)
    settle_memory()
    watchdog = asyncio.create_task(feed_watchdog(notifier, device.is_healthy))
    try:
        await device.run()
    finally:
        notifier.stopping()
        watchdog.cancel()
        await asyncio.gather(watchdog, return_exceptions=True)
