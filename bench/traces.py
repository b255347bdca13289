"""Make packet traces of named network profiles: `python -m bench.traces --profile wifi --out x.csv`.

A trace has one row per 20 ms packet: seq, sent_ms, arrival_ms (empty: lost). The one rule: the same
profile, length and seed give the same trace everywhere.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from voicemeet_edge.voice.format import FRAME_MS


@dataclass(frozen=True, slots=True)
class Row:
    """One packet."""

    seq: int
    sent_ms: float
    arrival_ms: float | None


@dataclass(frozen=True, slots=True)
class Profile:
    """One kind of network."""

    loss: float = 0.0
    """Share of packets lost, 0 to 1."""
    burst: int = 1
    """Packets lost in a row each time."""
    delay_ms: float = 0.0
    """Mean one-way delay."""
    jitter_ms: float = 0.0
    """Standard deviation of the delay, gaussian, each packet for itself."""
    outage_s: float = 0.0
    """Length of one total loss in the middle of the trace."""
    drift_ppm: float = 0.0
    """How much faster the sender's clock runs."""


PROFILES: dict[str, Profile] = {
    "clean": Profile(),
    "loss1": Profile(loss=0.01, delay_ms=20),
    "loss5": Profile(loss=0.05, delay_ms=20),
    "loss10": Profile(loss=0.10, delay_ms=20),
    "loss20": Profile(loss=0.20, delay_ms=20),
    "burst": Profile(loss=0.05, burst=4, delay_ms=20),
    "jitter": Profile(delay_ms=40, jitter_ms=20),
    "wifi": Profile(loss=0.02, delay_ms=20, jitter_ms=15),
    "outage": Profile(delay_ms=20, outage_s=3),
    "fast": Profile(drift_ppm=200, delay_ms=20),
    "slow": Profile(drift_ppm=-200, delay_ms=20),
}


def make(profile: Profile, seconds: float, seed: int) -> list[Row]:
    """Draw a trace."""
    chance = np.random.default_rng(seed)
    spacing = FRAME_MS / (1 + profile.drift_ppm * 1e-6)
    count = int(seconds * 1000 / spacing)
    lost = _losses(profile, count, chance)
    # Every real path has a little noise, and a sender that is not exactly on time.
    noise = np.abs(chance.normal(0.0, 0.3, count))
    transit = np.maximum(chance.normal(profile.delay_ms, profile.jitter_ms, count), 0.0) + 0.5 + noise
    middle = seconds * 500
    rows = []
    for seq in range(count):
        sent = seq * spacing
        gone = lost[seq] or middle <= sent < middle + profile.outage_s * 1000
        rows.append(Row(seq, round(sent, 3), None if gone else round(sent + float(transit[seq]), 3)))
    return rows


def _losses(profile: Profile, count: int, chance: np.random.Generator) -> list[bool]:
    """Draw which packets are lost, in runs of `burst`."""
    lost = [False] * count
    starts = chance.random(count) < profile.loss / profile.burst
    for start in np.flatnonzero(starts):
        for seq in range(int(start), min(int(start) + profile.burst, count)):
            lost[seq] = True
    return lost


def write(rows: list[Row], path: Path) -> None:
    """Write a trace as CSV."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("seq", "sent_ms", "arrival_ms"))
        writer.writerows(
            (row.seq, row.sent_ms, "" if row.arrival_ms is None else row.arrival_ms) for row in rows
        )


def read(path: Path) -> list[Row]:
    """Read a trace; rows come back in the order they were sent."""
    with path.open(newline="") as file:
        rows = [
            Row(int(line["seq"]), float(line["sent_ms"]), _arrival(line["arrival_ms"]))
            for line in csv.DictReader(file)
        ]
    return sorted(rows, key=lambda row: row.sent_ms)


def _arrival(text: str | None) -> float | None:
    return float(text) if text and text.strip() else None


def main(arguments: list[str] | None = None, say: Callable[[str], object] = sys.stdout.write) -> int:
    """Parse the command line and write one trace."""
    parser = argparse.ArgumentParser(prog="python -m bench.traces", description=__doc__)
    parser.add_argument("--profile", choices=sorted(PROFILES), required=True)
    parser.add_argument("--seconds", type=float, default=40.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--path-ms", type=float, help="mean one-way delay instead of the profile's")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args(arguments)
    profile = PROFILES[options.profile]
    if options.path_ms is not None:
        profile = replace(profile, delay_ms=options.path_ms)
    rows = make(profile, options.seconds, options.seed)
    write(rows, options.out)
    lost = sum(row.arrival_ms is None for row in rows)
    say(f"{options.out}: {len(rows)} packets, {lost} lost, seed {options.seed}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
