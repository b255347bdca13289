"""What systemd is told about us: ready, what we do, stopping, alive.

One rule: outside systemd every call does nothing, so no caller asks where it runs. And none waits for
systemd: sd_notify(3) does for as long as systemd reads nothing, and its binding holds the lock of Python
meanwhile, so that voice, watchdog and SIGTERM would wait with it. So the datagram is sent here.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
from collections.abc import Callable
from typing import Protocol

logger = logging.getLogger(__name__)

MAX_STATUS = 200  # characters; one line of `systemctl status`
SEND_LIMIT_S = 0.2  # s for a service manager whose queue is full; then it hears the next one


class Notifier:
    """Speak to the service manager named by $NOTIFY_SOCKET (sd_notify(3))."""

    def ready(self, status: str = "") -> None:
        """Say that start-up is over; needs Type=notify in the unit."""
        self._send("READY=1" + (f"\nSTATUS={_one_line(status)}" if status else ""))

    def status(self, text: str) -> None:
        """Say in one line, without address, key or id, what we are doing."""
        self._send(f"STATUS={_one_line(text)}")

    def reloading(self) -> None:
        """Say that settings are being read again; `ready` ends it."""
        self._send(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        """Say that we are on the way out."""
        self._send("STOPPING=1")

    def alive(self) -> None:
        """Feed the watchdog."""
        self._send("WATCHDOG=1")

    def _send(self, state: str) -> None:
        address = os.environ.get("NOTIFY_SOCKET", "")
        if not address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
                manager.settimeout(SEND_LIMIT_S)
                manager.connect("\0" + address[1:] if address.startswith("@") else address)
                manager.send(state.encode())
        except OSError as error:  # a manager that does not listen must not end a call
            logger.debug("The service manager was not reached: %s", type(error).__name__)


class AliveSign(Protocol):
    """The part of Notifier that feeding needs."""

    def alive(self) -> None:
        """Feed the watchdog."""


def watchdog_interval_s() -> float | None:
    """How often to feed the watchdog: at half of WatchdogSec (sd_watchdog_enabled(3)); None for never."""
    try:
        limit_us = int(os.environ.get("WATCHDOG_USEC", "0"))
        owner = int(os.environ.get("WATCHDOG_PID", str(os.getpid())))
    except ValueError:
        return None
    return limit_us / 2e6 if limit_us > 0 and owner == os.getpid() else None


async def feed_watchdog(
    notifier: AliveSign, is_healthy: Callable[[], bool], interval_s: float | None = None
) -> None:
    """Feed the watchdog from the loop for as long as `is_healthy` says so; cancel to stop.

    A loop that hangs and a check that fails both end in a restart by systemd.

    Args:
        notifier: what is told.
        is_healthy: a quick look at what must go on: sound threads, signaling, panel.
        interval_s: seconds between two looks; what systemd asks for when left out.
    """
    interval_s = interval_s if interval_s is not None else watchdog_interval_s()
    if interval_s is None:
        return
    was_healthy = True
    while True:
        healthy = is_healthy()
        if healthy:
            notifier.alive()
        if healthy != was_healthy:
            logger.warning("Health check %s", "passes again" if healthy else "fails: no sign of life")
            was_healthy = healthy
        await asyncio.sleep(interval_s)


def _one_line(text: str) -> str:
    return " ".join(text.split())[:MAX_STATUS]
