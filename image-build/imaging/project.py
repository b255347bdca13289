"""What every command of a build needs to know: the project, its date, where to keep and put things."""

from __future__ import annotations

import argparse
import fcntl
import os
import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from imaging.apt import Apt
from imaging.mirror import own_mirror
from imaging.steps import BuildError, Steps, say
from imaging.toolroot import ToolRoot

PROJECT = Path(__file__).resolve().parents[2]
# What is in packages and images, and what makes them.
_BUILT = (
    *("voicemeet_edge", "systemd", "packaging", "firmware", "image-build", "requirements"),
    *("pyproject.toml", "README.md", "LICENSE"),
)
SUITES = {"trixie": "3.13", "bookworm": "3.11"}  # Debian's release, and the Python it brings


@dataclass
class Build:
    """One run of a build command, inside the namespace."""

    arch: str
    suite: str
    mirror: str
    cache: Path
    out: Path
    steps: Steps
    tools: ToolRoot

    @property
    def python(self) -> str:
        return SUITES[self.suite]

    def apt(self, arch: str | None = None) -> Apt:
        arch = arch or self.arch
        base = self.cache / f"apt-{self.suite}-{arch}"
        return Apt(self.tools, base, arch=arch, mirror=self.mirror, suite=self.suite)


def add_common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--arch", choices=("amd64", "arm64"), default="arm64", help="default: arm64, a Raspberry Pi"
    )
    mirror = own_mirror()
    parser.add_argument(
        "--mirror",
        default=mirror,
        required=mirror is None,
        metavar="URL",
        help="mirror of Debian's main archive (default: the one in this machine's apt sources)",
    )
    parser.add_argument(
        "--suite", choices=tuple(SUITES), default="trixie", help="Debian release (default: trixie)"
    )
    parser.add_argument(
        "--cache",
        type=Path,
        default=Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "voicemeet-image",
        metavar="DIR",
        help="what is fetched and what steps made is kept here (default: %(default)s)",
    )
    parser.add_argument(
        "--out", type=Path, default=PROJECT / "out", metavar="DIR", help="results (default: out/)"
    )


def open_build(
    options: argparse.Namespace,
    sets: tuple[str, ...],
    more_folders: Sequence[Path] = (),
    *,
    alone: str | None = None,
) -> Build:
    """Make the folders and the tools; call it inside the namespace.

    `more_folders` have the same path inside the tools' root, as cache, results and project have. One build at
    a time works in a cache, of those with the same word for `alone`: the architecture, if none is given.
    """
    os.environ.setdefault("SOURCE_DATE_EPOCH", source_date())
    cache, out = options.cache.resolve(), options.out.resolve()
    for folder in (cache, out):
        folder.mkdir(parents=True, exist_ok=True)
    hold(cache, alone or options.arch)
    steps = Steps(cache)
    shared = [cache, out, PROJECT, *(folder.resolve() for folder in more_folders)]
    tools = ToolRoot.make(steps, sets, mirror=options.mirror, suite=options.suite, shared=shared)
    return Build(options.arch, options.suite, options.mirror, cache, out, steps, tools)


_LOCKS: list[TextIO] = []  # held until the process ends


def hold(cache: Path, word: str) -> None:
    """One build of an architecture at a time in a cache: they share their working folders."""
    lock = (cache / f"lock-{word}").open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        say("  another build is at work in this cache; waiting for it")
        fcntl.flock(lock, fcntl.LOCK_EX)
    _LOCKS.append(lock)


def source_date() -> str:
    """Seconds since 1970 of the last commit to what is built: what a build dates everything with."""
    command = ["git", "-c", "safe.directory=*", "-C", str(PROJECT), "log", "-1", "--format=%ct", "--"]
    done = subprocess.run([*command, *_BUILT], capture_output=True, text=True, check=False)
    return done.stdout.strip() or "1700000000"


def version() -> str:
    """The version of the project, as its package says it."""
    text = (PROJECT / "voicemeet_edge/__init__.py").read_text()
    found = re.search(r'__version__ = "([^"]+)"', text)
    if found is None:
        raise BuildError("voicemeet_edge/__init__.py names no version")
    return found[1]
