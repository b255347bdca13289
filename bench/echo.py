"""Measure an echo canceller: `python -m bench.echo --far WAV --near WAV --mic WAV [--out DIR]`.

`far` is what the loudspeaker played, `near` what the talker alone said, `mic` what the microphone heard of
both, all on one time line. Prints ERLE for each second in which only the far end spoke, STOI of the near
talker where he was alone and where both spoke, and the CPU it took; leaves a WAV and a PNG. Without --mic
a synthetic room makes it (--delay-ms, --echo-db, --drift-ppm), without --near nobody is there.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from voicemeet_edge.audio.wav import read_wav, resample, write_wav
from voicemeet_edge.testing.room import Room, erle_db, frames
from voicemeet_edge.voice.decimator import Decimator
from voicemeet_edge.voice.echo import NAMES, EchoCanceller, choose
from voicemeet_edge.voice.format import SAMPLE_RATE, VOICE_RATE, Samples

SPEAKS_DBFS = -50.0  # dBFS rms of a second; below, that party is taken to be silent
SETTLE_S = 3  # s; from here on the numbers count
MAX_DELAY = 1_440  # samples (30 ms); no canceller here adds more
WINDOW_S = 1  # s of one row of the table


@dataclass(frozen=True, slots=True)
class Result:
    """What one canceller did."""

    name: str
    cleaned: Samples
    erle: list[float | None]
    alone_stoi: float | None
    both_stoi: float | None
    both_pesq: float | None
    delay_ms: float
    cpu_ms_per_s: float

    def mean_erle(self) -> float | None:
        """Mean after the canceller has settled."""
        settled = [gain for gain in self.erle[SETTLE_S:] if gain is not None]
        return float(np.mean(settled)) if settled else None


def speaks(samples: Samples, seconds: int) -> npt.NDArray[np.bool_]:
    """Say for each second whether somebody speaks in it."""
    whole = np.zeros(seconds * SAMPLE_RATE)
    count = min(len(samples), len(whole))
    whole[:count] = samples[:count] / 32768.0
    power = np.mean(whole.reshape(seconds, SAMPLE_RATE) ** 2, axis=1)
    return np.asarray(power > 10.0 ** (SPEAKS_DBFS / 10.0))


def near_stoi(said: Samples, heard: Samples, where: npt.NDArray[np.bool_], delay: int) -> float | None:
    """Return the STOI of the seconds chosen; None when there is less than one of speech."""
    from pystoi import stoi

    chosen = [second for second in np.flatnonzero(where) if (second + 1) * SAMPLE_RATE + delay <= len(heard)]
    if not chosen:
        return None
    clean = np.concatenate([said[s * SAMPLE_RATE : (s + 1) * SAMPLE_RATE] for s in chosen]).astype(np.float64)
    noisy = np.concatenate([heard[s * SAMPLE_RATE + delay : (s + 1) * SAMPLE_RATE + delay] for s in chosen])
    return float(stoi(clean, noisy.astype(np.float64), SAMPLE_RATE))


def near_pesq(said: Samples, heard: Samples, where: npt.NDArray[np.bool_], delay: int) -> float | None:
    """Return the mean PESQ-WB of the two-second stretches that lie whole in the seconds chosen."""
    from bench.quality import score

    scores: list[float] = []
    for second in range(0, len(where) - 1, 2):
        end = (second + 2) * SAMPLE_RATE
        if where[second] and where[second + 1] and end + delay <= len(heard):
            found = score(said[second * SAMPLE_RATE : end], heard[second * SAMPLE_RATE + delay : end + delay])
            scores += [segment.pesq for segment in found.segments]
    return float(np.mean(scores)) if scores else None


def find_delay(said: Samples, heard: Samples) -> int:
    """Return by how many samples `heard` lags, up to 30 ms."""
    length = min(len(said), len(heard)) - MAX_DELAY
    if length <= 0 or not said.any():
        return 0
    clean = said[:length].astype(np.float64)
    scores = [float(np.dot(clean, heard[lag : lag + length])) for lag in range(0, MAX_DELAY, 24)]
    return int(np.argmax(scores)) * 24


def at_card_rate(samples: Samples) -> Samples:
    """Return a signal of 16 kHz at 48."""
    wide = resample(samples.astype(np.float64), SAMPLE_RATE / VOICE_RATE)
    return np.clip(np.rint(wide), -32768, 32767).astype(np.int16)


def measure(canceller: EchoCanceller, far: Samples, near: Samples, mic: Samples) -> Result:
    """Run a canceller over the recordings and judge it."""
    started = time.process_time()
    decimator = Decimator(2)
    both = [
        decimator.process(n.tobytes() + f.tobytes()) for n, f in zip(frames(mic), frames(far), strict=True)
    ]
    done = [canceller.process(near_frame, far_frame).copy() for near_frame, far_frame in both]
    cpu_s = time.process_time() - started
    # Judged at 48 kHz, against what of the microphone is in the same band.
    cleaned = at_card_rate(np.concatenate(done))
    mic = at_card_rate(np.concatenate([pair[0] for pair in both]))
    seconds = len(cleaned) // SAMPLE_RATE
    far_speaks, near_speaks = speaks(far, seconds), speaks(near, seconds)
    # An echo outlives its cause: the second after counts as far speech for "alone".
    echo_there = far_speaks | np.roll(far_speaks, 1)
    settled = np.arange(seconds) >= SETTLE_S
    delay = find_delay(near, cleaned)
    gains = erle_db(mic[: len(cleaned)], cleaned)
    return Result(
        name=canceller.name,
        cleaned=cleaned,
        erle=[g if far_speaks[i] and not near_speaks[i] else None for i, g in enumerate(gains[:seconds])],
        alone_stoi=near_stoi(near, cleaned, near_speaks & ~echo_there & settled, delay),
        both_stoi=near_stoi(near, cleaned, near_speaks & far_speaks & settled, delay),
        both_pesq=near_pesq(near, cleaned, near_speaks & far_speaks & settled, delay),
        delay_ms=delay / 48.0,
        cpu_ms_per_s=cpu_s * 1000.0 * SAMPLE_RATE / len(cleaned),
    )


def show(value: float | None, digits: int = 1) -> str:
    """Print a number, or a dash where there was nothing to measure."""
    return "-" if value is None else f"{value:.{digits}f}"


def report(results: list[Result]) -> str:
    """Return the tables."""
    lines = [
        "ERLE (dB) per second in which only the far end spoke",
        "   s  " + "  ".join(f"{r.name:>11}" for r in results),
    ]
    for second in range(max(len(r.erle) for r in results)):
        row = [show(r.erle[second]) if second < len(r.erle) else "-" for r in results]
        lines.append(f"{second:4}  " + "  ".join(f"{cell:>11}" for cell in row))
    lines.append("")
    rows = [
        (f"mean ERLE after {SETTLE_S} s (dB)", [show(r.mean_erle()) for r in results]),
        ("near alone, STOI", [show(r.alone_stoi, 3) for r in results]),
        ("both speak, near's STOI", [show(r.both_stoi, 3) for r in results]),
        ("both speak, near's PESQ-WB", [show(r.both_pesq, 2) for r in results]),
        ("delay added (ms)", [show(r.delay_ms) for r in results]),
        ("CPU (ms per s)", [show(r.cpu_ms_per_s) for r in results]),
    ]
    lines.append(f"{'':30}" + "".join(f"{r.name:>13}" for r in results))
    lines += [f"{label:30}" + "".join(f"{cell:>13}" for cell in cells) for label, cells in rows]
    return "\n".join(lines)


def draw(path: Path, mic: Samples, results: list[Result]) -> None:
    """Leave a picture: ERLE over time, and the microphone before and after."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1 + len(results), 1, figsize=(11, 3 + 2 * len(results)), sharex=True)
    for result in results:
        gains = [np.nan if gain is None else gain for gain in result.erle]
        axes[0].plot(np.arange(len(gains)) + 0.5, gains, marker="o", label=result.name)
    axes[0].axhline(30, color="grey", linestyle=":")
    axes[0].set_ylabel("ERLE (dB)")
    axes[0].legend(loc="lower right")
    for axis, result in zip(axes[1:], results, strict=True):
        for samples, color in ((mic, "lightgrey"), (result.cleaned, "tab:blue")):
            axis.plot(np.arange(0, len(samples), 48) / SAMPLE_RATE, samples[::48], color=color, linewidth=0.4)
        axis.set_ylabel(result.name)
    axes[-1].set_xlabel("s")
    figure.tight_layout()
    figure.savefig(path, dpi=90)
    pyplot.close(figure)


def parse(arguments: list[str]) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        prog="bench.echo", description=(__doc__ or "").split("\n", maxsplit=1)[0]
    )
    parser.add_argument("--far", type=Path, required=True, help="what the loudspeaker played")
    parser.add_argument("--near", type=Path, help="what the talker alone said")
    parser.add_argument("--mic", type=Path, help="what the microphone heard; made by a room when missing")
    parser.add_argument("--canceller", action="append", choices=NAMES, help="default: auto and half_duplex")
    parser.add_argument("--out", type=Path, default=Path("bench-echo"), help="folder for WAV and PNG")
    parser.add_argument("--delay-ms", type=float, default=40.0)
    parser.add_argument("--echo-db", type=float, default=-6.0)
    parser.add_argument("--drift-ppm", type=float, default=0.0)
    return parser.parse_args(arguments)


def main(arguments: list[str]) -> int:
    """Measure and print."""
    options = parse(arguments)
    far = read_wav(options.far)
    near = read_wav(options.near) if options.near else np.zeros(1, np.int16)
    if options.mic:
        mic = read_wav(options.mic)
    else:
        room = Room(delay_ms=options.delay_ms, echo_db=options.echo_db, drift_ppm=options.drift_ppm)
        mic = room.microphone(far, near)
    length = max(len(mic), SAMPLE_RATE * (SETTLE_S + WINDOW_S))
    far, near, mic = (
        np.pad(signal[:length], (0, max(length - len(signal), 0))) for signal in (far, near, mic)
    )
    results = [measure(choose(name), far, near, mic) for name in options.canceller or ["auto", "half_duplex"]]
    options.out.mkdir(parents=True, exist_ok=True)
    for result in results:
        write_wav(options.out / f"cleaned-{result.name}.wav", result.cleaned)
    draw(options.out / "echo.png", mic, results)
    print(report(results))
    print(f"\nWAV and PNG in {options.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
