"""What arrives on a real notification socket."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from voicemeet_edge.system import notify
from voicemeet_edge.system.notify import Notifier, feed_watchdog, watchdog_interval_s


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """The socket systemd would listen on."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(30)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        yield manager


def test_every_message(manager: socket.socket) -> None:
    notifier = Notifier()
    notifier.ready("idle")
    notifier.ready()
    notifier.status("in a call\nREADY=0")
    notifier.alive()
    notifier.stopping()
    assert [manager.recv(1024) for _ in range(5)] == [
        b"READY=1\nSTATUS=idle",
        b"READY=1",
        b"STATUS=in a call READY=0",
        b"WATCHDOG=1",
        b"STOPPING=1",
    ]


def test_outside_systemd_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    Notifier().ready()


def test_a_manager_that_is_gone_raises_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "nobody"))
    Notifier().alive()


def test_a_manager_that_reads_nothing_holds_nobody_up(
    manager: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    # With sd_notify(3) the whole process stands still here, for good.
    monkeypatch.setattr(notify, "SEND_LIMIT_S", 0.01)
    more = int(Path("/proc/sys/net/unix/max_dgram_qlen").read_text()) + 10
    for _ in range(more):
        Notifier().alive()
    manager.setblocking(False)
    taken = 0
    with contextlib.suppress(BlockingIOError):
        while manager.recv(1024):
            taken += 1
    assert 0 < taken < more
    Notifier().stopping()
    assert manager.recv(1024) == b"STOPPING=1"


def test_a_manager_of_the_abstract_namespace(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind("")  # the kernel chooses a name
        manager.settimeout(30)
        monkeypatch.setenv("NOTIFY_SOCKET", "@" + manager.getsockname()[1:].decode())
        Notifier().ready()
        assert manager.recv(1024) == b"READY=1"


@pytest.mark.parametrize(
    ("usec", "pid", "expected"),
    [
        ("30000000", None, 15.0),
        pytest.param("30000000", str(os.getpid()), 15.0, id="our own"),  # the same name in every process
        ("30000000", "1", None),
        ("0", None, None),
        ("soon", None, None),
        (None, None, None),
    ],
)
def test_watchdog_interval(
    monkeypatch: pytest.MonkeyPatch, usec: str | None, pid: str | None, expected: float | None
) -> None:
    for name, value in (("WATCHDOG_USEC", usec), ("WATCHDOG_PID", pid)):
        monkeypatch.delenv(name, raising=False)
        if value is not None:
            monkeypatch.setenv(name, value)
    assert watchdog_interval_s() == expected


class Dog:
    """Counts its meals; waits for the third."""

    def __init__(self) -> None:
        self.meals = 0
        self.full = asyncio.Event()

    def alive(self) -> None:
        self.meals += 1
        if self.meals == 3:
            self.full.set()


async def test_the_dog_is_fed_while_all_is_well(caplog: pytest.LogCaptureFixture) -> None:
    dog = Dog()
    health = iter([True, False, False, True, True])
    task = asyncio.create_task(feed_watchdog(dog, lambda: next(health, False), interval_s=0.001))
    async with asyncio.timeout(30):
        await dog.full.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert dog.meals == 3
    assert caplog.text.count("Health check fails") >= 1


async def test_without_a_watchdog_feeding_ends_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WATCHDOG_USEC", raising=False)
    dog = Dog()
    await feed_watchdog(dog, lambda: True)
    assert dog.meals == 0
