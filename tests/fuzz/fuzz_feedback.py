"""Fuzz target of the reports of what arrived (RFC 8888).

Accept list: None. What is read is within its limits, packs to what reads the same, and settles nothing
that was not sent.
"""

from __future__ import annotations

from voicemeet_edge.webrtc.feedback import (
    MAX_PACKETS,
    Arrivals,
    DepartureLog,
    pack_arrivals,
    parse_arrivals,
)

SSRC = 0x1234ABCD
SEEDS = (
    pack_arrivals(1, Arrivals(SSRC, 0xFFFE, (0.5, None, 0.0), 2.0)),
    bytes([0x80, 201, 0, 1]) + bytes(4) + pack_arrivals(1, Arrivals(SSRC, 5, (0.1,) * 30, 1.0)),
    b"",
)


def fuzz_one(data: bytes) -> None:
    """Read any bytes as a report."""
    for ssrc in {SSRC, int.from_bytes(data[8:12], "big")}:
        found = parse_arrivals(data, ssrc)
        if found is None:
            continue
        if len(found.ages) > MAX_PACKETS:
            raise AssertionError("a report beyond its limit")
        if parse_arrivals(pack_arrivals(1, found), found.ssrc) != found:
            raise AssertionError("packing and parsing disagree")
        if DepartureLog().settle(found, 0.0):
            raise AssertionError("a fate of a packet that was never sent")
