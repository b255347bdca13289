"""What a booted system is made of: a Debian by mmdebstrap, and the Python packages of our locks, both kept.

One rule: everything is fetched here, so that the system itself needs no network.

`python -m tests.booted.root` makes all of it, and prints where it is.
"""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.machine.system import CACHE, TOP

MAKE_LIMIT_S = 900.0  # s for a whole Debian; one minute on two quiet cores
# What a person's Debian has: systemd, and what somebody who is about to type `make` has installed.
PERSON = "systemd systemd-sysv dbus udev procps iproute2 ca-certificates make"
# What scripts/install would fetch by apt.
NEEDED = "python3-venv python3-dev gcc libc6-dev pkg-config libasound2-dev libsystemd-dev libopus0 coturn"
SPOKEN = "espeak-ng"
LOCKS = ("build", "device", "hub")


@dataclass(frozen=True, slots=True)
class Release:
    """A release of Debian that the documents promise."""

    suite: str
    python: str


RELEASES = {"12": Release("bookworm", "3.11"), "13": Release("trixie", "3.13")}


def kept(name: str, ingredients: str, make: Callable[[Path], None]) -> Path:
    """Return a folder of the cache, made when there is none of these ingredients."""
    CACHE.mkdir(parents=True, exist_ok=True)
    folder = CACHE / f"{name}-{hashlib.sha256(ingredients.encode()).hexdigest()[:12]}"
    with (CACHE / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            part = folder.with_suffix(".part")
            shutil.rmtree(part, ignore_errors=True)
            make(part)
            part.rename(folder)
            for old in CACHE.glob(f"{name}-*"):
                if old != folder:
                    shutil.rmtree(old, ignore_errors=True)
    return folder


def mirror() -> str | None:
    """Return the mirror of Debian that this machine uses; None where its apt names none."""
    sys.path.insert(0, str(TOP / "image-build"))
    from imaging.mirror import own_mirror

    return own_mirror()


def debian(release: Release) -> Path:
    """Return the tree of a Debian."""
    sys.path.insert(0, str(TOP / "image-build"))
    from imaging.toolroot import KEYRING

    line = f"deb [signed-by={KEYRING}] {mirror()} {release.suite} main"
    packages = ",".join(f"{PERSON} {NEEDED} {SPOKEN}".split())

    def make(path: Path) -> None:
        # In namespaces of its own: one that is killed leaves no process and no mount behind.
        command = ["unshare", "--mount", "--pid", "--fork", "--kill-child=KILL", "--mount-proc"]
        command += ["mmdebstrap", "--mode=root", "--variant=minbase", f"--include={packages}"]
        command += ["--skip=output/dev", "--aptopt=APT::Install-Recommends false"]
        command += ["--aptopt=Acquire::Languages none", "--dpkgopt=force-unsafe-io"]
        command += [f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in ("man", "locale", "info")]
        command += [release.suite, str(path), line]
        done = subprocess.run(command, capture_output=True, text=True, timeout=MAKE_LIMIT_S, check=False)
        if done.returncode:
            raise RuntimeError(f"mmdebstrap {release.suite}: {done.stderr[-2000:]}")

    return kept(f"booted-{release.suite}", f"{line} {packages} 1", make)


def packages(release: Release) -> Path:
    """Return a folder of all that the locks name for this release's Python, from where pip finds it."""
    locks = [TOP / f"requirements/{name}.txt" for name in LOCKS]

    def make(path: Path) -> None:
        command = [sys.executable, "-m", "pip", "download", "-q", "--disable-pip-version-check"]
        command += ["--no-deps", "--no-build-isolation", "--require-hashes", "--dest", str(path)]
        command += ["--python-version", release.python, "--implementation", "cp"]
        for line in locks:
            done = subprocess.run(
                [*command, "-r", str(line)], capture_output=True, text=True, timeout=MAKE_LIMIT_S, check=False
            )
            if done.returncode:
                raise RuntimeError(f"pip download {line.name}: {done.stdout[-500:]} {done.stderr[-1500:]}")

    text = "".join(path.read_text() for path in locks)
    return kept(f"booted-python-{release.python}", text, make)


def checkout(folder: Path) -> Path:
    """Copy what git knows into a folder, as a clone has it; what is not committed yet, too."""
    command = ["git", "ls-files", "-z"]
    names = subprocess.run(command, cwd=TOP, capture_output=True, text=True, check=True).stdout
    for name in names.rstrip("\0").split("\0"):
        source, target = TOP / name, folder / name
        if source.is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, target)
    return folder


if __name__ == "__main__":
    for number, one in RELEASES.items():
        print(number, debian(one), packages(one))
