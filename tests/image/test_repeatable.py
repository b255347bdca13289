"""Two builds of one source are the same to the last bit; only what is fetched and the tools are shared."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.machine import system
from tests.machine.qemu import System

pytestmark = [pytest.mark.machine, pytest.mark.timeout(3600)]

BUILD = system.TOP / "image-build"


def build(cache: Path, out: Path) -> Path:
    command = [str(BUILD / "build"), "--arch", "amd64", "--role", "bench", "--cache", str(cache)]
    subprocess.run([*command, "--out", str(out)], check=True)
    return out / f"{system.NAME}.img"


def compare(one: Path, other: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(BUILD / "compare"), str(one), str(other)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def packages(cache: Path) -> set[str]:
    """What the newest system of a cache was made of."""
    newest = max(cache.glob("system-bench-amd64-*"), key=lambda root: root.stat().st_ctime)
    paragraphs = (newest / "var/lib/dpkg/status").read_text().split("\n\n")
    wanted = ("Package: ", "Version: ")
    return {" ".join(line for line in text.splitlines() if line.startswith(wanted)) for text in paragraphs}


def empty_cache(path: Path, given: Path) -> Path:
    """A cache that shares only what was fetched, and the tools."""
    path.mkdir()
    for kept in ("tools-*", "archives-*", "apt-*"):
        for part in given.glob(kept):
            subprocess.run(["cp", "-al", str(part), str(path)], check=True)
    return path


def test_two_builds_are_the_same(built: System, tmp_path: Path) -> None:
    assert built.disk.exists()
    once = build(system.CACHE, tmp_path / "once")  # as it is published: the tests' own disk was made longer
    cache = empty_cache(tmp_path / "cache", system.CACHE)
    again = build(cache, tmp_path / "again")
    done = compare(once, again)
    moved = packages(cache) ^ packages(system.CACHE)
    if done.returncode and moved:
        print(
            f"Debian's archive moved on between the two, so the first is built from it too: {sorted(moved)}"
        )
        once = build(empty_cache(tmp_path / "other", cache), tmp_path / "once")
        done = compare(once, again)
    print(done.stdout)
    assert done.returncode == 0, done.stdout
    with again.open("r+b") as file:  # and a single other bit is found
        file.seek(200 << 20)
        byte = file.read(1)[0]
        file.seek(200 << 20)
        file.write(bytes([byte ^ 1]))
    done = compare(once, again)
    assert done.returncode == 1
    assert "root_a     1 MiB differ" in done.stdout
