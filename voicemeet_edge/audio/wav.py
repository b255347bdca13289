"""WAV files in and out, as this project hears them: 48 kHz, mono, 16 bits.

Read are the shapes programs write: 8 to 64 bits, whole numbers or floats, A-law and mu-law, any rate and
number of channels, WAVE_FORMAT_EXTENSIBLE, RF64 and RIFX, a length of 0 or 0xFFFFFFFF from a pipe, a file cut
off in the middle. The standard library refuses most of them, EXTENSIBLE too before Python 3.12.
"""

from __future__ import annotations

import struct
import wave
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from voicemeet_edge.records import dataclass
from voicemeet_edge.voice.format import SAMPLE_RATE, Samples

Floats = npt.NDArray[np.float64]

MAX_WAV_S = 3600  # s; a file longer than this is a mistake
MAX_CHUNKS = 1000  # before the sound; broadcast files carry a dozen
MAX_HEADER_BYTES = 4096  # of the chunk `fmt `, which has 40
MAX_RATE = 768_000  # Hz; the fastest converter sold
MIN_RATE = 1_000  # Hz; below it there is no voice
MAX_CHANNELS = 64
MAX_PHASES = 1_000  # sets of taps worked out beforehand; from 22,050 Hz there are 320
TABLE_CELLS = 1 << 16  # of the resampler's table of taps: 0.5 MB an array; what a process once took it keeps

# Format tags, mmreg.h
PCM, FLOAT, A_LAW, MU_LAW, EXTENSIBLE = 1, 3, 6, 7, 0xFFFE
_GUID_END = bytes.fromhex("000000001000800000aa00389b71")  # of every KSDATAFORMAT_SUBTYPE_… that is a tag
_ENDS = {b"RIFF": "<", b"RF64": "<", b"BW64": "<", b"RIFX": ">"}


@dataclass(frozen=True, slots=True)
class _Format:
    tag: int
    channels: int
    rate: int
    """Hz."""
    width: int
    """Bytes of one sample as stored; fewer bits than these are to the left."""
    end: str
    """`<` or `>`."""


def read_wav(source: str | Path | BinaryIO) -> Samples:
    """Read a WAV as 48 kHz mono; other rates are converted, more channels are averaged.

    Raises:
        ValueError: not a WAV file, or not one we can use; the sentence says why.
        OSError: the file cannot be read.
    """
    if isinstance(source, str | Path):
        with Path(source).open("rb") as file:
            return _read(file, str(source))
    return _read(source, "WAV")


def _read(file: BinaryIO, name: str) -> Samples:
    try:
        form, data = _chunks(file)
        mono = _samples(form, data)
    except (ValueError, struct.error) as error:
        why = "cut off" if isinstance(error, struct.error) else error
        raise ValueError(f"{name}: {why}") from None
    if form.rate != SAMPLE_RATE:
        mono = resample(mono, SAMPLE_RATE / form.rate)
    return np.asarray(np.clip(np.rint(mono), -32768, 32767)).astype(np.int16)


def _chunks(file: BinaryIO) -> tuple[_Format, bytes]:
    """Return the format and the bytes of the sound."""
    head = file.read(12)
    end = _ENDS.get(head[:4])
    if end is None or head[8:12] != b"WAVE":
        raise ValueError("not a WAV file" if head else "an empty file")
    form: _Format | None = None
    long_size: int | None = None
    for _ in range(MAX_CHUNKS):
        name, size = struct.unpack(f"{end}4sI", file.read(8))
        if name == b"data":
            if form is None:
                raise ValueError("the sound comes before its format")
            frame = form.width * form.channels
            # A pipe leaves 0, 0xFFFFFFFF or a guess as length; a length that is told is kept to, since
            # other chunks may follow.
            limit = MAX_WAV_S * form.rate * frame
            told = long_size if size in (0, 0xFFFFFFFF) else size
            data = file.read(limit if told is None else min(told, limit))
            return form, data[: len(data) // frame * frame]
        begin = file.read(min(size, MAX_HEADER_BYTES)) if name in (b"fmt ", b"ds64") else b""
        if name == b"fmt ":
            form = _format(begin, end)
        elif name == b"ds64":  # ITU-R BS.2088: the lengths that do not fit into 32 bits
            (long_size,) = struct.unpack_from(f"{end}Q", begin, 8)
        _skip(file, size + (size & 1) - len(begin))
    raise ValueError("no sound in its first chunks")


def _skip(file: BinaryIO, size: int) -> None:
    while size > 0:
        data = file.read(min(size, 1 << 16))
        if not data:
            raise ValueError("cut off before the sound")
        size -= len(data)


def _format(data: bytes, end: str) -> _Format:
    tag, channels, rate, _, align, bits = struct.unpack_from(f"{end}HHIIHH", data)
    if tag == EXTENSIBLE:
        if len(data) < 40 or data[26:40] != _GUID_END:
            raise ValueError("an EXTENSIBLE format that is not known here")
        (tag,) = struct.unpack_from(f"{end}H", data, 24)
    width = align // channels if channels and align and align % channels == 0 else (bits + 7) // 8
    widths = {PCM: range(1, 9), FLOAT: (4, 8), A_LAW: (1,), MU_LAW: (1,)}
    if tag not in widths:
        raise ValueError(f"compressed sound (format {tag:#06x}); save it as PCM")
    if not 1 <= channels <= MAX_CHANNELS or not MIN_RATE <= rate <= MAX_RATE:
        raise ValueError(
            f"{channels} channels at {rate} Hz; 1 to {MAX_CHANNELS} and {MIN_RATE} to {MAX_RATE} expected"
        )
    if width not in widths[tag] or bits > 8 * width:
        raise ValueError(f"samples of {bits} bits in {width} bytes")
    return _Format(tag, channels, rate, width, end)


def _samples(form: _Format, data: bytes) -> Floats:
    """Return the mean of all channels, in the range of 16 bits."""
    match form.tag:
        case 3:
            values = np.frombuffer(data, f"{form.end}f{form.width}").astype(np.float64)
            values = np.clip(np.nan_to_num(values), -1.0, 1.0) * 32768.0
        case 6:
            values = _A_LAW_TABLE[np.frombuffer(data, np.uint8)]
        case 7:
            values = _MU_LAW_TABLE[np.frombuffer(data, np.uint8)]
        case _:
            values = _whole_numbers(form, data)
    return values.reshape(-1, form.channels).mean(axis=1) if form.channels > 1 else values


def _whole_numbers(form: _Format, data: bytes) -> Floats:
    if form.width == 1:
        return (np.frombuffer(data, np.uint8).astype(np.float64) - 128.0) * 256.0  # bytes alone are unsigned
    if form.width in (2, 4, 8):
        values = np.frombuffer(data, f"{form.end}i{form.width}").astype(np.float64)
        return np.asarray(values / 2.0 ** (8 * form.width - 16))
    table = np.frombuffer(data, np.uint8).reshape(-1, form.width)
    if form.end == "<":
        table = table[:, ::-1]
    # The three highest bytes are more than we can hear.
    high = table[:, 0].astype(np.int8).astype(np.float64)
    return np.asarray(high * 256.0 + table[:, 1] + table[:, 2] / 256.0)


def _a_law() -> Floats:
    """ITU-T G.711 table 1: 13 bits in 8, even bits inverted."""
    code = np.arange(256) ^ 0x55
    exponent, mantissa = (code >> 4) & 7, code & 15
    size = np.where(exponent == 0, 2 * mantissa + 1, (2 * mantissa + 33) << np.maximum(exponent - 1, 0))
    return np.where(code & 0x80, size, -size) * 8.0


def _mu_law() -> Floats:
    """ITU-T G.711 table 2: 14 bits in 8, all bits inverted."""
    code = ~np.arange(256) & 0xFF
    exponent, mantissa = (code >> 4) & 7, code & 15
    size = ((2 * mantissa + 33) << exponent) - 33
    return np.where(code & 0x80, -size, size) * 4.0


_A_LAW_TABLE, _MU_LAW_TABLE = _a_law(), _mu_law()


def write_wav(path: str | Path, samples: Samples, rate: int = SAMPLE_RATE) -> None:
    """Write mono 16-bit samples."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(samples.astype("<i2").tobytes())


def resample(samples: npt.NDArray[np.float64], ratio: float) -> npt.NDArray[np.float64]:
    """Change the number of samples by `ratio` with a windowed sinc (16 zero crossings a side).

    Between two usual rates the taps are the same again after some samples (320 from 22,050 to 48,000 Hz), so
    they are worked out once for those and not for each sample.
    """
    # The product of a whole number of samples may come out a hair below.
    count = int(len(samples) * ratio + 1e-6)
    cutoff = min(1.0, ratio)
    half = int(np.ceil(16 / cutoff))
    taps = np.arange(-half + 1, half + 1)
    padded = np.concatenate([np.zeros(half), samples, np.zeros(half + 1)])
    out = np.empty(count)
    step = max(1, TABLE_CELLS // len(taps))
    exact = Fraction(ratio).limit_denominator(MAX_PHASES)
    phases = exact.numerator if abs(float(exact) - ratio) < 1e-12 and exact.numerator <= MAX_PHASES else 0
    table = _taps(np.arange(phases) / max(1, phases), taps, half, cutoff)
    for start in range(0, count, step):
        number = np.arange(start, min(start + step, count))
        if phases:
            base, phase = np.divmod(number * exact.denominator, phases)
            kernel = table[phase]
        else:
            position = number / ratio
            base = np.floor(position).astype(np.int64)
            kernel = _taps(position - base, taps, half, cutoff)
        out[start : start + len(number)] = np.einsum("ij,ij->i", padded[base[:, None] + taps + half], kernel)
    return out


def _taps(
    fraction: npt.NDArray[np.float64], taps: npt.NDArray[np.int64], half: int, cutoff: float
) -> npt.NDArray[np.float64]:
    """Return the taps for positions that lie these fractions of a sample behind one."""
    offset = taps[None, :] - fraction[:, None]
    window = 0.5 + 0.5 * np.cos(np.pi * np.clip(offset / half, -1.0, 1.0))
    return np.asarray(cutoff * np.sinc(cutoff * offset) * window)
