"""What a booted system is made of: a Debian by mmdebstrap, and the Python packages of our locks, both kept.

One rule: everything is fetched here, so that the system itself needs no network: what scripts/install fetches
by apt is installed already, or lies in the tree where apt looks for it; what pip fetches has its own folder.

`PYTHONPATH=image-build python -m tests.booted.root` makes all of it, and prints where it is.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.machine.system import CACHE, TOP

MAKE_LIMIT_S = 900.0  # s for a whole Debian; one minute on two quiet cores
# What a person's Debian has: systemd, and what somebody who is about to type `make` has installed.
PERSON = "systemd systemd-sysv dbus udev procps iproute2 ca-certificates make"
ARCHIVE = "srv/debian"  # in the tree
KEEP_S = 86_400.0  # s since its last use that a folder of other ingredients stays
LOCKS = ("build", "device", "hub")


@dataclass(frozen=True, slots=True)
class Release:
    """A release of Debian that the documents promise."""

    suite: str
    python: str
    is_bare: bool
    """Without what scripts/install fetches by apt; with it a test is half a minute shorter."""


RELEASES = {"12": Release("bookworm", "3.11", is_bare=False), "13": Release("trixie", "3.13", is_bare=True)}


def kept(name: str, ingredients: str, make: Callable[[Path], None]) -> Path:
    """Return a folder of the cache, made when there is none of these ingredients."""
    CACHE.mkdir(parents=True, exist_ok=True)
    folder = CACHE / f"{name}-{hashlib.sha256(ingredients.encode()).hexdigest()[:12]}"
    with (CACHE / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            part = folder.with_name(f"{folder.name}.part")
            shutil.rmtree(part, ignore_errors=True)
            make(part)
            part.rename(folder)
        os.utime(folder)
        for old in CACHE.glob(f"{name}-*"):  # another checkout may use it just now
            if time.time() - old.stat().st_mtime > KEEP_S:
                shutil.rmtree(old, ignore_errors=True)
    return folder


def mirror() -> str | None:
    """Return the mirror of Debian that this machine uses; None where its apt names none."""
    from imaging.mirror import own_mirror

    return own_mirror()


def needed() -> list[str]:
    """Return the Debian packages that scripts/install wants, of both roles."""
    text = (TOP / "scripts/install").read_text()
    return " ".join(re.findall(r"\bneed\+?=\(([^)]+)\)", text)).split()


def debian(release: Release) -> Path:
    """Return the tree of a Debian; a bare one has an archive in it of all that scripts/install fetches."""
    from imaging.toolroot import KEYRING

    packages = PERSON.split() + ([] if release.is_bare else needed())
    line = f"deb [signed-by={KEYRING}] {mirror()} {release.suite} main"
    fetch = f"apt-get install -y --no-install-recommends --download-only {' '.join(needed())}"
    move = f'mkdir -p "$1/{ARCHIVE}" && mv "$1"/var/cache/apt/archives/*.deb "$1/{ARCHIVE}"'

    def make(path: Path) -> None:
        # In namespaces of its own: one that is killed leaves no process and no mount behind.
        command = ["unshare", "--mount", "--pid", "--fork", "--kill-child=KILL", "--mount-proc"]
        command += ["mmdebstrap", "--mode=root", "--variant=minbase"]
        command += [f"--include={','.join(packages)}"]
        if release.is_bare:
            command += [f'--customize-hook=chroot "$1" {fetch} && {move}']
        command += ["--skip=output/dev", "--aptopt=APT::Install-Recommends false"]
        command += ["--aptopt=Acquire::Languages none", "--dpkgopt=force-unsafe-io"]
        command += [f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in ("man", "locale", "info")]
        _run(f"mmdebstrap {release.suite}", [*command, release.suite, str(path), line])
        if release.is_bare:
            _list(path / ARCHIVE)
            (path / "etc/apt/sources.list").write_text(f"deb [trusted=yes] file:/{ARCHIVE} ./\n")

    return kept(f"booted-{release.suite}", f"{line} {' '.join(packages)} {fetch} 2", make)


def _list(archive: Path) -> None:
    """Write the list that makes an archive of a folder."""
    entries = []
    for path in sorted(archive.glob("*.deb")):
        command = ["dpkg-deb", "--field", str(path)]
        fields = subprocess.run(command, capture_output=True, text=True, check=True)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        own = f"Filename: ./{path.name}\nSize: {path.stat().st_size}\nSHA256: {digest}\n"
        entries.append(fields.stdout.rstrip() + "\n" + own)
    (archive / "Packages").write_text("\n".join(entries))


def packages(release: Release) -> Path:
    """Return a folder of all that the locks name for this release's Python, from where pip finds it."""
    locks = [TOP / f"requirements/{name}.txt" for name in LOCKS]
    tree = debian(release)

    def make(path: Path) -> None:
        # By the release's own Python: a lock's markers are judged by the one that runs.
        path.mkdir()
        with tempfile.TemporaryDirectory(prefix="booted-") as work:
            command = ["unshare", "--mount", "--pid", "--fork", "--kill-child=KILL", "--mount-proc"]
            command += ["sh", str(TOP / "tests/booted/fetch.sh"), str(tree), work, str(path)]
            _run(f"packages of {release.suite}", [*command, *map(str, locks)])

    text = "".join(path.read_text() for path in locks)
    return kept(f"booted-python-{release.python}", f"{text} {release.python} 2", make)


def _run(what: str, command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=MAKE_LIMIT_S, check=False)
    if done.returncode:
        raise RuntimeError(f"{what}: {done.stdout[-500:]} {done.stderr[-2000:]}")


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
