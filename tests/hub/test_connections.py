"""Who gives way when many share one address: those who keep a place without using it."""

from __future__ import annotations

from voicemeet_edge.hub.connections import (
    ADDRESS_LINE,
    FRESH_S,
    UNUSED_S,
    WAIT_S,
    Connections,
    OpenConnection,
    Places,
)
from voicemeet_edge.hub.limits import SITE_SHARES, address_key

NAT = "198.51.100.7"


class Socket:
    """A connection that knows whether it was dropped."""

    def __init__(self) -> None:
        self.dropped = self.left = False

    def drop(self) -> None:
        self.dropped = True

    def has_left(self) -> bool:
        return self.left


def full_of_sockets(book: Connections, count: int) -> list[tuple[OpenConnection, Socket]]:
    """Fill the address' places with WebSockets that have joined nothing."""
    found = []
    for _ in range(count):
        carrier = Socket()
        entry = book.arrive(NAT, carrier, 0.0)
        assert entry is not None
        entry.carrier, entry.has_head, entry.is_long, entry.is_unused_socket = carrier, True, True, True
        found.append((entry, carrier))
    return found


def test_sockets_that_joined_nothing_make_room_for_the_requests_that_make_them_known() -> None:
    book = Connections(Places(100, per_address=4))
    sockets = full_of_sockets(book, 4)
    sockets[1][0].is_unused_socket = False  # in a call
    request = Socket()
    assert book.arrive(NAT, request, 1.0) is None
    assert book.next(1.0) == []
    served = book.next(UNUSED_S + 0.1)
    assert [carrier for _, carrier in served] == [request]
    assert [carrier.dropped for _, carrier in sockets] == [True, False, False, False]


def test_they_stay_while_nobody_waits_and_once_they_are_known() -> None:
    book = Connections(Places(100, per_address=4))
    sockets = full_of_sockets(book, 4)
    assert book.next(UNUSED_S + 100.0) == []
    for entry, _ in sockets:
        book.known(entry)
    assert book.arrive(NAT, Socket(), 200.0) is not None
    assert not any(carrier.dropped for _, carrier in sockets)


def test_a_site_of_many_networks_has_the_places_of_a_few_and_its_known_ones_have_theirs_beside() -> None:
    book = Connections(Places(10_000, per_address=4))
    networks = [address_key(f"2001:db8:1:{number:x}::1") for number in range(100)]
    served = [book.arrive(network, Socket(), 0.0) for network in networks for _ in range(4)]
    entries = [entry for entry in served if entry is not None]
    assert len(entries) == 4 * SITE_SHARES
    assert book.arrive(NAT, Socket(), 0.0) is not None
    for entry in entries:
        book.known(entry)
    assert len(book.next(1.0)) == 4 * SITE_SHARES


def test_who_gave_up_in_the_line_is_passed_over_and_who_waits_too_long_is_closed() -> None:
    book = Connections(Places(100, per_address=1))
    served = book.arrive(NAT, Socket(), 0.0)
    assert served is not None
    gave_up, next_one, last = Socket(), Socket(), Socket()
    for number, waiting in enumerate((gave_up, next_one, last)):
        assert book.arrive(NAT, waiting, float(number)) is None
    gave_up.left = True
    book.gone(served)
    ready = book.next(3.0)
    assert [carrier for _, carrier in ready] == [next_one]
    assert (gave_up.dropped, next_one.dropped) == (True, False)
    ready[0][0].has_head = ready[0][0].is_long = True  # it talks
    assert book.next(2.0 + WAIT_S) == []
    assert not last.dropped
    assert book.next(2.1 + WAIT_S) == []
    assert last.dropped
    assert book.waiting == 0


def test_no_address_fills_the_line_for_all_others() -> None:
    book = Connections(Places(10, per_address=1))
    sockets = [Socket() for _ in range(ADDRESS_LINE + 2)]
    for one in sockets:
        book.arrive(NAT, one, 0.0)
    assert [one.dropped for one in sockets[-2:]] == [False, True]
    other = [Socket(), Socket()]
    for one in other:
        book.arrive("203.0.113.9", one, 0.0)
    assert not any(one.dropped for one in other)
    book.drop_line()
    assert all(one.dropped for one in sockets[1:])


def test_a_line_slower_than_patience_serves_the_newest_first() -> None:
    book = Connections(Places(100, per_address=1))
    served = book.arrive(NAT, Socket(), 0.0)
    sockets = [Socket() for _ in range(4)]
    for number, waiting in enumerate(sockets):
        assert book.arrive(NAT, waiting, float(number)) is None
    order = []
    for now in (FRESH_S - 0.1, FRESH_S + 1.1, FRESH_S + 1.2, FRESH_S + 1.3):
        assert served is not None
        book.gone(served)
        [(served, carrier)] = book.next(now)
        order.append(sockets.index(carrier))  # type: ignore[arg-type]
        served.has_head = served.is_long = True
    assert order == [0, 3, 2, 1]
