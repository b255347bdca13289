"""Fuzz target of the Phoenix frame codec.

Accept list: `FrameError`, from `decode` on any input, and from `encode` on a decoded frame only when
it sits at the size limit. Anything else, or a frame that reads back differently, is a finding.
"""

from __future__ import annotations

from voicemeet_edge.errors import FrameError
from voicemeet_edge.signaling.frames import MAX_FRAME_BYTES, Version, broadcast_of, decode, encode


def fuzz_one(data: bytes) -> None:
    """Read one input as each protocol version would, and write what was read."""
    inputs: list[tuple[str | bytes, Version]] = [(data, Version.V1), (data, Version.V2)]
    text = data.decode(errors="ignore")
    inputs += [(text, Version.V1), (text, Version.V2)]
    for message, version in inputs:
        try:
            frame = decode(message, version)
        except FrameError:
            continue
        broadcast_of(frame)
        try:
            again = encode(frame, version)
        except FrameError:
            assert len(data) > MAX_FRAME_BYTES // 2
            continue
        assert decode(again, version) == frame
