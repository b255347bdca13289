"""The figures of whole calls as a table, as JSON and as a picture.

One rule: medians leave out the segments during which the machine stood still, and the table says how many.
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from bench.call_ends import End, Run

NAMES = {"ours": "VoiceMeet", "stock": "aiortc", "wrtc": "libwebrtc"}
HEADINGS = (
    "peer",
    "end",
    "CPU ms/s",
    "anon MB",
    "RSS MB",
    "delay p50",
    "p95",
    "PESQ",
    "STOI",
    "concealed",
    "kb/s",
    "RTP bytes",
    "set-up s",
    "stalled",
)


def _megabytes(kilobytes: int) -> str:
    return f"{kilobytes / 1024:.1f}"


def _sizes(end: End) -> str:
    sizes = end.sent.sizes
    if not sizes:
        return "?"
    if len(sizes) <= 3:
        return " ".join(f"{size}×{count}" for size, count in sizes)
    values = [size for size, _ in sizes]
    return f"{min(values)}–{max(values)} ({len(sizes)} sizes)"


def _row(run: Run, end: End) -> tuple[str, ...]:
    last, quality = end.samples[-1], end.heard.quality
    stalled = sum(end.heard.stalled)
    return (
        NAMES[run.kind],
        end.name,
        f"{end.cpu_ms_s:.1f}",
        _megabytes(last.anonymous_kb),
        _megabytes(last.resident_kb),
        f"{quality.delay(50):.0f}",
        f"{quality.delay(95):.0f}",
        f"{end.heard.pesq:.2f}",
        f"{end.heard.stoi:.3f}",
        "?" if end.concealed is None else f"{end.concealed:.2%}",
        f"{end.sent.kilobits_s:.1f}",
        _sizes(end),
        f"{run.setup_s:.2f}",
        f"{stalled}/{len(end.heard.stalled)}",
    )


def table(runs: Sequence[Run]) -> str:
    """Return the table with the ratios under it."""
    rows = [HEADINGS, *(_row(run, end) for run in runs for end in run.ends)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADINGS))]
    lines = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    lines.append("")
    by_kind = {run.kind: statistics.mean(end.cpu_ms_s for end in run.ends) for run in runs}
    lines += [
        f"CPU, {NAMES['ours']} to {NAMES[kind]}: {by_kind['ours'] / by_kind[kind]:.2f}"
        for kind in by_kind
        if kind != "ours" and "ours" in by_kind and by_kind[kind]
    ]
    for run in runs:
        if run.recovery_s is not None:
            back = "never" if math.isinf(run.recovery_s) else f"{run.recovery_s:.1f} s"
            lines.append(f"{NAMES[run.kind]}: delay as before the outage again after: {back}")
        lines += _growth(run)
        lines.append(
            f"{NAMES[run.kind]}: the machine stood still {run.stalls} times, {run.stalled_s:.2f} s in all; "
            f"load {run.load:.1f}"
        )
    return "\n".join(lines)


def _growth(run: Run) -> list[str]:
    """Say how memory moved over a call of several minutes."""
    lines = []
    for end in run.ends:
        if len(end.samples) < 4:
            continue
        anonymous = [sample.anonymous_kb / 1024 for sample in end.samples]
        minutes = [(sample.at_s - end.samples[0].at_s) / 60 for sample in end.samples]
        # The first minute fills queues and recordings; growth is what comes after it.
        slope = statistics.linear_regression(minutes[1:], anonymous[1:]).slope
        shown = " ".join(f"{value:.1f}" for value in anonymous)
        lines.append(f"{NAMES[run.kind]} {end.name}: anonymous MB by minute {shown}: {slope * 60:+.2f} MB/h")
        lines.append(
            f"{NAMES[run.kind]} {end.name}: delay {end.heard.quality.delay(50):.0f} ms in all, "
            f"{end.heard.last_delay_ms:.0f} ms in the last minute"
        )
    return lines


def save(runs: Sequence[Run], directory: Path, name: str) -> None:
    """Write NAME.json with every segment and NAME.png with what is in the table."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / f"{name}.json").write_text(json.dumps([asdict(run) for run in runs], indent=1, default=str))
    _draw(runs, directory / f"{name}.png")


def _draw(runs: Sequence[Run], path: Path) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, (delays, scores, costs) = plt.subplots(3, 1, figsize=(10, 10), constrained_layout=True)
    for number, run in enumerate(runs):
        colour = f"C{number}"
        for end, style in zip(run.ends, ("-", "--"), strict=True):
            label = f"{NAMES[run.kind]}, heard by {end.name}"
            readings = end.heard.quality.delays_ms
            delays.plot(
                [at for at, _ in readings], [ms for _, ms in readings], style, color=colour, label=label
            )
            segments = end.heard.quality.segments
            scores.plot([s.start_s for s in segments], [s.pesq for s in segments], style, color=colour)
            for segment, stalled in zip(segments, end.heard.stalled, strict=True):
                if stalled:
                    scores.axvspan(segment.start_s, segment.start_s + 2, color="0.9")
        costs.bar(
            [f"{NAMES[run.kind]}\n{end.name}" for end in run.ends],
            [end.cpu_ms_s for end in run.ends],
            color=colour,
        )
    delays.set(ylabel="mouth to ear, ms", xlabel="s", title=f"profile {runs[0].profile}", ylim=(0, None))
    delays.legend(fontsize="small")
    scores.set(ylabel="PESQ-WB of 2 s (grey: machine stalled)", xlabel="s", ylim=(1, 4.7))
    costs.set(ylabel="CPU of one end, ms per s of call")
    figure.savefig(path, dpi=90)
    plt.close(figure)
