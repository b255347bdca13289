"""Which systems scripts/install knows, by their /etc/os-release."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

INSTALL = Path(__file__).parent.parent.parent / "scripts/install"
# Namespaces of its own, in which /etc/os-release is another, nothing is installed, and apt has no network.
SCRIPT = """
mount --bind "$1" /etc/os-release && mount -t tmpfs tmpfs /opt || exit 77
exec "$2" hub
"""
STUBS = {"dpkg-query": "exit 1", "apt-get": "exit 100"}
GOES_ON = "going on"


def said_of(folder: Path, release: str) -> str:
    """Return what the installer says of a system before it fetches anything."""
    (folder / "os-release").write_text(release)
    for name, script in STUBS.items():
        (folder / name).write_text(f"#!/bin/sh\n{script}\n")
        (folder / name).chmod(0o755)
    command = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", SCRIPT, "install"]
    done = subprocess.run(
        [*command, str(folder / "os-release"), str(INSTALL)],
        env={"PATH": f"{folder}:{os.environ['PATH']}"},
        capture_output=True, text=True, timeout=50, check=False,
    )  # fmt: skip
    if done.returncode == 77 or "unshare failed" in done.stderr:
        pytest.skip(f"this machine gives no namespaces: {done.stderr.strip()[:100]}")
    assert "install: could not install: python3-venv" in done.stderr, done.stdout + done.stderr
    return done.stdout


@pytest.mark.system
@pytest.mark.parametrize(
    ("release", "words"),
    [
        ('PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nID=debian\nVERSION_ID="12"\n', ""),
        ('PRETTY_NAME="Debian GNU/Linux 13 (trixie)"\nID=debian\nVERSION_ID="13"\n', ""),
        # Raspberry Pi OS of 64 bit says that it is Debian; the one of 32 bit has a word of its own.
        ('PRETTY_NAME="Raspbian GNU/Linux 12 (bookworm)"\nID=raspbian\nVERSION_ID="12"\n', "of 32 bit"),
        ('PRETTY_NAME="Raspbian GNU/Linux 13 (trixie)"\nID=raspbian\nVERSION_ID="13"\n', "of 32 bit"),
        (
            'PRETTY_NAME="Debian GNU/Linux 11 (bullseye)"\nID=debian\nVERSION_ID="11"\n',
            "Linux 11 (bullseye); tried",
        ),
        (
            'PRETTY_NAME="Ubuntu 26.04 LTS"\nID=ubuntu\nID_LIKE=debian\nVERSION_ID="26.04"\n',
            "Ubuntu 26.04 LTS; tried",
        ),
        ("NAME=nothing\n", "an unknown system; tried"),
    ],
)
def test_it_knows_what_it_was_tried_on_and_goes_on_elsewhere(
    tmp_path: Path, release: str, words: str
) -> None:
    assert shutil.which("unshare"), "util-linux is part of every Debian"
    said = said_of(tmp_path, release)
    assert words in said
    assert (GOES_ON in said) == bool(words), said
