"""One socket between the loop and the thread that asks: nothing lost, nothing in the wrong thread."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typing_extensions import override

from voicemeet_edge.testing.waiting import until
from voicemeet_edge.webrtc import datagrams, udp
from voicemeet_edge.webrtc.datagrams import Datagram
from voicemeet_edge.webrtc.turn import QuickTurnUdp
from voicemeet_edge.webrtc.udp import UdpTransport, open_udp

WAIT_S = 20.0
MEDIA = b"\x80\x6fvoice"
OTHER = b"\x00\x01stun"


class User:
    """Takes note of what came, when and in which thread."""

    def __init__(self) -> None:
        self.media: list[tuple[bytes, float, int]] = []
        self.others: list[tuple[bytes, int]] = []
        self.errors: list[tuple[Exception, int]] = []
        self.lost = 0
        self.made = 0

    def is_media(self, data: bytes) -> bool:
        return data[:1] == b"\x80"

    def media_received(self, data: bytes, addr: tuple[Any, ...], arrival: float) -> None:
        self.media.append((data, arrival, threading.get_ident()))

    def datagram_received(self, data: bytes, addr: tuple[Any, ...]) -> None:
        self.others.append((data, threading.get_ident()))

    def connection_made(self, transport: Any) -> None:
        self.made += 1

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost += 1

    def error_received(self, exc: Exception) -> None:
        self.errors.append((exc, threading.get_ident()))


@asynccontextmanager
async def pair() -> AsyncIterator[tuple[UdpTransport, User, UdpTransport]]:
    """A socket that is looked at, its user, and one connected to it that sends."""
    transport, user = open_udp(User(), local=("127.0.0.1", 0))
    sender, _ = open_udp(User(), remote=transport.get_extra_info("sockname"))
    try:
        yield transport, user, sender
    finally:
        transport.close()
        sender.close()


@contextmanager
def asked(transport: UdpTransport) -> Iterator[list[Datagram]]:
    """Ask from a thread, as the loudspeaker's does, until left; gives what it was answered."""
    stop = threading.Event()
    answered: list[Datagram] = []

    def run() -> None:
        while not stop.wait(0.002):
            answered.extend(transport.receive())

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield answered
    finally:
        stop.set()
        thread.join(WAIT_S)


async def test_the_loop_reads_when_nobody_asks() -> None:
    async with pair() as (_, user, sender):
        for data in (MEDIA, OTHER, MEDIA):
            sender.sendto(data)
        await until(lambda: len(user.media) == 2 and len(user.others) == 1)
        assert user.made == 1
        assert {thread for *_, thread in [*user.media, *user.others]} == {threading.get_ident()}


async def test_media_is_handed_to_the_thread_that_asks_and_the_rest_to_the_loop() -> None:
    async with pair() as (transport, user, sender):
        with asked(transport) as answered:
            await until(lambda: transport.is_lent)
            user.media.clear()
            for _ in range(20):
                sender.sendto(MEDIA)
                sender.sendto(OTHER)
            await until(lambda: len(answered) == 20 and len(user.others) == 20)
            assert {data for data, *_ in answered} == {MEDIA}
            assert {address for _, address, _ in answered} == {sender.get_extra_info("sockname")}
            assert not user.media
            assert {ident for _, ident in user.others} == {threading.get_ident()}


async def test_the_loop_takes_over_when_nobody_asks_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(udp, "IDLE_S", 0.02)
    async with pair() as (transport, user, sender):
        for round_ in range(1, 4):
            with asked(transport):
                await until(lambda: transport.is_lent)
            sender.sendto(MEDIA)
            await until(lambda: len(user.media) == round_)  # noqa: B023 - awaited within the round
            assert user.media[-1][2] == threading.get_ident()
            assert not transport.is_lent


async def test_the_arrival_is_the_kernels() -> None:
    async with pair() as (_, user, sender):
        before = time.monotonic()
        sender.sendto(MEDIA)
        after = time.monotonic()
        threading.Event().wait(0.05)  # the loop stands still, as a busy one does
        woken = time.monotonic()
        await until(lambda: bool(user.media))
        arrival = user.media[0][1]
        # Two clocks are compared, so a millisecond may be missing; without the stamp it would be `woken`.
        assert before - 0.001 <= arrival <= after + 0.001
        assert arrival < woken


async def test_a_kernel_without_time_stamps_costs_no_call(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datagrams, "SO_TIMESTAMPNS", 9999)  # an option that no kernel has
    before = time.monotonic()
    async with pair() as (_, user, sender):
        sender.sendto(b"\x80 voice")
        await until(lambda: bool(user.media))
    assert before <= user.media[0][1] <= time.monotonic()


async def test_a_burst_is_taken_whole_in_one_look() -> None:
    async with pair() as (transport, user, sender):
        with asked(transport):
            await until(lambda: transport.is_lent)
        sent = [MEDIA + bytes([number]) for number in range(udp.BATCH)]
        for data in sent:
            sender.sendto(data)
        assert [data for data, *_ in transport.receive()] == sent
        assert transport.receive() == []
        assert not user.errors


async def test_nothing_is_handed_on_once_whoever_got_the_one_before_has_closed() -> None:
    class Closing(User):
        @override
        def datagram_received(self, data: bytes, addr: tuple[Any, ...]) -> None:
            super().datagram_received(data, addr)
            transport.close()

    transport, user = open_udp(Closing(), local=("127.0.0.1", 0))
    sender, _ = open_udp(User(), remote=transport.get_extra_info("sockname"))
    for _ in range(3):
        sender.sendto(OTHER)
    await until(lambda: user.lost == 1)
    assert len(user.others) == 1
    sender.close()


async def test_close_while_a_thread_asks_and_another_sends() -> None:
    for _ in range(20):
        async with pair() as (transport, user, sender):
            stop = threading.Event()

            def send(sender: UdpTransport = sender, stop: threading.Event = stop) -> None:
                while not stop.is_set():
                    sender.sendto(MEDIA)

            sending = threading.Thread(target=send)
            sending.start()
            with asked(transport) as answered:
                await until(lambda user=user, answered=answered: bool(user.media or answered))  # type: ignore[misc]
                transport.close()
                sender.close()
                count = len(user.media) + len(answered)
                transport.close()
                await asyncio.sleep(0.01)
            stop.set()
            sending.join(WAIT_S)
            assert user.lost == 1
            assert len(user.media) + len(answered) <= count + udp.BATCH
            assert transport.receive() == []
            transport.sendto(MEDIA, ("127.0.0.1", 9))
            assert transport.is_closing()


async def test_a_refused_connection_is_told_on_the_loop() -> None:
    with contextlib.closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as gone:
        gone.bind(("127.0.0.1", 0))
        address = gone.getsockname()
    transport, user = open_udp(User(), remote=address)
    try:
        async with asyncio.timeout(WAIT_S):
            while not user.errors:
                transport.sendto(MEDIA)
                await asyncio.sleep(0.01)
        error, thread = user.errors[0]
        assert isinstance(error, ConnectionRefusedError)
        assert thread == threading.get_ident()
    finally:
        transport.close()


async def test_a_full_socket_drops_and_counts() -> None:
    class Full(socket.socket):
        @override
        def send(self, data: Any, flags: int = 0) -> int:
            raise BlockingIOError

    sender = UdpTransport(Full(socket.AF_INET, socket.SOCK_DGRAM), User())
    sender.sendto(MEDIA)
    assert sender.dropped == 1
    sender.close()


async def test_an_address_that_is_not_ours() -> None:
    with pytest.raises(OSError, match="assign"):
        open_udp(User(), local=("192.0.2.1", 0))


@given(data=st.binary(max_size=40) | st.binary(max_size=40).map(lambda tail: b"\x40\x01" + tail))
def test_a_channel_with_any_bytes_gives_media_or_nothing(data: bytes) -> None:
    heard: list[bytes] = []

    class Receiver(User):
        def media_received(self, data: bytes, addr: tuple[Any, ...], arrival: float) -> None:
            heard.append(data)

    client = QuickTurnUdp(("192.0.2.1", 3478), "", "", 600, 240)
    client.receiver = Receiver()  # type: ignore[assignment]
    client.channel_to_peer[0x4001] = ("192.0.2.2", 5000)
    if client.is_media(data):
        client.media_received(data, ("192.0.2.1", 3478), 0.0)
    for found in heard:
        assert found == data[4 : 4 + int.from_bytes(data[2:4], "big")]
        assert data[:2] == b"\x40\x01"
