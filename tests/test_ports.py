"""The reserved port: nobody else gets it, the server it is for does."""

from __future__ import annotations

import socket

import pytest

from tests.ports import reserved_port


def test_only_who_asks_for_it_gets_it() -> None:
    port = reserved_port()
    with socket.socket() as other, pytest.raises(OSError, match="in use"):
        other.bind(("127.0.0.1", port))
    with socket.create_server(("127.0.0.1", port)) as server:  # sets SO_REUSEADDR
        socket.create_connection(server.getsockname()).close()
