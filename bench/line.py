"""Send virtual packets over a virtual line by the congestion control: `python -m bench.line [--plot DIR]`.

A minute of call takes milliseconds, so that a number in voice/congestion.py can be tried on every line at
once. The one rule: only what the other end would report is told to the control, and as late.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from voicemeet_edge.testing.line import Impairment, Way
from voicemeet_edge.voice.congestion import CongestionControl
from voicemeet_edge.voice.delays import PacketFate
from voicemeet_edge.voice.ladder import (
    HEADER_BYTES,
    LADDER,
    LOSS_BYTES,
    REPORT_S,
    START,
    TOP,
    rates,
    report_interval,
)

STEP_S = 0.001  # s
SKEW_S = 1234.5  # s by which the other end's clock differs
REPORT_BYTES = 108  # bytes on the wire
LOSS_REPORT_S = 1.0

Schedule = Sequence[tuple[float, Impairment]]


def _line(**fields: float) -> Impairment:
    return Impairment(delay_s=fields.pop("delay_s", 0.02), keep_order=True, **fields)  # type: ignore[arg-type]


def _ringrtc(delay_s: float) -> Schedule:
    """The run that RingRTC tests itself with, each part 20 s here."""
    rates_kbit_s = (0, 50, 25, 0)
    return [(20 * n, _line(kbit_s=rate, queue_s=0.5, delay_s=delay_s)) for n, rate in enumerate(rates_kbit_s)]


LINES: dict[str, Schedule] = {
    "clean": ((0, Impairment()),),
    "jitter": ((0, Impairment(delay_s=0.04, jitter_s=0.02)),),
    "wifi": ((0, Impairment(loss=0.02, delay_s=0.02, jitter_s=0.015)),),
    "loss5": ((0, Impairment(loss=0.05, delay_s=0.02)),),
    "loss20": ((0, Impairment(loss=0.20, delay_s=0.02)),),
    "burst": ((0, Impairment(loss=0.05, burst=4, delay_s=0.02)),),
    "narrow60": ((0, _line(kbit_s=60, queue_s=2.0)),),
    "narrow48": ((0, _line(kbit_s=48, queue_s=0.3)),),
    "narrow48-loss5": ((0, _line(kbit_s=48, queue_s=0.3, loss=0.05)),),
    "narrow32": ((0, _line(kbit_s=32, queue_s=0.3)),),
    "narrow24": ((0, _line(kbit_s=24, queue_s=0.5)),),
    "narrow80": ((0, _line(kbit_s=80, queue_s=0.5)),),
    "narrow100-loss5": ((0, _line(kbit_s=100, queue_s=0.5, loss=0.05)),),
    "step": (
        (0, _line(kbit_s=300, queue_s=1.0)),
        (20, _line(kbit_s=60, queue_s=1.0)),
        (40, _line(kbit_s=300, queue_s=1.0)),
    ),
    **{f"ringrtc{ms or ''}": _ringrtc((ms or 20) / 1000) for ms in (0, 60, 120)},
    "lte": ((0, _line(kbit_s=150, queue_s=1.0, wander=0.5, delay_s=0.03)),),
    "lte-narrow": ((0, _line(kbit_s=70, queue_s=1.0, wander=0.4, delay_s=0.03)),),
    "policer60": ((0, _line(police_kbit_s=60)),),
    "policer40": ((0, _line(police_kbit_s=40)),),
    "bloat": ((0, _line(kbit_s=300, queue_s=1.5, rivals=1)),),
    "crowd": ((0, _line(kbit_s=300, queue_s=0.5, rivals=3)),),
    "bloat-later": (
        (0, _line(kbit_s=300, queue_s=1.5)),
        (15, _line(kbit_s=300, queue_s=1.5, rivals=1)),
        (45, _line(kbit_s=300, queue_s=1.5)),
    ),
}


@dataclass(slots=True)
class Trip:
    """What happened, for the table and the plot."""

    sent: list[tuple[float, float | None]] = field(default_factory=list)
    """(when, delay or None) of each packet."""
    rungs: list[tuple[float, int, bool, float]] = field(default_factory=list)
    """(when, rung, probing, queue seen) at each report."""


def simulate(
    schedule: Schedule, seconds: float, seed: int = 1, *, control: CongestionControl | None = None
) -> Trip:
    """Run one direction of a call."""
    way, dice, trip = Way(), random.Random(seed), Trip()
    speeds = rates(HEADER_BYTES)
    control = control or CongestionControl(speeds, start=START, now=0.0)
    control.highest = TOP - 1
    changes = list(schedule)
    pending: list[PacketFate] = []
    reports: list[tuple[float, list[PacketFate]]] = []
    next_packet = next_report = 0.0
    next_own_report = 0.1
    lossy_until = 0.0
    last_loss_report = 0.0
    now = 0.0
    while now < seconds:
        while changes and changes[0][0] <= now:
            way.change(changes.pop(0)[1])
        interval = report_interval(now, control.rung)
        control.report_kbit_s = REPORT_BYTES * 0.008 / max(interval, REPORT_S)
        if now >= next_own_report:
            way.due(now, REPORT_BYTES, dice)
            next_own_report += interval
        if now >= next_packet:
            lossy = now < lossy_until
            if control.rung == TOP:
                frame_ms, octets = 20, LOSS_BYTES + HEADER_BYTES
            else:
                rung = LADDER[control.rung]
                plan = rung.lossy if lossy else rung.clean
                frame_ms, octets = plan.frame_ms, plan.packet_bytes + HEADER_BYTES
            for pair in (False, True)[: 1 + control.wants_pair(now)]:
                due = way.due(now, octets, dice)
                pending.append(PacketFate(now, octets, None if due is None else due + SKEW_S, pair))
                if not pair:
                    trip.sent.append((now, None if due is None else due - now))
            next_packet += frame_ms / 1000
        if now >= next_report:
            # What had come there by now, told half a round trip later.
            known = [f for f in pending if f.arrived_at is not None and f.arrived_at <= now + SKEW_S]
            if known:
                last = max(f.sent_at for f in known)
                told = [
                    f
                    for f in pending
                    if f.sent_at <= last and (f.arrived_at is None or f.arrived_at <= now + SKEW_S)
                ]
                pending = [f for f in pending if f not in told]
                reports.append((now + way.impairment.delay_s + 0.01, told))
            next_report += interval
        while reports and reports[0][0] <= now:
            _, told = reports.pop(0)
            control.report(told, now, 2 * way.impairment.delay_s + control.queue_s + 0.02)
            trip.rungs.append((now, control.rung, control.probing, control.queue_s))
            if now - last_loss_report >= LOSS_REPORT_S:
                last_loss_report = now
                if control.losses.take() >= 0.03:
                    lossy_until = now + 20.0
                control.highest = TOP if now < lossy_until else TOP - 1
        now += STEP_S
    return trip


def summary(name: str, trip: Trip, seconds: float, settle_s: float = 3.0) -> str:
    """One line of the table."""
    late = [(at, delay) for at, delay in trip.sent if at >= settle_s]
    came = sorted(delay for _, delay in late if delay is not None)
    lost = sum(delay is None for _, delay in late) / max(len(late), 1)
    counts = [0] * (TOP + 1)
    for at, rung, _, _ in trip.rungs:
        if at >= settle_s:
            counts[rung] += 1
    share = " ".join(f"{100 * count / max(sum(counts), 1):3.0f}" for count in counts)
    changes = sum(a[1] != b[1] for a, b in zip(trip.rungs, trip.rungs[1:], strict=False))
    p50, p95 = (came[int(len(came) * q)] * 1000 if came else 0.0 for q in (0.5, 0.95))
    longest = came[-1] * 1000 if came else 0.0
    return f"{name:16} {lost:6.1%} {p50:6.0f} {p95:6.0f} {longest:6.0f}  {share}  {changes:3d}"


def plot(name: str, trip: Trip, path: Path) -> None:
    """Draw rate, delay and loss over time."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, (rate, delay, loss) = plt.subplots(3, 1, figsize=(8, 6), sharex=True, constrained_layout=True)
    speeds = rates()
    rate.step(
        [at for at, _, _, _ in trip.rungs], [speeds[rung] for _, rung, _, _ in trip.rungs], where="post"
    )
    rate.set(ylabel="voice sent, kb/s", title=name, ylim=(0, 100))
    came = [(at, late * 1000) for at, late in trip.sent if late is not None]
    delay.plot([at for at, _ in came], [late for _, late in came], ".", markersize=2)
    delay.set(ylabel="one-way delay, ms", ylim=(0, None))
    seconds = range(int(trip.sent[-1][0]) + 1)
    counts = [[late is None for at, late in trip.sent if second <= at < second + 1] for second in seconds]
    loss.bar(list(seconds), [100 * sum(lost) / max(len(lost), 1) for lost in counts], align="edge")
    loss.set(ylabel="lost, % of each second", xlabel="s", ylim=(0, 50))
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=60)
    plt.close(figure)


def main(arguments: list[str] | None = None, say: Callable[[str], object] = sys.stdout.write) -> int:
    """Run every line and print the table."""
    parser = argparse.ArgumentParser(prog="python -m bench.line", description=__doc__)
    parser.add_argument("--line", choices=sorted(LINES), action="append", help="only these")
    parser.add_argument("--seconds", type=float, default=80.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--plot", type=Path, metavar="DIR", help="also draw each line here")
    parser.add_argument("--trace", action="store_true", help="also print each report")
    options = parser.parse_args(arguments)
    say("line               lost    p50    p95    max  % of time on each rung, lowest first, and changes\n")
    for name in options.line or LINES:
        trip = simulate(LINES[name], options.seconds, options.seed)
        say(summary(name, trip, options.seconds) + "\n")
        if options.plot is not None:
            plot(name, trip, options.plot / f"line-{name}.png")
        if options.trace:
            for at, rung, probing, queue in trip.rungs:
                say(f"  {at:7.2f} rung {rung}{' probing' if probing else ''} queue {queue * 1000:.0f}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
