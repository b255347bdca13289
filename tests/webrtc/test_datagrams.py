"""What came to a socket: all of it, in order, from whom and when, in one call or one by one."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voicemeet_edge.webrtc import datagrams
from voicemeet_edge.webrtc.datagrams import AT_ONCE, DATAGRAM_BYTES, OneByOne, Reader, Together

Make = Callable[[socket.socket], Reader]
either_way = pytest.mark.parametrize("make", [Together, OneByOne])


def _open(family: int, host: str) -> socket.socket:
    own = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    datagrams.ask_for_times(own)
    own.bind((host, 0))
    return own


@contextlib.contextmanager
def two(
    family: int = socket.AF_INET, host: str = "127.0.0.1"
) -> Iterator[tuple[socket.socket, socket.socket]]:
    """A socket to read, and one that sends to it."""
    with _open(family, host) as own, _open(family, host) as sender:
        sender.connect(own.getsockname())
        yield own, sender


def wait_for_times(own: socket.socket, sender: socket.socket, reader: Reader) -> None:
    """The kernel begins to note times a moment after the first socket asked."""
    for _ in range(100):
        sender.sendto(b"voice", own.getsockname())
        sent_at = time.monotonic()
        time.sleep(0.02)
        [(_, _, arrival)] = reader.read()
        # Two clocks are compared, so a millisecond may be missing.
        if arrival <= sent_at + 0.001:
            return
    pytest.fail("no packet has the kernel's time")


@either_way
def test_a_burst_is_read_whole_and_in_order(make: Make) -> None:
    with two() as (own, sender):
        reader = make(own)
        for round_ in range(3):  # the second begins with headers that the first wrote into
            sent = [bytes([round_, number]) * (number + 1) for number in range(AT_ONCE + 3)]
            for data in sent:
                sender.send(data)
            first, rest = reader.read(), reader.read()
            assert [data for data, *_ in first] == sent[:AT_ONCE]
            assert [data for data, *_ in rest] == sent[AT_ONCE:]
            assert {addr for _, addr, _ in [*first, *rest]} == {sender.getsockname()}
            assert reader.read() == []


@either_way
def test_who_sent_it_is_told_of_each(make: Make) -> None:
    with two() as (own, first), _open(socket.AF_INET, "127.0.0.1") as second:
        for sender in (first, second, second, first):
            sender.sendto(b"voice", own.getsockname())
        addresses = [addr for _, addr, _ in make(own).read()]
        one, other = first.getsockname(), second.getsockname()
        assert addresses == [one, other, other, one]


@either_way
def test_an_ipv6_address_is_as_pythons(make: Make) -> None:
    with two(socket.AF_INET6, "::1") as (own, sender):
        sender.send(b"voice")
        [(data, addr, _)] = make(own).read()
        assert (data, addr) == (b"voice", sender.getsockname())


@either_way
@given(sent=st.lists(st.binary(max_size=3000), max_size=AT_ONCE))
def test_any_bytes_come_as_they_are_but_for_what_is_too_long(make: Make, sent: list[bytes]) -> None:
    with two() as (own, sender):
        for data in sent:
            sender.send(data)
        assert [data for data, *_ in make(own).read()] == [data[:DATAGRAM_BYTES] for data in sent]


@either_way
def test_the_time_is_the_kernels(make: Make) -> None:
    with two() as (own, sender):
        reader, times = make(own), []
        wait_for_times(own, sender, reader)
        for _ in range(3):
            before = time.monotonic()
            sender.send(b"voice")
            times.append((before, time.monotonic()))
            time.sleep(0.02)
        for (before, after), (_, _, arrival) in zip(times, reader.read(), strict=True):
            assert before - 0.001 <= arrival <= after + 0.001


@either_way
def test_without_a_time_stamp_it_came_when_it_is_read(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datagrams, "SO_TIMESTAMPNS", 9999)  # an option that no kernel has
    with two() as (own, sender):
        sender.send(b"voice")
        time.sleep(0.02)
        before = time.monotonic()
        [(_, _, arrival)] = make(own).read()
        assert before <= arrival <= time.monotonic()


@either_way
def test_a_packet_without_a_time_stamp_takes_it_from_none_that_follows(make: Make) -> None:
    with contextlib.closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)) as own:
        own.bind(("127.0.0.1", 0))
        with _open(socket.AF_INET, "127.0.0.1") as sender:
            reader = make(own)
            sender.sendto(b"voice", own.getsockname())
            assert len(reader.read()) == 1
            datagrams.ask_for_times(own)
            wait_for_times(own, sender, reader)


@either_way
def test_an_error_is_raised_once_and_what_comes_later_is_read(make: Make) -> None:
    with two() as (own, sender):
        gone = _open(socket.AF_INET, "127.0.0.1")
        own.connect(gone.getsockname())
        gone.close()
        own.send(b"to nobody")
        reader = make(own)
        with pytest.raises(ConnectionRefusedError):
            assert reader.read() == []
        assert reader.read() == []
        own.connect(sender.getsockname())
        sender.send(b"voice")
        assert [data for data, *_ in reader.read()] == [b"voice"]


def test_what_came_before_an_error_is_read_before_it_is_told() -> None:
    class Failing(socket.socket):
        """Fails once at its second look, as the kernel's own call does when it was told something bad."""

        looks = 0

        def recvmsg(self, *arguments: int) -> object:  # type: ignore[override]
            self.looks += 1
            if self.looks == 2:
                raise ConnectionRefusedError
            return super().recvmsg(*arguments)

    with two() as (_, sender), Failing(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as own:
        own.bind(("127.0.0.1", 0))
        for _ in range(2):
            sender.sendto(b"voice", own.getsockname())
        reader = OneByOne(own)  # of the other way recvmmsg(2) says so
        assert len(reader.read()) == 1
        with pytest.raises(ConnectionRefusedError):
            reader.read()
        assert len(reader.read()) == 1


def test_a_system_without_the_call_reads_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    with two() as (own, _):
        assert isinstance(datagrams.reader(own), Together)
        monkeypatch.setattr(datagrams, "_recvmmsg", None)
        assert isinstance(datagrams.reader(own), OneByOne)


def test_a_clock_that_was_set_makes_no_arrival_from_another_time() -> None:
    def stamp(age_s: float) -> list[tuple[int, int, bytes]]:
        nanoseconds = time.time_ns() - int(age_s * 1e9)
        packed = datagrams.TIMESPEC.pack(*divmod(nanoseconds, 10**9))
        return [(socket.SOL_SOCKET, datagrams.SO_TIMESTAMPNS, packed)]

    assert datagrams.age_of(stamp(3600.0)) == 0.0
    assert datagrams.age_of(stamp(-3600.0)) == 0.0
    assert datagrams.age_of(stamp(0.1)) >= 0.1
    assert datagrams.age_of([]) == datagrams.age_of([(0, 0, b"")]) == 0.0
