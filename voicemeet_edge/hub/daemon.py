"""The hub as a service: what systemd starts, what it is told, and what a person at a terminal reads."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from voicemeet_edge.backend.verbs import Role
from voicemeet_edge.hub.admission import EVERY_POOL
from voicemeet_edge.hub.app import HubInfo, device_settings, run_hub
from voicemeet_edge.hub.metrics import HubCollector, on_loop
from voicemeet_edge.hub.pass_desk import desk_link, operator_link, qr_terminal
from voicemeet_edge.hub.settings import load_hub_settings
from voicemeet_edge.secret import Secret
from voicemeet_edge.system.metrics import Metrics
from voicemeet_edge.system.notify import Notifier, feed_watchdog

FIRST_POOL = "frontdesk"  # where the settings name no pool: a door and a desk


async def serve_hub(config: Path, *, print_settings: bool) -> None:
    """Run the hub of this settings file until SIGTERM or SIGINT."""
    notifier = Notifier()
    settings = await asyncio.to_thread(load_hub_settings, config)

    # Passes are made for somebody who reads them, and a journal is not somebody: it keeps what it reads.
    is_read = sys.stdout.isatty() or print_settings
    pool = (settings.match.pools or (FIRST_POOL,))[0]
    is_closed = not {pool, EVERY_POOL} & set(settings.match.open_pools)

    running: list[HubInfo] = []  # the hub's own word, once there is one
    metrics: list[Metrics] = []
    loop = asyncio.get_running_loop()

    def ready(info: HubInfo) -> None:
        running.append(info)
        metrics.append(Metrics(HubCollector(on_loop(info.figures, loop))))
        metrics[0].serve(settings.status.metrics)
        notifier.ready("ready")
        sys.stdout.write(f"The hub is at {info.url}\nThe desk page is at {info.desk_url}\n")
        if info.pin:
            sys.stdout.write(f"Its certificate's pin is {info.pin}\n")
        if info.operator_pass is not None:
            sys.stdout.write(_operator(info, info.operator_pass))
        if info.first_passes:
            sys.stdout.write(_first_passes(info, pool))
        elif print_settings:
            sys.stdout.write(f"\nFor each device's voicemeet.toml:\n\n{device_settings(info, pool=pool)}\n")
        if is_closed and not info.first_passes:
            sys.stdout.write(f"Passes for the pool {pool}: voicemeet-edge pass --help\n")
        sys.stdout.flush()

    watchdog = asyncio.create_task(feed_watchdog(notifier, lambda: all(info.is_alive() for info in running)))
    try:
        await run_hub(settings, ready=ready, first_pool=pool if is_closed and is_read else "")
    finally:
        notifier.stopping()
        watchdog.cancel()
        await asyncio.gather(watchdog, return_exceptions=True)
        for one in metrics:
            await asyncio.to_thread(one.close)  # it waits for the thread that serves


def _operator(info: HubInfo, shown: Secret) -> str:
    """Return how the operator gets in, shown this once."""
    return f"""
You are the operator: add doors and desks on your page. This link holds your pass and is shown this once;
another: voicemeet-edge pass --operator

  {operator_link(info.url, shown)}
"""


def _first_passes(info: HubInfo, pool: str) -> str:
    """Return what an installer needs of a new hub, shown this once."""
    device, desk = info.first_passes[Role.CALLER], info.first_passes[Role.ANSWERER]
    link = desk_link(info.url, desk, pool)
    return f"""
Nobody can call or answer in the pool {pool} without a pass. Here are the first two; they are
shown this once, and the hub keeps only a hash of them. More: voicemeet-edge pass --help

1. For a device: these lines go into its voicemeet.toml.

{device_settings(info, pool=pool, shown_pass=device)}
2. For the desk: open this link there, once, or scan it.

  {link}

{qr_terminal(link)}
"""
