"""The ground moves: addresses and routes change, the clock is set, the machine has slept; that is told.

One rule: nothing is trusted that was opened before such a change. The kernel announces changes of addresses
and routes (rtnetlink(7)); the clocks, and what an overflowing socket may have missed, are looked at now and
then.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import logging
import socket
import time
from collections.abc import Callable

from voicemeet_edge.net.addresses import own_addresses, primary_address
from voicemeet_edge.records import dataclass
from voicemeet_edge.timeouts import timeout
from voicemeet_edge.timers import next_beat

logger = logging.getLogger(__name__)

LOOK_EVERY_S = 2.0  # s between looks at the clocks
COMPARE_EVERY = 5  # looks between comparisons of the addresses, should an announcement have been missed
SETTLE_S = 0.2  # s: a new lease takes an address away, gives another, then the routes
STEP_S = 2.0  # s; NTP slews smaller differences, and a loop that stalls is no step
NETLINK_BYTES = 65536  # of one read; what the messages say is not read, only that something changed
# RTMGRP_… of linux/rtnetlink.h: links, IPv4 and IPv6 addresses and routes
GROUPS = 0x1 | 0x10 | 0x40 | 0x100 | 0x400


class Change(enum.Enum):
    """What moved."""

    NETWORK = "network"
    """Another address or default route, or none, or the first."""
    CLOCK = "clock"
    """The system's clock was set."""
    SLEEP = "sleep"
    """The machine was suspended and is awake again."""


@dataclass(frozen=True, slots=True)
class Clocks:
    """The three clocks of one moment, seconds."""

    monotonic: float
    boot: float
    """As monotonic, and it goes on while the machine sleeps."""
    real: float
    """Unix time."""

    @classmethod
    def now(cls) -> Clocks:
        """Read them."""
        return cls(time.monotonic(), time.clock_gettime(time.CLOCK_BOOTTIME), time.time())

    def changes(self, later: Clocks) -> list[Change]:
        """Say what happened between two moments."""
        passed = later.monotonic - self.monotonic
        slept = later.boot - self.boot - passed
        if slept > STEP_S:
            return [Change.SLEEP]
        return [Change.CLOCK] if abs(later.real - self.real - passed - slept) > STEP_S else []


Addresses = tuple[str | None, str | None, frozenset[str]]


def addresses() -> Addresses:
    """Return what the default routes leave from (IPv4, IPv6), and all addresses."""
    return primary_address(4), primary_address(6), frozenset(own_addresses())


class Watch:
    """Watches until cancelled; `on_change` is called on the loop."""

    def __init__(
        self, on_change: Callable[[Change], None], *, look: Callable[[], Addresses] = addresses
    ) -> None:
        self._on_change = on_change
        self._look = look
        self._moved = asyncio.Event()

    async def run(self) -> None:
        """Watch for ever."""
        loop = asyncio.get_running_loop()
        with contextlib.ExitStack() as stack:
            netlink = _open_netlink()
            if netlink is not None:
                stack.enter_context(netlink)
                loop.add_reader(netlink, self._read, netlink)
                stack.callback(loop.remove_reader, netlink)
            known, clocks, looks = self._look(), Clocks.now(), 0
            while True:
                announced = await self._announced()
                now = Clocks.now()
                for change in clocks.changes(now):
                    self._tell(change)
                clocks, looks = now, looks + 1
                if announced or looks % COMPARE_EVERY == 0:
                    found = self._look()
                    if found != known:
                        known = found
                        self._tell(Change.NETWORK)

    async def _announced(self) -> bool:
        """Wait for the next look; says whether the kernel announced something."""
        try:
            async with timeout(next_beat(LOOK_EVERY_S) - time.monotonic()):
                await self._moved.wait()
        except TimeoutError:
            return False
        await asyncio.sleep(SETTLE_S)
        self._moved.clear()
        return True

    def _read(self, netlink: socket.socket) -> None:
        try:
            while netlink.recv(NETLINK_BYTES):
                self._moved.set()
        except BlockingIOError:
            pass
        except OSError:  # ENOBUFS: more was announced than the socket holds
            self._moved.set()

    def _tell(self, change: Change) -> None:
        logger.info("the network or the clock changed: %s", change.value)
        self._on_change(change)


def _open_netlink() -> socket.socket | None:
    try:
        netlink = socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE
        )
    except OSError:  # a sandbox without it: looking now and then has to do
        return None
    try:
        netlink.setblocking(False)
        netlink.bind((0, GROUPS))
    except OSError:
        netlink.close()
        return None
    return netlink
