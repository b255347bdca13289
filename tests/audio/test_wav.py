"""WAV files as the world writes them: every way of storing the same tone gives the same tone."""

from __future__ import annotations

import io
import struct
import wave
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import pytest

from tests.fuzz.fuzz_wav import chunk, wav
from voicemeet_edge.audio.wav import MAX_CHUNKS, read_wav, resample, write_wav
from voicemeet_edge.testing.signals import speech_like


def tone(hz: float, rate: int) -> npt.NDArray[np.float64]:
    """One second, a third of full scale."""
    return np.asarray(10_000 * np.sin(2 * np.pi * hz * np.arange(rate) / rate))


TONE = np.round(0.6 * tone(440, 48_000)).astype("<i2")
PLAIN = TONE.tobytes()


def whole(bits: int, end: str = "<") -> bytes:
    """The tone in as many bits."""
    width = bits // 8
    if bits == 8:
        return bytes(((TONE.astype(int) >> 8) + 128).astype("u1"))
    order: Literal["little", "big"] = "little" if end == "<" else "big"
    return b"".join((int(s) << bits - 16).to_bytes(width, order, signed=True) for s in TONE)


def mu_law() -> bytes:
    """The tone by the encoder of ITU-T G.711, written apart from the decoder under test."""
    out = bytearray()
    for sample in TONE.astype(int):
        size = min(abs(int(sample)), 32635) + 132
        exponent = size.bit_length() - 8
        out.append(~((sample < 0) << 7 | exponent << 4 | (size >> exponent + 3) & 15) & 0xFF)
    return bytes(out)


def a_law() -> bytes:
    out = bytearray()
    for sample in TONE.astype(int):
        size = abs(int(sample)) >> 3
        exponent = max(0, size.bit_length() - 5)
        mantissa = (size >> max(1, exponent)) & 15
        out.append(((sample >= 0) << 7 | exponent << 4 | mantissa) ^ 0x55)
    return bytes(out)


FLOATS = TONE / 32768.0
DS64 = chunk(b"ds64", struct.pack("<QQQI", 0, len(PLAIN), 0, 0))
STORED = {
    "plain": (wav(PLAIN), 0),
    "EXTENSIBLE": (wav(PLAIN, extensible=True), 0),
    "EXTENSIBLE 24 bits in 32": (wav(whole(32), bits=32, extensible=True, valid=24), 0),
    "EXTENSIBLE float": (wav(FLOATS.astype("<f4").tobytes(), tag=3, bits=32, extensible=True), 0),
    "LIST of odd length before": (wav(PLAIN, before=chunk(b"LIST", b"INFOISFT\x05\0\0\0Lavf\0")), 0),
    "chunks after the sound": (wav(PLAIN) + chunk(b"LIST", bytes(2000)), 0),
    "pipe: 0xFFFFFFFF": (wav(PLAIN, size=0xFFFFFFFF), 0),
    "pipe: 0": (wav(PLAIN, size=0), 0),
    "pipe: too long": (wav(PLAIN, size=0x7FFFF000), 0),
    "a fmt chunk with more in it": (wav(PLAIN, more=b"\0" * 23), 0),
    "RF64": (wav(PLAIN, head=b"RF64", size=0xFFFFFFFF, first=DS64) + chunk(b"bext", bytes(700)), 0),
    "RIFX": (wav(TONE.astype(">i2").tobytes(), head=b"RIFX"), 0),
    "8 bits": (wav(whole(8), bits=8), 256),
    "20 bits in 24": (wav(whole(24), bits=20, align=3), 1),
    "24 bits": (wav(whole(24), bits=24), 1),
    "24 bits, RIFX": (wav(whole(24, ">"), bits=24, head=b"RIFX"), 1),
    "32 bits": (wav(whole(32), bits=32), 1),
    "48 bits": (wav(whole(48), bits=48), 1),
    "64 bits": (wav(whole(64), bits=64), 1),
    "float": (wav(FLOATS.astype("<f4").tobytes(), tag=3, bits=32), 1),
    "double": (wav(FLOATS.astype("<f8").tobytes(), tag=3, bits=64), 1),
    "mu-law": (wav(mu_law(), tag=7, bits=8), 520),
    "A-law": (wav(a_law(), tag=6, bits=8), 520),
    "six channels": (wav(np.repeat(TONE, 6).astype("<i2").tobytes(), channels=6), 1),
}


@pytest.mark.parametrize("name", STORED)
def test_however_it_is_stored(name: str) -> None:
    data, close = STORED[name]
    heard = read_wav(io.BytesIO(data)).astype(int)
    assert len(heard) == len(TONE)
    assert np.abs(heard - TONE).max() <= close


@pytest.mark.parametrize("rate", [8000, 11_025, 16_000, 22_050, 44_100, 96_000, 192_000])
def test_any_rate_becomes_48_khz_mono(tmp_path: Path, rate: int) -> None:
    path = tmp_path / "tone.wav"
    stereo = np.repeat(tone(440, rate).astype("<i2"), 2)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(2)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(stereo.tobytes())
    got = read_wav(path)
    assert abs(len(got) - 48_000) <= 2
    middle = slice(2000, 46_000)
    assert np.abs(got[middle] - tone(440, 48_000)[middle]).max() < 100


def test_cut_off_in_the_middle_is_read_so_far() -> None:
    heard = read_wav(io.BytesIO(wav(PLAIN)[:40_001]))
    np.testing.assert_array_equal(heard, TONE[: len(heard)])
    assert len(heard) == (40_001 - 44) // 2


def test_floats_beyond_full_scale_are_clipped_and_what_is_no_number_is_silence() -> None:
    data = np.array([2.0, -2.0, np.nan, np.inf], "<f4").tobytes()
    assert list(read_wav(io.BytesIO(wav(data, tag=3, bits=32)))) == [32767, -32768, 0, 32767]


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"", "an empty file"),
        (b"ID3\x04" + bytes(2000), "not a WAV file"),
        (wav(PLAIN, tag=0x55), "compressed"),
        (wav(PLAIN, tag=2, bits=4), "compressed"),
        (wav(PLAIN)[:30], "cut off"),
        (wav(PLAIN)[:36], "cut off"),
        (wav(PLAIN, before=struct.pack("<4sI", b"LIST", 1 << 30)), "cut off before the sound"),
        (wav(PLAIN, channels=0), "0 channels"),
        (wav(PLAIN, rate=0), "at 0 Hz"),
        (wav(PLAIN, tag=3, bits=16), "16 bits in 2 bytes"),
        (wav(PLAIN, bits=30, align=2), "30 bits in 2 bytes"),
        (b"RIFF\0\0\0\0WAVEdata\4\0\0\0abcd", "before its format"),
        (b"RIFF\0\0\0\0WAVE" + chunk(b"junk", b"") * (MAX_CHUNKS + 1), "no sound"),
    ],
)
def test_what_cannot_be_read_says_why(data: bytes, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        read_wav(io.BytesIO(data))


def test_a_path_is_named_in_the_sentence(tmp_path: Path) -> None:
    (tmp_path / "song.wav").write_bytes(b"OggS" + bytes(100))
    with pytest.raises(ValueError, match=r"song\.wav: not a WAV file"):
        read_wav(tmp_path / "song.wav")


def test_written_is_read(tmp_path: Path) -> None:
    write_wav(tmp_path / "x.wav", speech_like(0.5))
    np.testing.assert_array_equal(read_wav(tmp_path / "x.wav"), speech_like(0.5))


def test_a_fast_converter_needs_no_more_memory_than_its_table_allows() -> None:
    samples: npt.NDArray[np.float64] = tone(440, 768_000)
    heard = resample(samples, 48_000 / 768_000)
    assert np.abs(heard[2000:-2000] - tone(440, 48_000)[2000 : 48_000 - 2000]).max() < 100
