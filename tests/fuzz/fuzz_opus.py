"""Fuzz target of the Opus reader and decoder: `OpusError` is the accept list, see voice/opus.py."""

from __future__ import annotations

from voicemeet_edge.voice.format import FRAME_SAMPLES
from voicemeet_edge.voice.opus import MAX_PACKET_SAMPLES, OpusDecoder, OpusEncoder, OpusError, parse_packet


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


def fuzz_one(data: bytes) -> None:
    """Hand any bytes to parser and decoder; OpusError is the only accepted outcome beside success."""
    decoder = OpusDecoder()
    try:
        info = parse_packet(data)
        if not 0 < info.samples <= MAX_PACKET_SAMPLES:
            raise AssertionError("the parser let an impossible length through")
    except OpusError:
        pass
    for fec in (False, True):
        try:
            decoded = decoder.decode(data, fec)
        except OpusError:
            continue
        if not 0 < len(decoded) <= MAX_PACKET_SAMPLES:
            raise AssertionError("the decoder gave an impossible length")
    decoder.conceal(FRAME_SAMPLES)
