"""Woken from another thread, with eventfd and where the kernel has none."""

from __future__ import annotations

import errno
import os
import select
import threading
from collections.abc import Iterator

import pytest

from voicemeet_edge.wake import Wake

LIMIT_MS = 20_000  # ms, a limit: the machine may stand still


def no_eventfd(*_: int) -> int:
    raise OSError(errno.ENOSYS, "Function not implemented")


@pytest.fixture(params=["eventfd", "refused", "unknown to Python"])
def wake(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Wake]:
    if request.param == "refused":
        monkeypatch.setattr(os, "eventfd", no_eventfd)
    elif request.param == "unknown to Python":
        monkeypatch.delattr(os, "eventfd")
    one = Wake()
    yield one
    one.close()


def readable(wake: Wake, limit_ms: int = 0) -> bool:
    poller = select.poll()
    poller.register(wake, select.POLLIN)
    return bool(poller.poll(limit_ms))


def test_it_wakes_from_another_thread_until_cleared(wake: Wake) -> None:
    assert not readable(wake)
    thread = threading.Thread(target=wake.set)
    thread.start()
    assert readable(wake, LIMIT_MS)
    thread.join()
    wake.clear()
    assert not readable(wake)
    wake.clear()  # nothing to take away is no error
    wake.set()
    assert readable(wake)


def test_many_wakes_never_block_nor_are_they_lost(wake: Wake) -> None:
    for _ in range(20_000):  # more than a pipe holds
        wake.set()
    assert readable(wake)
    for _ in range(20_000):
        if not readable(wake):
            return
        wake.clear()
    pytest.fail("still readable")


def test_nothing_stays_open(wake: Wake) -> None:
    before = len(os.listdir("/proc/self/fd"))
    other = Wake()
    other.close()
    assert len(os.listdir("/proc/self/fd")) == before
