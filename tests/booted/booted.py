"""A Debian that runs beside this one: its own systemd as PID 1, in namespaces, on this machine's kernel.

At native speed, up in seconds: for all that needs systemd and no kernel of its own. What it changes lies over
the kept tree, in a folder of the test's; with the object everything in it ends.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.booted.root import mirror

HERE = Path(__file__).parent
BOOT_LIMIT_S = 300.0  # s; 5 on two cores that have time, 50 seen where thirty processes want them
END_LIMIT_S = 60.0  # s for a shutdown in order
LOOK_S = 0.1  # s between two looks
NAMESPACES = ("--mount", "--pid", "--net", "--uts", "--ipc", "--cgroup")
UP = ("running", "degraded")
_numbers = itertools.count()


class BootedError(Exception):
    """It did not start, or a command in it failed; the text is what was said."""


def cgroup2() -> Path | None:
    """Where this machine has its one tree of control groups; None without."""
    for line in Path("/proc/mounts").read_text().splitlines():
        _, place, kind, *_ = line.split()
        if kind == "cgroup2":
            return Path(place)
    return None


def why_not() -> str:
    """Say what keeps us from booting; "" when nothing does."""
    if os.geteuid() != 0:
        return "this needs root, for namespaces and mounts"
    for name, package in (("unshare", "util-linux"), ("ip", "iproute2"), ("mmdebstrap", "mmdebstrap")):
        if shutil.which(name) is None:
            return f"{name} is missing: install the Debian package {package}"
    if mirror() is None:
        return "apt's sources name no mirror of Debian"
    if not Path("/dev/net/tun").exists():
        return "there is no /dev/net/tun"
    if "\toverlay" not in Path("/proc/filesystems").read_text():
        return "this kernel has no overlayfs"
    tree = cgroup2()
    if tree is None:
        return "no cgroup2 is mounted"
    return _why_no_group(tree)


def _why_no_group(tree: Path) -> str:
    probe = tree / f"voicemeet-probe-{os.getpid()}"
    try:
        probe.mkdir()
        probe.rmdir()
    except OSError as error:
        return f"no control group can be made in {tree}: {error.strerror}"
    command = ["unshare", *NAMESPACES, "--fork", "--kill-child=KILL", "mount", "--make-rprivate", "/"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30.0, check=False)
    return f"no namespaces can be made here: {done.stderr.strip()}" if done.returncode else ""


class Booted:
    """One system in one folder; a context manager.

    Args:
        lower: the tree of a Debian; never changed.
        folder: for what it changes; on a disk, not in an overlay.
        share: at /run/bench inside.
        checkout: at /root/voicemeet-edge inside.
    """

    def __init__(self, lower: Path, folder: Path, *, share: Path, checkout: Path) -> None:
        self._begin = [str(HERE / "begin.sh"), str(folder), str(lower), str(share), str(checkout)]
        self.folder = folder
        self.share = share
        self.booted_after_s = 0.0
        """Seconds from its start until all its services were up, the last time."""
        self._log = folder / "console.log"
        self._group: Path | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._init = 0

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()

    def start(self) -> None:
        """Boot, or boot again, and wait until all is started."""
        assert self._process is None, "it runs"
        tree = cgroup2()
        assert tree is not None
        for old in tree.glob("voicemeet-booted-*"):  # of a test that was killed
            if not Path("/proc", old.name.split("-")[2]).exists():
                _remove(old)
        self._group = tree / f"voicemeet-booted-{os.getpid()}-{next(_numbers)}"
        self._group.mkdir()
        # The shell enters the group and becomes unshare, so that the group is the root of all inside.
        # The signal: whoever kills the test leaves no system running behind.
        script = 'echo $$ >"$0/cgroup.procs"; exec setpriv --pdeathsig KILL unshare "$@"'
        command = ["sh", "-c", script, str(self._group), *NAMESPACES, "--fork", "--kill-child=KILL"]
        begin = time.monotonic()
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [*command, "sh", *self._begin], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        while self._state() not in UP:
            if self._process.poll() is not None or time.monotonic() - begin > BOOT_LIMIT_S:
                raise BootedError(f"no systemd: {self._state()!r}, {self._log.read_text()[-2000:]}")
            time.sleep(LOOK_S)
        self.booted_after_s = time.monotonic() - begin

    def _state(self) -> str:
        """What `systemctl is-system-running` says; "" while nobody answers."""
        assert self._process is not None
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children")
        with contextlib.suppress(OSError, IndexError, subprocess.TimeoutExpired):
            self._init = int(children.read_text().split()[0])
            if os.readlink(f"/proc/{self._init}/exe").endswith("systemd"):
                return self._enter(["systemctl", "is-system-running"], 20.0).stdout.strip()
        return ""

    def _enter(
        self, command: list[str], limit_s: float, environment: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        nsenter = ["nsenter", f"--target={self._init}", "--all", "--root", "--wd"]
        outside = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "LC_ALL": "C.UTF-8"}
        return subprocess.run(
            [*nsenter, "--", *command],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            env=outside | dict(environment or {}), text=True, timeout=limit_s, check=False,
        )  # fmt: skip

    def run(
        self, script: str, *, limit_s: float = 120.0, environment: Mapping[str, str] | None = None
    ) -> str:
        """Run a script as root in it; returns what it said.

        Raises:
            BootedError: the script failed.
        """
        try:
            done = self._enter(["bash", "-c", script], limit_s, environment)
        except subprocess.TimeoutExpired as error:
            said = error.stdout.decode() if isinstance(error.stdout, bytes) else error.stdout
            raise BootedError(f"not within {limit_s:.0f} s: {script}\n{said}") from None
        if done.returncode:
            raise BootedError(f"status {done.returncode} of: {script}\n{done.stdout}\n{self.evidence()}")
        return done.stdout

    def evidence(self) -> str:
        """What anybody asks first when something failed."""
        units = "for unit in voicemeet-hub voicemeet-edge voicemeet-peer"
        script = f"{units}; do systemctl status --no-pager -n 25 $unit; done"
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self._enter(["bash", "-c", script], 20.0).stdout[-9000:]
        return ""

    def reboot(self) -> None:
        """Shut it down in order, and boot it again."""
        assert self._process is not None
        self.run("systemctl reboot")
        try:
            self._process.wait(END_LIMIT_S)
        except subprocess.TimeoutExpired:
            raise BootedError(f"it did not go down in {END_LIMIT_S:.0f} s") from None
        self.end()
        self.start()

    def end(self) -> None:
        """Take the power; idempotent."""
        process, self._process = self._process, None
        group, self._group = self._group, None
        if process is not None:
            process.kill()  # its child is the system's PID 1, and dies with it, and all others with that
            process.wait()
        if group is not None:
            _remove(group)


def _remove(group: Path) -> None:
    """Remove a control group and all below, once they are empty."""
    deadline = time.monotonic() + END_LIMIT_S
    while group.exists():
        with contextlib.suppress(OSError):
            (group / "cgroup.kill").write_text("1")
        for path, _, _ in os.walk(group, topdown=False):
            with contextlib.suppress(OSError):
                os.rmdir(path)
        if time.monotonic() > deadline:
            raise BootedError(f"{group} does not get empty")
        time.sleep(LOOK_S)
