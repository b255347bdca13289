"""The namespace that builds and emulated machines run in."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

TOP = Path(__file__).parent.parent.parent
LIMIT_S = 30.0
PROGRAM = """
import os, sys, time
from imaging.namespace import run_inside

def inside():
    os.execvp("sleep", ["sleep", sys.argv[1]])

sys.exit(run_inside(inside))
"""


def sleepers(mark: str) -> list[int]:
    """The processes whose command line is `sleep <mark>`."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().split(b"\0")
        except OSError:
            continue
        if words[:2] == [b"sleep", mark.encode()]:
            found.append(int(path.parent.name))
    return found


def until(number: int, mark: str) -> bool:
    deadline = time.monotonic() + LIMIT_S
    while len(sleepers(mark)) != number:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def test_whoever_is_killed_leaves_nothing_running_inside() -> None:
    mark = f"{3600 + os.getpid() / 1e6:.6f}"  # a sleep that nobody else has
    command = [sys.executable, "-c", PROGRAM, mark]
    with subprocess.Popen(
        command, cwd=TOP / "image-build", stderr=subprocess.PIPE, start_new_session=True
    ) as process:
        if not until(1, mark):
            process.kill()
            assert process.stderr is not None
            said = process.stderr.read().decode()
            pytest.skip(f"no user namespace can be made here: {said.strip().splitlines()[-1:]}")
        process.send_signal(signal.SIGKILL)
    try:
        assert until(0, mark), "what ran inside goes on"
    finally:
        for left in sleepers(mark):
            os.kill(left, signal.SIGKILL)
