"""The lamp's patterns as a picture, from their own table: `python -m tests.panel.lamp_picture OUT`."""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib as mpl

from voicemeet_edge.call.signs import Lamp
from voicemeet_edge.panel.lamp import PATTERNS

SECONDS = 4.0


def draw(out: Path) -> None:
    """Draw one row for each pattern, light against dark, for four seconds."""
    mpl.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 0.42 * len(PATTERNS) + 0.7), layout="constrained")
    lamps = [lamp for lamp in Lamp if lamp in PATTERNS]
    for row, lamp in enumerate(lamps):
        at, steps = 0.0, PATTERNS[lamp]
        while at < SECONDS:
            for step in steps:
                length = min(step.seconds, SECONDS - at)
                if length > 0:
                    shade = 0.12 + 0.88 * step.level
                    axes.broken_barh(
                        [(at, length)], (row - 0.36, 0.72), facecolors=(shade, shade * 0.62, 0.08)
                    )
                at += step.seconds
    axes.set(xlim=(0, SECONDS), xlabel="seconds", yticks=range(len(lamps)))
    axes.set_yticklabels([lamp.value.replace("_", " ") for lamp in lamps])
    axes.invert_yaxis()
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    figure.savefig(out, dpi=110)


if __name__ == "__main__":
    draw(Path(sys.argv[1]))
