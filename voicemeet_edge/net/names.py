"""Names to addresses, with a resolver that may be slow, dead, or deaf to one kind of question.

One rule: what was once known is used again rather than nothing. Both kinds of address are asked for side by
side (RFC 8305 §3: a resolver that drops questions for IPv6 must not hold up IPv4), the answers are kept in
memory, and when the resolver is silent the last ones are used while it goes on thinking.

The C library's getaddrinfo is what reads the system's configuration, and it cannot be cancelled: each lookup
has a daemon thread, at most one per name and family.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import ipaddress
import itertools
import socket
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import field

from voicemeet_edge.records import dataclass

RESOLUTION_DELAY_S = 0.05  # s an answer waits for the one of the other family (RFC 8305 §8)
STALE_AFTER_S = 0.4  # s the resolver gets before the addresses of last time are used
KEEP_S = 7 * 86400.0  # s old addresses may serve; who moved a hub longer ago has a resolver that answers
MAX_NAMES = 64  # kept; a device has one backend and a handful of TURN servers
MAX_LOOKUPS = 16  # threads waiting for the resolver at once
MAX_ADDRESSES = 16  # of one name that are kept

FAMILIES = (socket.AF_INET6, socket.AF_INET)  # RFC 6724: IPv6 first; who has none is told so at once
_HAS_NONE = (socket.EAI_NODATA, socket.EAI_NONAME, socket.EAI_ADDRFAMILY)
Lookup = Callable[[str, socket.AddressFamily], list[str]]


def system_lookup(host: str, family: socket.AddressFamily) -> list[str]:
    """Ask the C library; blocks for as long as it likes. Raises: OSError."""
    return [str(entry[4][0]) for entry in socket.getaddrinfo(host, None, family, socket.SOCK_STREAM)]


def interleave(six: Iterable[str], four: Iterable[str]) -> list[str]:
    """Put the families in turn (RFC 8305 §4), so that a whole family that leads nowhere costs one wait."""
    pairs = itertools.zip_longest(six, four)
    return [address for pair in pairs for address in pair if address is not None]


@dataclass
class _Known:
    """What is known of one name."""

    addresses: dict[socket.AddressFamily, list[str]] = field(default_factory=dict)
    at: float = 0.0
    """Monotonic seconds of the last answer."""
    good: str = ""
    """The address that worked last."""
    bad: str = ""
    """The address that failed last."""

    def order(self) -> list[str]:
        found = interleave(*(self.addresses.get(family, []) for family in FAMILIES))
        return sorted(found, key=lambda address: (address != self.good, address == self.bad))


class Names:
    """Addresses by name; one for the whole process, so that one lookup serves every connection."""

    def __init__(self, lookup: Lookup | None = None) -> None:
        self._lookup = lookup or system_lookup
        self._known: dict[str, _Known] = {}
        self._running: dict[tuple[str, socket.AddressFamily], concurrent.futures.Future[list[str]]] = {}
        self._lock = threading.Lock()

    async def resolve(self, host: str) -> list[str]:
        """Return the addresses of a name, the best first; an address is its own.

        Waits for as long as the resolver does when nothing is known: give it a limit.

        Raises:
            OSError: there are none.
        """
        with contextlib.suppress(ValueError):
            return [str(ipaddress.ip_address(host))]
        lookups = [asyncio.wrap_future(self._start(host, family)) for family in FAMILIES]
        try:
            await self._first_answer(lookups, self._remembered(host))
        finally:
            for one in lookups:
                one.add_done_callback(_forget)
                one.cancel()  # only our waiting for it
        known = self._remembered(host)
        if known:
            return known
        for one in lookups:
            if one.done() and not one.cancelled() and (error := one.exception()) is not None:
                raise error
        raise OSError("the name has no address")

    def worked(self, host: str, address: str) -> None:
        """Try this address first next time."""
        with self._lock:
            if known := self._known.get(host):
                known.good, known.bad = address, "" if known.bad == address else known.bad

    def failed(self, host: str, address: str) -> None:
        """Try this address last next time."""
        with self._lock:
            if known := self._known.get(host):
                known.bad, known.good = address, "" if known.good == address else known.good

    async def _first_answer(self, lookups: list[asyncio.Future[list[str]]], known: list[str]) -> None:
        """Wait until there are addresses; shortly for the second family, and not long when some are known."""
        pending = set(lookups)
        limit = STALE_AFTER_S if known else None
        while pending:
            done, pending = await asyncio.wait(pending, timeout=limit, return_when=asyncio.FIRST_COMPLETED)
            if not done:
                return
            if any(one.exception() is None and one.result() for one in done):
                limit = RESOLUTION_DELAY_S

    def _remembered(self, host: str) -> list[str]:
        with self._lock:
            known = self._known.get(host)
            return known.order() if known is not None and time.monotonic() - known.at < KEEP_S else []

    def _start(self, host: str, family: socket.AddressFamily) -> concurrent.futures.Future[list[str]]:
        key = (host, family)
        with self._lock:
            running = self._running.get(key)
            if running is not None:
                return running
            future: concurrent.futures.Future[list[str]] = concurrent.futures.Future()
            if len(self._running) >= MAX_LOOKUPS:
                future.set_exception(OSError("too many lookups at once"))
                return future
            future.set_running_or_notify_cancel()  # who gives up waiting must not cancel it for the others
            self._running[key] = future
        # A daemon: the process must not wait for a dead resolver when it ends.
        threading.Thread(target=self._run, args=(key, future), name="names", daemon=True).start()
        return future

    def _run(
        self, key: tuple[str, socket.AddressFamily], future: concurrent.futures.Future[list[str]]
    ) -> None:
        host, family = key
        found: list[str] = []
        failure: OSError | None = None
        try:
            found = list(dict.fromkeys(self._lookup(host, family)))[:MAX_ADDRESSES]
        except (OSError, UnicodeError) as error:
            failure = error if isinstance(error, OSError) else OSError("not a name")
        with self._lock:
            del self._running[key]
            if found:
                self._keep(host, family, found)
            elif isinstance(failure, socket.gaierror) and failure.errno in _HAS_NONE:
                self._drop(host, family)
        if failure is not None:
            future.set_exception(failure)
        else:
            future.set_result(found)

    def _keep(self, host: str, family: socket.AddressFamily, found: list[str]) -> None:
        known = self._known.pop(host, None) or _Known()
        while len(self._known) >= MAX_NAMES:
            del self._known[next(iter(self._known))]
        self._known[host] = known  # the newest at the end
        known.addresses[family] = found
        known.at = time.monotonic()

    def _drop(self, host: str, family: socket.AddressFamily) -> None:
        """Forget a family the name has no longer; never the last, which may be a resolver's whim."""
        known = self._known.get(host)
        if known is not None and any(known.addresses.get(other) for other in FAMILIES if other != family):
            known.addresses.pop(family, None)


def _forget(lookup: asyncio.Future[list[str]]) -> None:
    if not lookup.cancelled():
        lookup.exception()  # an answer nobody waits for is no error


NAMES = Names()
