from __future__ import annotations

import asyncio
import gc
import os
import threading

from tests.audio.doubles import until
from voicemeet_edge.audio.uplink import IN_FLIGHT_LIMIT, Uplink


async def test_frames_arrive_in_order_from_another_thread() -> None:
    sent: list[tuple[bytes, int]] = []
    uplink = Uplink(asyncio.get_running_loop(), lambda payload, stamp: sent.append((payload, stamp)))

    def put_all() -> None:
        for number in range(IN_FLIGHT_LIMIT):
            uplink.put(bytes([number]), number)

    thread = threading.Thread(target=put_all)
    thread.start()
    await until(lambda: len(sent) == IN_FLIGHT_LIMIT)
    await asyncio.to_thread(thread.join, 5)
    assert sent == [(bytes([n]), n) for n in range(IN_FLIGHT_LIMIT)]
    assert (uplink.sent, uplink.dropped) == (IN_FLIGHT_LIMIT, 0)


async def test_a_loop_that_stands_still_gets_the_newest() -> None:
    sent: list[int] = []
    uplink = Uplink(asyncio.get_running_loop(), lambda _, stamp: sent.append(stamp))
    for number in range(50):  # the loop does not run in between
        uplink.put(b"", number)
    await asyncio.sleep(0)
    await until(lambda: bool(sent))
    assert sent == list(range(50 - IN_FLIGHT_LIMIT, 50))
    assert uplink.dropped == 50 - IN_FLIGHT_LIMIT


async def test_nothing_is_sent_after_stop() -> None:
    sent: list[int] = []
    uplink = Uplink(asyncio.get_running_loop(), lambda _, stamp: sent.append(stamp))
    uplink.put(b"", 1)
    uplink.stop()
    uplink.put(b"", 2)
    for _ in range(3):
        await asyncio.sleep(0)
    assert sent == []


def test_a_closed_loop_is_no_error() -> None:
    loop = asyncio.new_event_loop()
    loop.close()
    uplink = Uplink(loop, lambda *_: None)
    uplink.put(b"", 1)
    uplink.put(b"", 2)
    assert uplink.sent == 0


async def test_the_descriptor_goes_with_the_last_holder_and_not_before() -> None:
    before = set(os.listdir("/proc/self/fd"))
    uplink = Uplink(asyncio.get_running_loop(), lambda *_: None)
    opened = set(os.listdir("/proc/self/fd")) - before
    uplink.stop()
    uplink.stop()
    assert opened <= set(os.listdir("/proc/self/fd")), "the capture thread may be writing to it"
    del uplink
    gc.collect()
    assert not opened & set(os.listdir("/proc/self/fd"))


async def test_a_frame_put_while_the_loop_sends_is_sent_too() -> None:
    sent: list[int] = []

    def send(_: bytes, stamp: int) -> None:
        sent.append(stamp)
        if stamp == 1:
            uplink.put(b"", 2)

    uplink = Uplink(asyncio.get_running_loop(), send)
    uplink.put(b"", 1)
    await until(lambda: sent == [1, 2])
    uplink.stop()


async def test_where_any_thread_may_send_the_frame_leaves_in_its_own() -> None:
    sent: list[tuple[int, int]] = []
    uplink = Uplink(
        asyncio.get_running_loop(),
        lambda _, stamp: sent.append((stamp, threading.get_ident())),
        lambda: True,
    )
    thread = threading.Thread(target=uplink.put, args=(b"", 7))
    thread.start()
    thread.join(5)  # the loop stands still meanwhile
    assert sent == [(7, thread.ident)]
    uplink.stop()
    uplink.put(b"", 8)
    assert len(sent) == 1


async def test_frames_that_wait_for_the_loop_leave_before_the_next() -> None:
    sent: list[int] = []
    allowed = False
    uplink = Uplink(asyncio.get_running_loop(), lambda _, stamp: sent.append(stamp), lambda: allowed)
    uplink.put(b"", 1)
    allowed = True
    uplink.put(b"", 2)
    await until(lambda: len(sent) == 2)
    assert sent == [1, 2]


async def test_stop_waits_for_the_frame_that_is_just_leaving() -> None:
    leaving, go_on = threading.Event(), threading.Event()
    sent: list[int] = []

    def send(_: bytes, stamp: int) -> None:
        leaving.set()
        go_on.wait(5)
        sent.append(stamp)

    uplink = Uplink(asyncio.get_running_loop(), send, lambda: True)
    thread = threading.Thread(target=uplink.put, args=(b"", 1))
    thread.start()
    leaving.wait(5)
    threading.Timer(0.05, go_on.set).start()
    uplink.stop()
    assert sent == [1]
    await asyncio.to_thread(thread.join, 5)
