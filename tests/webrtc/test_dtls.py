"""DTLS records in whole datagrams."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from voicemeet_edge.webrtc import dtls


@given(st.integers(1, 40), st.integers(0, 700))
def test_records_are_packed_whole(count: int, size: int) -> None:
    record = bytes(11) + size.to_bytes(2, "big") + bytes(size)
    datagrams = dtls.split_records(record * count)
    assert b"".join(datagrams) == record * count
    assert all(len(datagram) <= dtls.DATAGRAM_BYTES for datagram in datagrams)
    assert all(len(datagram) % len(record) == 0 for datagram in datagrams)
