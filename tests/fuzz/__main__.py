"""Run the fuzz targets for long: `python -m tests.fuzz [TARGET …] [--inputs N | --seconds S] [--seed N]`."""

from __future__ import annotations

import argparse
import sys
import traceback

from tests.fuzz.engine import Finding, run
from tests.fuzz.targets import TARGETS

DEFAULT_INPUTS = 100_000  # inputs per target: some minutes in all


def main() -> int:
    """Run what was named, or all; 1 when something was found."""
    parser = argparse.ArgumentParser(description="Feed hostile input to every parser of outside input.")
    parser.add_argument(
        "targets", nargs="*", choices=[*TARGETS, []], metavar="TARGET", help=", ".join(TARGETS)
    )
    parser.add_argument("--inputs", type=int, help=f"inputs per target (default: {DEFAULT_INPUTS})")
    parser.add_argument("--seconds", type=float, help="seconds per target")
    parser.add_argument("--seed", type=int, default=1, help="another number gives other inputs")
    options = parser.parse_args()
    count = options.inputs or (None if options.seconds else DEFAULT_INPUTS)
    found = 0
    print(f"{'target':<12}{'inputs':>10}{'seconds':>10}{'per second':>12}")
    for name in options.targets or TARGETS:
        try:
            done = run(TARGETS[name], count=count, seconds=options.seconds, seed=options.seed)
        except Finding as finding:
            found += 1
            print(f"{name:<12}FOUND at input {finding.number}: {finding.data!r}")
            traceback.print_exception(finding.__cause__)
            continue
        rate = done.inputs / done.seconds if done.seconds else 0.0
        print(f"{name:<12}{done.inputs:>10}{done.seconds:>10.1f}{rate:>12.0f}", flush=True)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
