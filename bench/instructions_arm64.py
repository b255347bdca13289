"""Count instructions of a 64-bit ARM on any machine: qemu-aarch64 with a plugin of 60 lines.

Needs Debian 12's qemu-user (7.2; those from Debian 13 on are static and take no plugins), gcc, and a folder
with a Debian for arm64 in `root` and the product's libraries in `libraries`, made so:

    image-build/package --arch arm64 --cache CACHE      # leaves CACHE/libraries-trixie-arm64-*/voicemeet-edge
    mmdebstrap --mode=root --variant=extract --arch=arm64 --skip=check/qemu \
        --include=python3,libopus0,libssl3t64,libasound2t64,libffi8,libstdc++6 trixie DIR/root
    ln -s usr/lib DIR/root/lib; ln -s CACHE/libraries-trixie-arm64-*/voicemeet-edge DIR/libraries

Nothing is installed in that root and nothing runs as root: its files are unpacked, and only read.
"""

from __future__ import annotations

import bisect
import os
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from voicemeet_edge.errors import LocalError

HERE = Path(__file__).parent
PROJECT = HERE.parent
LIMIT_S = 1800.0  # s
PAGE_BITS = 12
# A Cortex-A53 as QEMU has it knows AES; that of a Zero 2 W, of a 3 and of a 4 does not.
WITHOUT_AES = {"OPENSSL_armcap": "1"}


class Maps:
    """Which file lies where in a process, by its /proc/self/maps."""

    def __init__(self, lines: Iterable[str]) -> None:
        self._starts: list[int] = []
        self._ends: list[int] = []
        self._names: list[str] = []
        for line in lines:
            fields = line.split(maxsplit=5)
            first, last = (int(address, 16) for address in fields[0].split("-"))
            self._starts.append(first)
            self._ends.append(last)
            self._names.append(fields[5].strip() if len(fields) == 6 else "")

    def name(self, address: int) -> str:
        """Return the file at this address; nothing where there is none."""
        at = bisect.bisect_right(self._starts, address) - 1
        return self._names[at] if at >= 0 and address < self._ends[at] else ""


def read_counts(lines: Iterable[str], maps: Maps) -> list[Counter[str]]:
    """Read what the plugin wrote: for each stretch the instructions of each file."""
    parts: list[Counter[str]] = []
    took: Counter[str] = Counter()
    for line in lines:
        words = line.split()
        if words == ["mark"]:
            parts.append(took)
            took = Counter()
        else:
            took[maps.name(int(words[0], 16) << PAGE_BITS)] += int(words[1])
    return parts


class Emulated:
    """Runs bench.instructions_load for arm64."""

    def __init__(self, folder: Path) -> None:
        self._root, self._libraries = folder / "root", folder / "libraries"

    def __call__(self, arguments: Sequence[str], scratch: Path) -> list[Counter[str]]:
        """Return what each library took in each stretch."""
        for tool, package in (("qemu-aarch64", "qemu-user, of Debian 12"), ("gcc", "gcc")):
            if shutil.which(tool) is None:
                raise LocalError(f"needs {tool}: apt-get install {package}")
        pythons = sorted((self._root / "usr/bin").glob("python3.[0-9]*[0-9]"))
        if not pythons or not self._libraries.is_dir():
            raise LocalError(
                f"{self._root.parent} has no root and libraries; see bench/instructions_arm64.py"
            )
        plugin, counts, maps = scratch / "count.so", scratch / "counts", scratch / "maps"
        source = HERE / "count_instructions.c"
        subprocess.run(["gcc", "-O2", "-shared", "-fPIC", "-o", plugin, source], check=True)
        command = ["qemu-aarch64", "-L", str(self._root), "-cpu", "cortex-a53"]
        command += ["-plugin", f"{plugin},out={counts}", str(pythons[0]), "-m", "bench.instructions_load"]
        environment = {
            "PATH": os.environ.get("PATH", ""),
            "HOME": str(scratch),
            "PYTHONPATH": f"{PROJECT}:{self._libraries}",
            "PYTHONHASHSEED": "0",
            "OPENBLAS_NUM_THREADS": "1",
            "INSTRUCTIONS_MAPS": str(maps),
            **WITHOUT_AES,
        }
        for _ in range(2 if arguments[0] == "start" else 1):  # once before, so that its bytecode is there
            done = subprocess.run(
                [*command, *arguments], capture_output=True, text=True, timeout=LIMIT_S, env=environment
            )
        if done.returncode or not maps.exists():
            raise LocalError(f"qemu-aarch64 ended with {done.returncode}: {done.stderr[-2000:]}")
        with counts.open() as lines, maps.open() as mapped:
            return read_counts(lines, Maps(mapped))
