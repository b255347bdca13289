from __future__ import annotations

import asyncio
import gc
import os
import threading
from collections.abc import Callable

import pytest
from typing_extensions import override

from tests.audio.doubles import Wire
from voicemeet_edge.audio.frame_sender import IN_FLIGHT_LIMIT, FrameSender
from voicemeet_edge.testing.waiting import until


class Link(Wire):
    """A wire that notes what is sent, and may let any thread send."""

    def __init__(self, send: Callable[[bytes, int], None], *, any_thread: bool = False) -> None:
        super().__init__()
        self.any_thread = any_thread
        self._note = send

    @property
    @override
    def sends_in_any_thread(self) -> bool:
        return self.any_thread

    @override
    def send(self, payload: bytes, timestamp: int, *, red: bool = False) -> None:
        self._note(payload, timestamp)


def make_sender(send: Callable[[bytes, int], None], *, any_thread: bool = False) -> FrameSender:
    return FrameSender(asyncio.get_running_loop(), Link(send, any_thread=any_thread))


async def test_frames_arrive_in_order_from_another_thread() -> None:
    sent: list[tuple[bytes, int]] = []
    sender = make_sender(lambda payload, stamp: sent.append((payload, stamp)))

    def put_all() -> None:
        for number in range(IN_FLIGHT_LIMIT):
            sender.put(bytes([number]), number)

    thread = threading.Thread(target=put_all)
    thread.start()
    await until(lambda: len(sent) == IN_FLIGHT_LIMIT)
    await asyncio.to_thread(thread.join, 5)
    assert sent == [(bytes([n]), n) for n in range(IN_FLIGHT_LIMIT)]
    assert (sender.sent, sender.dropped) == (IN_FLIGHT_LIMIT, 0)


async def test_a_kernel_without_eventfd_costs_no_call(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "eventfd")
    sent: list[int] = []
    sender = make_sender(lambda _, stamp: sent.append(stamp))
    for stamp in range(3):
        await asyncio.to_thread(sender.put, b"", stamp)
        await until(lambda stamp=stamp: len(sent) == stamp + 1)  # type: ignore[misc]
    sender.stop()
    assert sent == [0, 1, 2]


async def test_a_loop_that_stands_still_gets_the_newest() -> None:
    sent: list[int] = []
    sender = make_sender(lambda _, stamp: sent.append(stamp))
    for number in range(50):  # the loop does not run in between
        sender.put(b"", number)
    await asyncio.sleep(0)
    await until(lambda: bool(sent))
    assert sent == list(range(50 - IN_FLIGHT_LIMIT, 50))
    assert sender.dropped == 50 - IN_FLIGHT_LIMIT


async def test_nothing_is_sent_after_stop() -> None:
    sent: list[int] = []
    sender = make_sender(lambda _, stamp: sent.append(stamp))
    sender.put(b"", 1)
    sender.stop()
    sender.put(b"", 2)
    for _ in range(3):
        await asyncio.sleep(0)
    assert sent == []


def test_a_closed_loop_is_no_error() -> None:
    loop = asyncio.new_event_loop()
    loop.close()
    sender = FrameSender(loop, Link(lambda *_: None))
    sender.put(b"", 1)
    sender.put(b"", 2)
    assert sender.sent == 0


async def test_the_descriptor_goes_with_the_last_holder_and_not_before() -> None:
    before = set(os.listdir("/proc/self/fd"))
    sender = make_sender(lambda *_: None)
    opened = set(os.listdir("/proc/self/fd")) - before
    sender.stop()
    sender.stop()
    assert opened <= set(os.listdir("/proc/self/fd")), "the capture thread may be writing to it"
    del sender
    gc.collect()
    assert not opened & set(os.listdir("/proc/self/fd"))


async def test_a_frame_put_while_the_loop_sends_is_sent_too() -> None:
    sent: list[int] = []

    def send(_: bytes, stamp: int) -> None:
        sent.append(stamp)
        if stamp == 1:
            sender.put(b"", 2)

    sender = make_sender(send)
    sender.put(b"", 1)
    await until(lambda: sent == [1, 2])
    sender.stop()


async def test_where_any_thread_may_send_the_frame_leaves_in_its_own() -> None:
    sent: list[tuple[int, int]] = []
    sender = make_sender(lambda _, stamp: sent.append((stamp, threading.get_ident())), any_thread=True)
    thread = threading.Thread(target=sender.put, args=(b"", 7))
    thread.start()
    thread.join(5)  # the loop stands still meanwhile
    assert sent == [(7, thread.ident)]
    sender.stop()
    sender.put(b"", 8)
    assert len(sent) == 1


async def test_frames_that_wait_for_the_loop_leave_before_the_next() -> None:
    sent: list[int] = []
    link = Link(lambda _, stamp: sent.append(stamp))
    sender = FrameSender(asyncio.get_running_loop(), link)
    sender.put(b"", 1)
    link.any_thread = True
    sender.put(b"", 2)
    await until(lambda: len(sent) == 2)
    assert sent == [1, 2]


async def test_stop_waits_for_the_frame_that_is_just_leaving() -> None:
    leaving, go_on = threading.Event(), threading.Event()
    sent: list[int] = []

    def send(_: bytes, stamp: int) -> None:
        leaving.set()
        go_on.wait(5)
        sent.append(stamp)

    sender = make_sender(send, any_thread=True)
    thread = threading.Thread(target=sender.put, args=(b"", 1))
    thread.start()
    leaving.wait(5)
    threading.Timer(0.05, go_on.set).start()
    sender.stop()
    assert sent == [1]
    await asyncio.to_thread(thread.join, 5)
