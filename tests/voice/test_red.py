"""RFC 2198: what is packed comes out again, and nothing else does."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.fuzz import fuzz_red
from voicemeet_edge.voice import red
from voicemeet_edge.voice.red import RedBlock, RedError, RedPacker, pack, unpack

copies = st.builds(
    RedBlock, st.integers(0, 127), st.integers(0, red.MAX_OFFSET), st.binary(max_size=red.MAX_BLOCK_BYTES)
)
primaries = st.builds(RedBlock, st.integers(0, 127), st.just(0), st.binary(max_size=1500))


@given(st.lists(copies, max_size=red.MAX_BLOCKS - 1), primaries)
def test_round_trip(older: list[RedBlock], primary: RedBlock) -> None:
    blocks = [*older, primary]
    assert unpack(pack(blocks)) == blocks


@given(st.binary(max_size=1600))
@example(b"")
@example(b"\x80\x00\x00")
@example(b"\xef\x00\x0f\xff\x6f")
@example(b"\x80\x00\x00\x00" * 5 + b"\x00")
def test_any_bytes(data: bytes) -> None:
    fuzz_red.fuzz_one(data)


def test_the_bytes_on_the_wire() -> None:
    # RFC 2198 §4 in small: one copy, 960 samples old, of three bytes; then the primary.
    packed = pack([RedBlock(111, 960, b"abc"), RedBlock(111, 0, b"de")])
    assert packed == bytes([0x80 | 111, 960 >> 6, (960 & 63) << 2, 3, 111]) + b"abcde"


def test_what_does_not_fit_is_refused() -> None:
    primary = RedBlock(111, 0, b"x")
    for blocks in (
        [],
        [RedBlock(111, 960, b"x")],
        [primary] * 6,
        [RedBlock(1, 1 << 14, b""), primary],
        [RedBlock(1, 0, bytes(1024)), primary],
    ):
        with pytest.raises(RedError):
            pack(blocks)
    with pytest.raises(RedError):
        RedPacker(111, (0,))
    with pytest.raises(RedError):
        RedPacker(111, (1, 2, 3, 4, 5))


def test_packer_sends_the_frames_at_its_distances_in_one_size() -> None:
    packer = RedPacker(111, (1, 3))
    start = 0xFFFFFFFF - 2000  # the timestamp wraps on the way
    packed = [packer.pack(bytes([n]) * 50, (start + n * 960) & 0xFFFFFFFF) for n in range(8)]
    assert {len(payload) for payload in packed} == {159}
    assert [(b.offset, b.payload[0]) for b in unpack(packed[6])] == [(2880, 3), (960, 5), (0, 6)]
    assert [(b.offset, b.payload[0]) for b in unpack(packed[0])] == [(0, 0), (0, 0), (0, 0)]


def test_a_new_class_forgets_frames_of_another_size() -> None:
    packer = RedPacker(111, (1,))
    packer.pack(bytes(50), 0)
    packer.set_distances((2,))
    assert [len(block.payload) for block in unpack(packer.pack(bytes(80), 960))] == [80, 80]
