"""Redundant audio data (RFC 2198): the frames before ride along, so that a loss costs only a wait.

The one rule: what comes from the wire is checked against every limit before it is sliced.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from voicemeet_edge.errors import RemoteError

MAX_BLOCKS = 5  # blocks; primary and four copies, as many as any browser sends
MAX_OFFSET = (1 << 14) - 1  # samples; width of the timestamp offset (RFC 2198 §3)
MAX_BLOCK_BYTES = (1 << 10) - 1  # bytes; width of the block length (RFC 2198 §3)
HEADER_BYTES = 4  # bytes before each copy; the primary's header is one byte


class RedError(RemoteError):
    """Not an RFC 2198 payload, or beyond our limits."""

    code = "bad_red"


class RedBlock(NamedTuple):
    """One frame of a RED payload."""

    payload_type: int
    offset: int
    """Samples this frame is older than the packet's timestamp; 0 for the primary."""
    payload: bytes


def pack(blocks: list[RedBlock]) -> bytes:
    """Wrap frames, oldest first, the primary (offset 0) last (RFC 2198 §3).

    Raises:
        RedError: too many blocks, or one that does not fit its header.
    """
    if not 1 <= len(blocks) <= MAX_BLOCKS or blocks[-1].offset != 0:
        raise RedError("a RED payload has one primary, last, and at most four copies")
    parts = []
    for block in blocks[:-1]:
        if not 0 <= block.offset <= MAX_OFFSET or len(block.payload) > MAX_BLOCK_BYTES:
            raise RedError("a RED copy is too old or too long")
        word = 1 << 31 | (block.payload_type & 0x7F) << 24 | block.offset << 10 | len(block.payload)
        parts.append(word.to_bytes(4, "big"))
    parts.append(bytes([blocks[-1].payload_type & 0x7F]))
    parts.extend(block.payload for block in blocks)
    return b"".join(parts)


def unpack(payload: bytes) -> list[RedBlock]:
    """Take a RED payload apart, oldest first, the primary last (RFC 2198 §3).

    Raises:
        RedError: truncated, without a primary, or with more blocks than we take.
    """
    if payload and not payload[0] & 0x80:  # no copies: the usual packet on a clean path
        return [RedBlock(payload[0], 0, payload[1:])]
    headers: list[tuple[int, int, int]] = []
    position = 0
    while True:
        if position >= len(payload):
            raise RedError("a RED header is cut off")
        if not payload[position] & 0x80:
            break
        if position + HEADER_BYTES > len(payload) or len(headers) == MAX_BLOCKS - 1:
            raise RedError("a RED header is cut off, or there are too many")
        word = int.from_bytes(payload[position : position + HEADER_BYTES], "big")
        headers.append((word >> 24 & 0x7F, word >> 10 & MAX_OFFSET, word & MAX_BLOCK_BYTES))
        position += HEADER_BYTES
    primary_type = payload[position]
    position += 1
    blocks = []
    for payload_type, offset, length in headers:
        if position + length > len(payload):
            raise RedError("a RED copy is cut off")
        blocks.append(RedBlock(payload_type, offset, payload[position : position + length]))
        position += length
    blocks.append(RedBlock(primary_type, 0, payload[position:]))
    return blocks


class RedPacker:
    """Keep the last frames sent and wrap each new one with those at the chosen distances."""

    def __init__(self, payload_type: int, distances: tuple[int, ...] = ()) -> None:
        self._payload_type = payload_type
        self._distances: tuple[int, ...] = ()
        self._sent: deque[tuple[int, bytes]] = deque(maxlen=1)
        self.set_distances(distances)

    def set_distances(self, distances: tuple[int, ...]) -> None:
        """Choose which earlier frames ride along, counted in frames back; forgets what was sent.

        The past is forgotten because its frames have another size: one packet size per loss class.
        """
        if len(distances) >= MAX_BLOCKS or any(not 1 <= distance <= 16 for distance in distances):
            raise RedError("at most four copies, 1 to 16 frames back")
        self._distances = tuple(sorted(distances, reverse=True))
        self._sent = deque(maxlen=max(distances, default=1))

    def pack(self, payload: bytes, timestamp: int) -> bytes:
        """Wrap `payload`; while a copy is not there yet the frame itself fills its place."""
        blocks = []
        for distance in self._distances:
            offset, copy = 0, payload
            if distance <= len(self._sent):
                sent_at, sent = self._sent[-distance]
                age = (timestamp - sent_at) & 0xFFFFFFFF
                if age <= MAX_OFFSET and len(sent) == len(payload):
                    offset, copy = age, sent
            blocks.append(RedBlock(self._payload_type, offset, copy))
        blocks.append(RedBlock(self._payload_type, 0, payload))
        self._sent.append((timestamp, payload))
        return pack(blocks)
