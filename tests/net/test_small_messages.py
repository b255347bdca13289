"""What leaves at once, and what a kernel that cannot do it makes of it."""

from __future__ import annotations

import socket

import pytest

from voicemeet_edge.net.small_messages import send_at_once


def test_a_connection_sends_small_messages_at_once() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as one:
        send_at_once(one)
        assert one.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0


def test_a_kernel_that_does_not_know_how_costs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "TCP_NODELAY", 9999)  # no such option: ENOPROTOOPT
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as one:
        send_at_once(one)
