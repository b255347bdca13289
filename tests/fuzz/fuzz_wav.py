"""Fuzz target of the WAV reader: `ValueError` is the accept list, see audio/wav.py."""

from __future__ import annotations

import contextlib
import io
import struct

import numpy as np

from voicemeet_edge.audio.wav import read_wav


def chunk(name: bytes, data: bytes) -> bytes:
    """Return a RIFF chunk, padded to an even length."""
    return name + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2)


def wav(
    samples: bytes,
    *,
    tag: int = 1,
    bits: int = 16,
    rate: int = 48_000,
    channels: int = 1,
    align: int | None = None,
    valid: int | None = None,
    extensible: bool = False,
    head: bytes = b"RIFF",
    first: bytes = b"",
    more: bytes = b"",
    before: bytes = b"",
    size: int | None = None,
) -> bytes:
    """Return a WAV file with this format and these bytes of sound."""
    end = ">" if head == b"RIFX" else "<"
    align = channels * ((bits + 7) // 8) if align is None else align
    form = struct.pack(
        f"{end}HHIIHH", 0xFFFE if extensible else tag, channels, rate, rate * align & 0xFFFFFFFF, align, bits
    )
    if extensible:
        form += struct.pack("<HHIH", 22, valid or bits, 4, tag) + bytes.fromhex(
            "000000001000800000aa00389b71"
        )
    form += more
    length = len(samples) if size is None else size
    body = first + b"fmt " + struct.pack(f"{end}I", len(form)) + form + b"\0" * (len(form) % 2) + before
    return (
        head
        + struct.pack(f"{end}I", 0xFFFFFFFF)
        + b"WAVE"
        + body
        + b"data"
        + struct.pack(f"{end}I", length)
        + samples
    )


def fuzz_one(data: bytes) -> None:
    """Read it; what comes out are samples or a sentence."""
    with contextlib.suppress(ValueError):
        assert read_wav(io.BytesIO(data[:4096])).dtype == np.int16


SOUND = bytes(range(200))
SEEDS = (
    wav(SOUND),
    wav(SOUND, extensible=True),
    wav(SOUND, bits=24, rate=44_100, channels=2),
    wav(SOUND, tag=3, bits=32, rate=8000),
    wav(SOUND, tag=6, bits=8),
    wav(SOUND, head=b"RIFX"),
    wav(SOUND, head=b"RF64", size=0xFFFFFFFF, first=chunk(b"ds64", struct.pack("<QQQI", 0, 200, 0, 0))),
)
TOKENS = (b"RIFF", b"RIFX", b"RF64", b"fmt ", b"data", b"LIST", b"\xfe\xff", b"\xff\xff\xff\xff")
