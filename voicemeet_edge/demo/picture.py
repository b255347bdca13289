"""The picture of a call: what was said, what was heard, and the delay over time."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes

from voicemeet_edge.audio.wav import read_wav
from voicemeet_edge.demo.judge import SEGMENT_S, Recording
from voicemeet_edge.demo.result import Direction, Result
from voicemeet_edge.voice.format import SAMPLE_RATE, Samples

mpl.use("Agg")  # no screen

from matplotlib import pyplot as plt

SAID, HEARD, DELAY, MISSED = "#8a94a6", "#1f6f8b", "#b5542d", "#c0392b"
COLUMNS = 2000  # per waveform; more than the picture has


def draw(path: Path, result: Result, said: dict[str, Path], out: Path) -> None:
    """Write the picture as PNG."""
    figure, axes = plt.subplots(3, 1, figsize=(11, 7.5), constrained_layout=True)
    for axis, direction in zip(axes, result.directions, strict=False):
        mouth, _, ear = direction.name.partition(" to ")
        _waves(axis, direction, read_wav(said[mouth]), Recording.load(out / f"heard-by-{ear}.wav"))
    for direction, colour in zip(result.directions, (HEARD, DELAY), strict=True):
        heard = [segment for segment in direction.verdict.segments if segment.heard]
        if heard:
            zero = direction.verdict.segments[0].said_at
            axes[2].plot(
                [segment.said_at - zero for segment in heard],
                [segment.delay_s * 1000 for segment in heard],
                "o-",
                color=colour,
                label=f"{direction.name}",
                markersize=4,
            )
    axes[2].set(title="delay from microphone to loudspeaker", xlabel="seconds of the call", ylabel="ms")
    axes[2].set_ylim(0, axes[2].get_ylim()[1] * 1.15)
    axes[2].legend(loc="lower right")
    for axis in axes:
        axis.grid(alpha=0.25)
        axis.spines[["top", "right"]].set_visible(False)
    verdict = "the speech arrived both ways" if result.arrived else "THE SPEECH DID NOT ARRIVE"
    figure.suptitle(f"A call through {result.path}, {result.profile}: {verdict}")
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _waves(axis: Axes, direction: Direction, speech: Samples, recording: Recording) -> None:
    """One direction: what was said, moved by the delay, over what was heard."""
    segments = direction.verdict.segments
    if not segments:
        axis.set_title(f"{direction.name}: nothing to judge")
        return
    start, end = segments[0].said_at, segments[-1].said_at + 1.0
    delay_s = (direction.verdict.delay_ms(0.5) or 0.0) / 1000
    first, count = round((start - direction.said_at) * SAMPLE_RATE), round((end - start) * SAMPLE_RATE)
    said = speech[np.arange(first, first + count) % len(speech)]
    label = f"said (moved by {delay_s * 1000:.0f} ms)"
    axis.plot(*_envelope(said, delay_s), color=SAID, linewidth=0.8, alpha=0.8, label=label)
    found = recording.between(start, end)
    if found is not None:
        axis.plot(
            *_envelope(found[0], found[1] - start), color=HEARD, linewidth=0.8, alpha=0.7, label="heard"
        )
    for segment in segments:
        if not segment.heard:
            axis.axvspan(
                segment.said_at - start, segment.said_at - start + SEGMENT_S, color=MISSED, alpha=0.2
            )
    axis.set(title=f"{direction.name}: {direction.verdict.share:.0%} of the speech heard", yticks=[])
    axis.legend(loc="upper right", ncols=2)


def _envelope(samples: Samples, start_s: float) -> tuple[np.ndarray, np.ndarray]:
    """Lowest and highest sample of each column, in turn, so that no peak is lost in drawing."""
    size = max(len(samples) // COLUMNS, 1)
    usable = samples[: len(samples) // size * size].reshape(-1, size)
    both = np.stack((usable.min(axis=1), usable.max(axis=1)), axis=1).reshape(-1)
    times = start_s + np.arange(len(both)) * size / 2 / SAMPLE_RATE
    return times, both
