"""RFC 2198 payloads. Accept list: `RedError`."""

from __future__ import annotations

from voicemeet_edge.voice.red import RedError, pack, unpack


def fuzz_one(data: bytes) -> None:
    """Any bytes give blocks that pack again to the same bytes, or RedError."""
    try:
        blocks = unpack(data)
    except RedError:
        return
    if pack(blocks) != data:
        raise AssertionError("unpack and pack disagree")
