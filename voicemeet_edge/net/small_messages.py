"""Small messages over TCP leave at once; one rule: where that cannot be had, they only leave later."""

from __future__ import annotations

import contextlib
import socket


def send_at_once(one: socket.socket) -> None:
    """Switch off the wait for more to send (RFC 1122 §4.2.3.4), where the kernel knows how."""
    with contextlib.suppress(OSError):
        one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
