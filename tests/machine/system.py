"""The system that the machine boots: the image as image-build makes it, hub and device in one.

Nothing is put into it for the tests: what they need comes by QEMU's share, and their shell is systemd's own,
asked for on the kernel's command line. image-build keeps its steps, so that only what changed is made anew.

`python -m tests.machine.system` builds it, and prints where it is.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.machine.qemu import System, missing

TOP = Path(__file__).parent.parent.parent
CACHE = Path(os.environ.get("VOICEMEET_MACHINE_CACHE", "~/.cache/voicemeet-edge/machine")).expanduser()
BUILD_LIMIT_S = 2400.0  # s for everything from nothing; 5 minutes on two quiet cores
NAME = "voicemeet-edge-bench-amd64"
DISK_BYTES = (
    3_000_000_000  # of the "card": larger than the image, so that the first start has to grow. Sparse.
)


def why_not() -> str:
    """Say what keeps us from building and booting the system; "" when nothing does."""
    if shutil.which("mmdebstrap") is None:
        return "mmdebstrap is missing: install the Debian package of that name"
    if os.geteuid() != 0 and shutil.which("newuidmap") is None:
        return "newuidmap is missing: install the Debian package uidmap"
    probe = "import sys; from imaging.namespace import run_inside; sys.exit(run_inside(lambda: 0))"
    done = subprocess.run(
        [sys.executable, "-c", probe], cwd=TOP / "image-build", capture_output=True, text=True
    )
    if done.returncode:
        return f"no user namespace can be made here: {done.stderr.strip().splitlines()[-1:]}"
    return missing()


@contextlib.contextmanager
def nobody_builds() -> Iterator[None]:
    """While it lasts, what was built stays as it is: other tests may be at it, of this run or of another."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def build() -> System:
    """Return the system to boot, building what is missing of it."""
    out = CACHE / "out"
    with nobody_builds():
        command = [str(TOP / "image-build/build"), "--arch", "amd64", "--role", "bench"]
        command += ["--cache", str(CACHE), "--out", str(out)]
        subprocess.run(command, check=True, timeout=BUILD_LIMIT_S)
    disk = out / f"{NAME}.img"
    os.truncate(disk, DISK_BYTES)
    words = (out / f"{NAME}.cmdline").read_text().strip()
    return System(
        disk,
        kernel=out / f"{NAME}.kernel",
        initrd=out / f"{NAME}.initrd",
        append=f"{words} console=ttyS0",
        memory_mb=512,  # what a Zero 2 W has
    )


if __name__ == "__main__":
    reason = why_not()
    if reason:
        sys.exit(reason)
    print(build())
