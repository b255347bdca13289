"""How many instructions a call and a start take: `python -m bench.instructions [--seconds 4] [--json FILE]`.

One second of one call end, warm, by what executes them, with the echo canceller and without; and a start up
to READY. Counted by valgrind's callgrind, so the load of the machine does not matter. With --arm64 DIR for
the processor it is for: DIR is a Debian for arm64 with the product's libraries (how to have one says
bench/instructions_arm64.py), run by qemu-aarch64. What is counted stands in bench/instructions_load.py.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.call import SHARED, prepare_speech
from bench.callgrind import CallgrindParts
from bench.idle import settings_file
from bench.instructions_arm64 import Emulated
from voicemeet_edge.demo.lab import hub_settings
from voicemeet_edge.errors import LocalError, VoiceMeetError
from voicemeet_edge.hub.app import running_hub

ENDS = 2
LIMIT_S = 1800.0  # s for one run; a busy machine needs ten minutes
BUDGETS = {"canceller": 140.0, "plain": 75.0, "start": 800.0}  # M instructions, on arm64
# The first that is found in a library's path says what it is.
GROUPS = (
    ("echo canceller", ("webrtc_audio",)),
    ("libopus", ("libopus",)),
    ("encryption", ("pylibsrtp", "libcrypto", "libssl", "_rust", "cryptography")),
    ("numpy", ("numpy",)),
    ("interpreter", ("python", "lib-dynload", "libffi", "_cffi")),
    ("libc, libm", ("/libc.", "/libm.", "libpthread", "ld-linux", "libstdc++", "libgcc")),
)
ENVIRONMENT = {"PYTHONHASHSEED": "0", "OPENBLAS_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": ""}
# What each stretch between two marks is; the others only lead there.
CALL_STRETCHES = {1: "canceller", 3: "plain", 5: "playout"}

Counter_ = Callable[[Sequence[str], Path], list[Counter[str]]]
"""Runs bench.instructions_load with these words; returns what each library took in each stretch."""


@dataclass(frozen=True, slots=True)
class Figures:
    """Millions of instructions by part."""

    canceller: dict[str, float]
    """Of a second of one call end."""
    plain: dict[str, float]
    """The same without the canceller."""
    start: dict[str, float]
    """Of a start up to READY."""


def group(library: str) -> str:
    """Say what a library's instructions are counted as."""
    return next((name for name, words in GROUPS if any(word in library for word in words)), "rest")


def by_group(took: Mapping[str, int], share: float = 1.0) -> dict[str, float]:
    """Sum up in millions."""
    groups: dict[str, float] = {}
    for library, count in took.items():
        groups[group(library)] = groups.get(group(library), 0.0) + count * share / 1e6
    return groups


def split_codec(call: dict[str, float], playout: Mapping[str, float]) -> dict[str, float]:
    """Say what of libopus is decoding: what the playout alone takes for the same packets."""
    whole = call.pop("libopus", 0.0)
    decoding = playout.get("libopus", 0.0)
    return {"libopus, encoding": whole - decoding, "libopus, decoding": decoding, **call}


def callgrind(arguments: Sequence[str], scratch: Path) -> list[Counter[str]]:
    """Count on this machine's own processor."""
    if shutil.which("valgrind") is None:
        raise LocalError("needs valgrind: apt-get install valgrind")
    out = scratch / "callgrind"
    command = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={out}", "--dump-before=getpriority"]
    command += ["--dump-line=no", sys.executable, "-m", "bench.instructions_load", *arguments]
    _run(command)
    parts = CallgrindParts()
    numbered = sorted(scratch.glob("callgrind.*"), key=lambda path: int(path.suffix[1:]))
    counts = []
    for path in numbered:
        with path.open(errors="replace") as lines:
            counts.append(parts.read(lines))
        path.unlink()
    return counts


def _run(command: list[str]) -> None:
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=LIMIT_S, env={**os.environ, **ENVIRONMENT}
    )
    if done.returncode:
        raise LocalError(f"{command[0]} ended with {done.returncode}: {done.stderr[-2000:]}")


def count_call(counter: Counter_, options: argparse.Namespace, scratch: Path) -> tuple[dict[str, float], ...]:
    """Count one second of one end, with the canceller and without."""
    said = prepare_speech(options.speech, scratch)
    times = [str(options.warm), str(options.seconds)]
    parts = counter(["call", options.echo, *times, *map(str, said.values())], scratch)
    share = 1.0 / options.seconds
    took = {name: parts[number] for number, name in CALL_STRETCHES.items()}
    playout = by_group(took["playout"], share)
    with_it, without = (by_group(took[name], share / ENDS) for name in ("canceller", "plain"))
    return split_codec(with_it, playout), split_codec(without, playout)


async def count_start(counter: Counter_, scratch: Path) -> dict[str, float]:
    """Count a start up to READY, with a hub that is there."""
    async with running_hub(hub_settings(scratch, turn="off")) as info:
        config = settings_file(info, scratch, "mock")
        arguments = ["start", str(config)]
        # Once before, so that no bytecode is made in what is counted.
        await asyncio.to_thread(_run, [sys.executable, "-m", "bench.instructions_load", *arguments])
        parts = await asyncio.to_thread(counter, arguments, scratch)
    return by_group(parts[0])


def table(figures: Figures) -> str:
    """The figures, as a person reads them."""
    columns = (figures.canceller, figures.plain, figures.start)
    totals = [sum(column.values()) for column in columns]
    names = sorted({name for column in columns for name in column}, key=lambda n: -columns[0].get(n, 0.0))
    lines = [f"{'M instructions':<20}{'call':>10}{'without':>12}{'start':>10}"]
    lines.append(f"{'':<20}{'M/s':>10}{'canceller':>12}{'to READY':>10}")
    for name in names:
        cells = [f"{column[name]:.1f}" if name in column else "" for column in columns]
        lines.append(f"{name:<20}{cells[0]:>10}{cells[1]:>12}{cells[2]:>10}")
    lines.append(f"{'all':<20}{totals[0]:>10.1f}{totals[1]:>12.1f}{totals[2]:>10.1f}")
    budgets = list(BUDGETS.values())
    lines.append(f"{'budget on arm64':<20}{budgets[0]:>10.0f}{budgets[1]:>12.0f}{budgets[2]:>10.0f}")
    return "\n".join(lines)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.instructions", description=__doc__)
    parser.add_argument("--seconds", type=float, default=4.0, help="of the call that are counted")
    parser.add_argument("--warm", type=float, default=3.0, help="s of the call before that")
    parser.add_argument("--speech", type=Path, metavar="WAV", help="what is said (default: espeak-ng)")
    parser.add_argument("--echo", default="aec3", help="the canceller of the first column")
    parser.add_argument("--no-start", action="store_true", help="the call only")
    parser.add_argument("--arm64", type=Path, metavar="DIR", help="count for arm64, with the libraries there")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures here")
    return parser


def main(arguments: list[str] | None = None, say: Callable[[str], object] = print) -> int:
    """Count and print."""
    options = _parser().parse_args(arguments)
    counter: Counter_ = Emulated(options.arm64) if options.arm64 else callgrind
    try:
        with tempfile.TemporaryDirectory(prefix="voicemeet-instructions-", dir=SHARED) as scratch:
            call, plain = count_call(counter, options, Path(scratch))
            started = {} if options.no_start else asyncio.run(count_start(counter, Path(scratch)))
    except VoiceMeetError as error:
        say(f"bench.instructions: {error}")
        return 1
    figures = Figures(call, plain, started)
    if options.json:
        options.json.write_text(
            json.dumps({name: getattr(figures, name) for name in BUDGETS}, indent=1) + "\n"
        )
    say(table(figures))
    return 0


if __name__ == "__main__":
    sys.exit(main())
