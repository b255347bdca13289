"""`make bench`: the figures of this machine, one after the other; `--quick` for a first look."""

from __future__ import annotations

import subprocess
import sys

FULL = (
    ("press to audio", ["bench.press", "--calls", "50"]),
    ("start and idling", ["bench.idle"]),
    ("the hub", ["bench.hub"]),
    ("sealing", ["bench.sealed"]),
)
QUICK = (
    ("press to audio", ["bench.press", "--calls", "6"]),
    ("sealing", ["bench.sealed"]),
)


def main() -> int:
    """Run each bench in a process of its own, so that none measures what another left behind."""
    status = 0
    for title, module in QUICK if "--quick" in sys.argv[1:] else FULL:
        print(f"\n== {title}\n", flush=True)
        status |= subprocess.run([sys.executable, "-m", *module], check=False).returncode
    print(
        "\nmore, each with --help:  python -m bench.playout · bench.call · bench.echo · bench.setup_time"
        " · bench.recovery · bench.ringing · bench.faults · bench.call_soak · bench.hosted"
        " · bench.instructions"
    )
    return status


if __name__ == "__main__":
    raise SystemExit(main())
