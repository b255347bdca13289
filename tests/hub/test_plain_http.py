"""The answer to plain HTTP, for any bytes."""

from __future__ import annotations

import asyncio
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voicemeet_edge.hub.plain_http import answer_to, first_byte


@pytest.mark.parametrize(
    "head",
    [
        b"GET / HTTP/1.1\r\nHost: hub\r\nX: y",
        b"HEAD /desk/ HTTP/1.0\nhost:hub:8443\n\n",
        b"GET /a HTTP/1.1\r\nHost: [2001:db8::1]:8443\r\n\r\n",
    ],
)
def test_a_browser_is_sent_on(head: bytes) -> None:
    assert b"\r\nLocation: https://" in answer_to(head)


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"GET / HTTP/1.1\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: hub\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n",
        b"GET http://elsewhere/ HTTP/1.1\r\nHost: hub\r\n\r\n",
        b"GET /\x01 HTTP/1.1\r\nHost: hub\r\n\r\n",
        b"SSH-2.0-x\r\n",
    ],
)
def test_everybody_else_is_told(head: bytes) -> None:
    assert answer_to(head).startswith(b"HTTP/1.1 426 ")


@given(st.binary(max_size=300))
def test_no_bytes_get_a_line_into_the_answers_head(noise: bytes) -> None:
    for head in (noise, b"GET /" + noise, b"GET / HTTP/1.1\r\nHost: " + noise):
        lines = answer_to(head).partition(b"\r\n\r\n")[0].split(b"\r\n")
        assert len(lines) in (5, 6)
        assert b"\n" not in b"".join(lines)


async def test_the_first_byte_stays_where_it_is() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        waiting = asyncio.create_task(first_byte(ours))
        await asyncio.sleep(0)
        theirs.send(b"\x16\x03")
        assert await waiting == 0x16
        assert ours.recv(2) == b"\x16\x03"
        theirs.close()
        assert await first_byte(ours) is None
