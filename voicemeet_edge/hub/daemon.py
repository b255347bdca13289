"""The hub as a service: what systemd starts, what it is told, and what a person at a terminal reads."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from voicemeet_edge.hub.app import HubInfo, device_settings, run_hub
from voicemeet_edge.hub.settings import load_hub_settings
from voicemeet_edge.system.notify import Notifier, feed_watchdog


async def serve_hub(config: Path, *, print_settings: bool) -> None:
    """Run the hub of this settings file until SIGTERM or SIGINT."""
    notifier = Notifier()
    settings = await asyncio.to_thread(load_hub_settings, config)

    def ready(info: HubInfo) -> None:
        notifier.ready("ready")
        sys.stdout.write(f"The hub is at {info.url}\nThe desk page is at {info.desk_url}\n")
        if info.pin:
            sys.stdout.write(f"Its certificate's pin is {info.pin}\n")
        if print_settings:
            sys.stdout.write(f"\nFor each device's voicemeet.toml:\n\n{device_settings(info)}\n")
        sys.stdout.flush()

    watchdog = asyncio.create_task(feed_watchdog(notifier, lambda: True))
    try:
        await run_hub(settings, ready=ready)
    finally:
        notifier.stopping()
        watchdog.cancel()
        await asyncio.gather(watchdog, return_exceptions=True)
