"""WAV files in and out, as this project hears them: 48 kHz, mono, 16 bits."""

from __future__ import annotations

import wave
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from voicemeet_edge.audio.card import SAMPLE_RATE

Samples = npt.NDArray[np.int16]

MAX_WAV_S = 3600  # s; a file longer than this is a mistake


def read_wav(source: str | Path | BinaryIO) -> Samples:
    """Read a 16-bit WAV as 48 kHz mono; other rates are converted, more channels are averaged.

    Raises:
        ValueError: not a WAV file, or not one we can use.
        OSError: the file cannot be read.
    """
    try:
        with wave.open(str(source) if isinstance(source, Path) else source, "rb") as file:
            width, rate, channels = file.getsampwidth(), file.getframerate(), file.getnchannels()
            if width != 2 or not 1 <= channels <= 8 or not 4_000 <= rate <= 192_000:
                has = f"{channels} channels of {8 * width}-bit samples at {rate} Hz"
                raise ValueError(f"{_name(source)}: {has}; 16-bit samples expected")
            data = np.frombuffer(file.readframes(min(file.getnframes(), MAX_WAV_S * rate)), np.int16)
    except (wave.Error, EOFError) as error:
        raise ValueError(f"{_name(source)}: {error or 'cut off'}") from None
    whole = data[: len(data) // channels * channels]
    mono = whole.reshape(-1, channels).mean(axis=1) if channels > 1 else whole.astype(np.float64)
    if rate != SAMPLE_RATE:
        mono = resample(mono, SAMPLE_RATE / rate)
    return np.asarray(np.clip(np.rint(mono), -32768, 32767)).astype(np.int16)


def write_wav(path: str | Path, samples: Samples, rate: int = SAMPLE_RATE) -> None:
    """Write mono 16-bit samples."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(samples.astype("<i2").tobytes())


def resample(samples: npt.NDArray[np.float64], ratio: float) -> npt.NDArray[np.float64]:
    """Change the number of samples by `ratio` with a windowed sinc (16 zero crossings a side)."""
    count = int(
        len(samples) * ratio + 1e-6
    )  # the product of a whole number of samples may come out a hair below
    cutoff = min(1.0, ratio)
    half = int(np.ceil(16 / cutoff))
    taps = np.arange(-half + 1, half + 1)
    padded = np.concatenate([np.zeros(half), samples, np.zeros(half + 1)])
    out = np.empty(count)
    for start in range(0, count, SAMPLE_RATE):  # by the second: the table of taps stays small
        position = np.arange(start, min(start + SAMPLE_RATE, count)) / ratio
        base = np.floor(position).astype(np.int64)
        offset = taps[None, :] - (position - base)[:, None]
        window = 0.5 + 0.5 * np.cos(np.pi * np.clip(offset / half, -1.0, 1.0))
        kernel = cutoff * np.sinc(cutoff * offset) * window
        out[start : start + len(position)] = np.sum(padded[base[:, None] + taps + half] * kernel, axis=1)
    return out


def _name(source: str | Path | BinaryIO) -> str:
    return str(source) if isinstance(source, str | Path) else "WAV"
