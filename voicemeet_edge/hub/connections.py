"""Every connection a hub holds, counted from the moment it is accepted; the one rule: strangers can fill
their own share and no more.

A connection is a stranger's until it has shown a token that a pass stands behind. Strangers have a place
count for their address and one in all; who finds no place waits unread in a line, which costs a file
descriptor and no memory to speak of. While somebody waits, who is slow with its request makes room, and
who is idle goes. Pure; times are monotonic.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import field
from typing import Protocol

from voicemeet_edge.hub.limits import Held
from voicemeet_edge.records import dataclass

HEAD_S = 10.0  # s from accept to a whole request head
PRESSED_HEAD_S = 4.0  # s of that, while others of the address wait; 64 handshakes take a slow hub two
UNUSED_S = 3.0  # s a WebSocket may stand by without having joined anything, while others of the address wait
IDLE_S = 75.0  # s between two requests on one connection
WAIT_S = 60.0  # s in the line; a client that gives up earlier is passed over, and costs the next one nothing
FRESH_S = 4.0  # s in the line after which the newest goes first: half of what a device waits for an answer
MAX_IN_LINE = 8_192  # accepted sockets that wait unread, in all: a building after a power cut
ADDRESS_LINE = 4_096  # of these, from one address: so that none fills the line for all others
STRANGERS_SHARE = 0.75  # of all places: the rest is for who has a pass, whatever strangers do


@dataclass(frozen=True, slots=True)
class Places:
    """How many connections there may be."""

    total: int
    per_address: int

    @property
    def strangers(self) -> int:
        """Places for strangers in all."""
        return max(1, int(self.total * STRANGERS_SHARE))


class Carrier(Protocol):
    """What the book needs of a socket that waits, or of a connection that is served."""

    def drop(self) -> None:
        """Close it at once."""


class UnreadSocket(Carrier, Protocol):
    """A socket that nobody reads yet."""

    def has_left(self) -> bool:
        """Say whether the other side has closed it meanwhile."""


@dataclass(slots=True, eq=False)
class OpenConnection:
    """One connection."""

    address: str
    since: float
    carrier: Carrier | None = None
    is_known: bool = False
    is_long: bool = False
    """A WebSocket, or a request that is being answered: not idle."""
    has_head: bool = False
    is_unused_socket: bool = False
    """A WebSocket that has joined nothing yet."""


@dataclass(slots=True)
class _Address:
    entries: OrderedDict[OpenConnection, None] = field(default_factory=OrderedDict)  # strangers, oldest first
    line: deque[tuple[float, UnreadSocket]] = field(default_factory=deque)


@dataclass(slots=True)
class ConnectionCounters:
    """What happened since the start; numbers only."""

    served: int = 0
    waited: int = 0
    refused: int = 0
    dropped_slow: int = 0
    dropped_idle: int = 0


class Connections:
    """The book of one hub."""

    def __init__(self, places: Places) -> None:
        self._places = places
        self._addresses: dict[str, _Address] = {}
        self._held = Held()  # by strangers
        self._all: dict[OpenConnection, None] = {}
        self._strangers = 0
        self._in_line = 0
        self.counters = ConnectionCounters()

    def __len__(self) -> int:
        return len(self._all)

    def arrive(self, address: str, carrier: UnreadSocket, now: float) -> OpenConnection | None:
        """Take in an accepted socket: its entry when it is served now; None when it waits or was closed."""
        place = self._addresses.setdefault(address, _Address())
        if not place.line and self._has_room(address):
            return self._serve(address, place, now)
        if self._in_line >= MAX_IN_LINE or len(place.line) >= ADDRESS_LINE:
            self.counters.refused += 1
            self._tidy(address, place)
            carrier.drop()
            return None
        self.counters.waited += 1
        place.line.append((now, carrier))
        self._in_line += 1
        return None

    def next(self, now: float) -> list[tuple[OpenConnection, UnreadSocket]]:
        """Return who may be served of those who wait; makes room for them by who is slow or idle."""
        ready: list[tuple[OpenConnection, UnreadSocket]] = []
        for address in [address for address, place in self._addresses.items() if place.line]:
            place = self._addresses[address]
            while place.line and now - place.line[0][0] > WAIT_S:
                self.counters.refused += 1
                self._leave_line(place).drop()
            self._make_room(address, place, now)
            while place.line and self._has_room(address):
                # In a line that moves slower than their patience the oldest are about to give up, and serving
                # them helps nobody: then the newest goes first, and the others come again.
                is_slow = now - place.line[0][0] > FRESH_S
                waiting = self._leave_line(place, newest=is_slow)
                # Who gave up has left its hello behind: answering that costs as much as answering somebody.
                if waiting.has_left():
                    waiting.drop()
                else:
                    ready.append((self._serve(address, place, now), waiting))
            self._tidy(address, place)
        return ready

    def known(self, entry: OpenConnection) -> None:
        """This connection has shown a token that a pass stands behind: it is no stranger's any more."""
        if entry.is_known or entry not in self._all:
            return
        entry.is_known = True
        self._leave_address(entry)

    def gone(self, entry: OpenConnection) -> None:
        """This connection is closed."""
        if entry not in self._all:
            return
        del self._all[entry]
        if not entry.is_known:
            self._leave_address(entry)

    @property
    def waiting(self) -> int:
        """How many accepted sockets wait."""
        return self._in_line

    def drop_line(self) -> None:
        """Close all that wait: the hub stops."""
        for place in self._addresses.values():
            while place.line:
                self._leave_line(place).drop()

    def _has_room(self, address: str) -> bool:
        return (
            not self._held.is_full(address, self._places.per_address)
            and self._strangers < self._places.strangers
            and len(self._all) < self._places.total
        )

    def _make_room(self, address: str, place: _Address, now: float) -> None:
        """Let go, for those in line, of strangers of their own address that keep a place without using it."""
        if not place.line or self._has_room(address):
            return
        for entry in list(place.entries):
            slow = not entry.has_head and now - entry.since > PRESSED_HEAD_S
            idle = entry.has_head and not entry.is_long
            # Else a building's sockets would keep out the requests that make them known. They come again.
            idle = idle or (entry.is_unused_socket and now - entry.since > UNUSED_S)
            if (slow or idle) and entry.carrier is not None:
                self.counters.dropped_slow += slow
                self.counters.dropped_idle += idle
                entry.carrier.drop()
                self.gone(entry)
                if len(place.entries) + len(place.line) <= self._places.per_address:
                    break

    def _serve(self, address: str, place: _Address, now: float) -> OpenConnection:
        entry = OpenConnection(address, now)
        place.entries[entry] = None
        self._held.count(address, 1)
        self._all[entry] = None
        self._strangers += 1
        self.counters.served += 1
        return entry

    def _leave_line(self, place: _Address, *, newest: bool = False) -> UnreadSocket:
        self._in_line -= 1
        return (place.line.pop() if newest else place.line.popleft())[1]

    def _leave_address(self, entry: OpenConnection) -> None:
        self._strangers -= 1
        place = self._addresses[entry.address]
        place.entries.pop(entry, None)
        self._held.count(entry.address, -1)
        self._tidy(entry.address, place)

    def _tidy(self, address: str, place: _Address) -> None:
        if not place.entries and not place.line:
            self._addresses.pop(address, None)
