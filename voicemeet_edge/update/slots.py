"""The two slots: what is in them, and RAUC, which checks a bundle and writes it to the one not in use.

One rule: nothing of a bundle is used before RAUC has checked its signature with the image's certificate.
"""

from __future__ import annotations

import configparser
import json
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

from voicemeet_edge.errors import EnvironmentFault, RemoteError
from voicemeet_edge.update.choice import Here
from voicemeet_edge.update.version import SystemVersion, VersionError

SYSTEM_CONF = Path("/etc/rauc/system.conf")
HEADER_BYTES = 4_096  # bytes of a slot's header; image-build/imaging/slot.py writes it
CHECK_LIMIT_S = 120.0  # s to check a signature, on the slowest card
INSTALL_LIMIT_S = 3_600.0  # s to write a slot; a Zero 2 W with a worn card takes some minutes
MARK_LIMIT_S = 60.0  # s


class BundleError(RemoteError):
    """A bundle is refused; nothing was written."""

    code = "bad_bundle"


class SlotError(EnvironmentFault):
    """A slot could not be written or switched."""

    code = "slot"


Run = Callable[[Sequence[str], float], "subprocess.CompletedProcess[str]"]


def run_command(words: Sequence[str], limit_s: float) -> subprocess.CompletedProcess[str]:
    """Run a program and wait for it, within a limit."""
    return subprocess.run(words, capture_output=True, text=True, timeout=limit_s, check=False)


class Slots:
    """Both slots of this system."""

    def __init__(self, run_folder: Path, *, conf: Path = SYSTEM_CONF, run: Run = run_command) -> None:
        self._folder = run_folder
        self._conf = conf
        self._run = run

    def here(self, version: str) -> Here:
        """Return what this system is."""
        parser = configparser.ConfigParser(interpolation=None)
        parser.read(self._conf, encoding="utf-8")
        board = parser.get("system", "compatible", fallback="")
        if not board:
            raise SlotError("this system does not say which board it is for", code="no_board")
        return Here(board, SystemVersion.parse(version))

    def version_in(self, slot: str) -> SystemVersion | None:
        """Read which version a slot holds; None when it holds none that could start."""
        try:
            with (self._folder / f"root_{slot}").open("rb") as file:
                text = file.read(HEADER_BYTES).split(b"\0")[0].decode("ascii", "replace")
        except OSError:
            return None
        header = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
        try:
            return SystemVersion.parse(header.get("vm_version", ""))
        except VersionError:
            return None

    def look_into(self, bundle: Path) -> tuple[str, SystemVersion]:
        """Check a bundle's signature and return its board and version.

        Raises:
            BundleError: it is none of ours, or damaged.
        """
        done = self._try(["rauc", "info", "--output-format=json", str(bundle)], CHECK_LIMIT_S)
        if done.returncode:
            raise BundleError(_why_refused(done.stderr + done.stdout))
        try:
            table = json.loads(done.stdout)
            return str(table["compatible"]), SystemVersion.parse(str(table["version"]))
        except (ValueError, KeyError, TypeError):
            raise BundleError("it does not say its board and version in our form") from None

    def install(self, bundle: Path) -> None:
        """Write a bundle to the slot that is not in use; nothing starts it before `try_other`.

        Raises:
            SlotError: it was not written whole; the running slot stays the one that starts.
        """
        done = self._try(["rauc", "install", str(bundle)], INSTALL_LIMIT_S)
        if done.returncode:
            raise SlotError(f"the other slot could not be written: {_last_error(done)}", code="not_written")

    def trust_running(self) -> None:
        """Confirm the slot that runs: it gets all its starts back and is tried first."""
        self._mark("good", "booted")
        self._mark("active", "booted")

    def leave_running(self) -> None:
        """Give the slot that runs up; the other one is started from now on."""
        self._mark("bad", "booted")
        self._mark("active", "other")

    def forget_other(self) -> None:
        """Let nobody start the other slot by itself."""
        self._mark("bad", "other")

    def try_other(self) -> None:
        """Let the next start try the other slot."""
        self._mark("active", "other")

    def _mark(self, what: str, which: str) -> None:
        done = self._try(["rauc", "status", f"mark-{what}", which], MARK_LIMIT_S)
        if done.returncode:
            raise SlotError(f"the boot state could not be changed (mark-{what} {which})", code="not_marked")

    def _try(self, words: Sequence[str], limit_s: float) -> subprocess.CompletedProcess[str]:
        try:
            return self._run(words, limit_s)
        except FileNotFoundError:
            raise SlotError("RAUC is not installed here", code="no_rauc") from None
        except subprocess.TimeoutExpired:
            raise SlotError(f"RAUC did not end within {limit_s:.0f} s", code="timeout") from None


def _last_error(done: subprocess.CompletedProcess[str]) -> str:
    """Return what RAUC gives as the reason, among all that it says."""
    lines = [line.strip() for line in (done.stdout + done.stderr).splitlines() if line.strip()]
    reasons = [line.removeprefix("LastError:").strip() for line in lines if line.startswith("LastError:")]
    return (reasons or lines or ["no reason given"])[-1][:200]


_REASONS = (
    ("certificate verify failed", "its signature is by nobody this device trusts"),
    ("signature verification failed", "its signature is by nobody this device trusts"),
    ("failed to load certificate", "this image has no certificate to check a signature with"),
    ("no start line", "this image has no certificate to check a signature with"),
    ("not a valid", "it is no bundle, or was cut off"),
    ("signature size", "it is no bundle, or was cut off"),
    ("not a squashfs", "it is no bundle, or was cut off"),
    ("unsquashfs", "squashfs-tools is missing here"),
)


def _why_refused(said: str) -> str:
    low = said.lower()
    for word, reason in _REASONS:
        if word in low:
            return reason
    last = (said.strip().splitlines() or ["no reason given"])[-1]
    return f"it cannot be checked ({last[:160]})"
