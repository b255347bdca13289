"""Fuzz target of the Opus reader and decoder: `OpusError` is the accept list, see voice/opus.py."""

from __future__ import annotations

from voicemeet_edge.voice.opus import OpusEncoder, fuzz_one

__all__ = ["SEEDS", "TOKENS", "fuzz_one"]


def _seeds() -> tuple[bytes, ...]:
    encoder = OpusEncoder(24_000, 0, fec=True)
    tone = b"".join(
        (round(9000 * ((i % 96) / 48 - 1))).to_bytes(2, "little", signed=True) for i in range(960)
    )
    encoded = encoder.encode(bytes(1920)), encoder.encode(tone), encoder.encode(tone)
    encoder.close()
    return (
        *encoded,
        bytes((encoded[1][0] | 1,)) + encoded[1][1:] * 2,  # two frames of one size
        bytes((encoded[1][0] | 3, 0x83, 20, 20)) + encoded[1][1:],  # three of their own sizes
        bytes((encoded[1][0] | 3, 0x42, 5)) + encoded[1][1:],  # padded
        b"\x0b\x41\xff\x10" + bytes(300),
        b"\xf8\xff\xfe",
    )


SEEDS = _seeds()
TOKENS = (b"\x03", b"\xfc", b"\xff\xff\xff", b"\xfb\x3f", b"\x78", b"\x0b", b"\x83\x30")
