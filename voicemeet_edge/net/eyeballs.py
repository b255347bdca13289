"""Several ways to the same server, tried side by side: Happy Eyeballs, RFC 8305.

One rule: one way that leads nowhere never costs more than a quarter of a second. All connections of a device
are made here: verbs, WebSocket, STUN, and TURN by UDP, TCP and TLS.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from voicemeet_edge.net.names import NAMES, Names
from voicemeet_edge.net.small_messages import send_at_once

ATTEMPT_DELAY_S = 0.25  # s before the next address is tried beside the last (RFC 8305 §8)
MAX_ATTEMPTS = 8  # addresses tried; a name has two to four

T = TypeVar("T")


async def race(
    attempts: Sequence[Callable[[], Awaitable[T]]],
    *,
    discard: Callable[[T], None],
    decisive: tuple[type[BaseException], ...] = (),
    delay_s: float = ATTEMPT_DELAY_S,
) -> T:
    """Return what the first attempt to succeed gives; the others are cancelled, or discarded.

    The next one begins when the last has failed, or after `delay_s` beside it. A limit is the caller's.

    Args:
        attempts: ways to try, the best first.
        discard: frees what an attempt gave that came too late.
        decisive: errors that are the server's answer, which the other ways would give too.
        delay_s: seconds.

    Raises:
        OSError: there are no attempts.
        Exception: what is decisive; else what the first attempt raised, when all failed.
    """
    waiting = list(attempts[:MAX_ATTEMPTS])
    running: list[asyncio.Future[T]] = []
    failures: dict[int, BaseException] = {}
    started: list[asyncio.Future[T]] = []
    try:
        while waiting or running:
            if waiting:
                new: asyncio.Future[T] = asyncio.ensure_future(waiting.pop(0)())
                running.append(new)
                started.append(new)
            done, _ = await asyncio.wait(
                running, timeout=delay_s if waiting else None, return_when=asyncio.FIRST_COMPLETED
            )
            for task in [one for one in running if one in done]:  # the better way first
                running.remove(task)
                error = asyncio.CancelledError() if task.cancelled() else task.exception()
                if error is None:
                    started.remove(task)
                    return task.result()
                if isinstance(error, decisive):
                    raise error
                failures[started.index(task)] = error
    finally:
        for task in started:
            task.add_done_callback(lambda late: _let_go(late, discard))
            task.cancel()
    raise failures[min(failures)] if failures else OSError("the name has no address")


def _let_go(task: asyncio.Future[T], discard: Callable[[T], None]) -> None:
    if not task.cancelled() and task.exception() is None:
        discard(task.result())


async def connect(host: str, port: int, *, names: Names = NAMES) -> socket.socket:
    """Return a connected TCP socket, not blocking, to the first address of the host that takes it.

    A limit is the caller's.

    Raises:
        OSError: the name has no address, or none of them takes connections.
    """
    addresses = await names.resolve(host)
    one = await race([_dial(address, port) for address in addresses], discard=socket.socket.close)
    names.worked(host, str(one.getpeername()[0]))
    return one


def _dial(address: str, port: int) -> Callable[[], Awaitable[socket.socket]]:
    async def attempt() -> socket.socket:
        family = socket.AF_INET6 if ipaddress.ip_address(address).version == 6 else socket.AF_INET
        one = socket.socket(family, socket.SOCK_STREAM)
        try:
            one.setblocking(False)
            send_at_once(one)
            await asyncio.get_running_loop().sock_connect(one, (address, port))
        except BaseException:
            one.close()
            raise
        return one

    return attempt
