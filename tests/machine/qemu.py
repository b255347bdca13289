"""One virtual machine: booted, spoken to through a shell on its second serial port, ended.

One rule: what is asked of the machine is a script and what comes back is its status and output; nobody types
into a console and reads it back. The shell is systemd's own debug shell, named on the kernel's command line,
so any system with systemd can be looked into as it is.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

QEMU = "qemu-system-x86_64"
SHELL = "systemd.debug_shell=ttyS1"
# On a busy machine the kernel takes its emulated timer for a broken one, and stops.
NO_TIMER_CHECK = "no_timer_check"
SHARE = "/run/bench"  # where the shared folder is inside
SHARE_OPTIONS = "trans=virtio,version=9p2000.L,msize=512000"  # the default size reads a bundle in a minute
START_LIMIT_S = 300.0  # s until QEMU is there; out of image-build's tools it is looked for first
BOOT_LIMIT_S = 900.0  # s until the shell answers; 15 s on two quiet cores, twenty times that beside much else
RUN_LIMIT_S = 600.0  # s for one script
STOP_LIMIT_S = 240.0  # s from poweroff to the end of QEMU
LOOK_AGAIN_S = 0.1  # s between two looks for a result
ASK_AGAIN_S = 2.0  # s between two tries to wake the shell
# A processor that QEMU emulates beside another does not always see what the starting kernel changes in its
# own code: it runs into the mark of such a change and dies. No disk was touched by then; it is started again.
LOST = "Oops: int3"
STARTS = 3


class MachineError(Exception):
    """The machine did not boot, did not answer, or a script failed in it."""


@dataclass(frozen=True)
class System:
    """What is booted. Without a kernel the disk must boot by itself."""

    disk: Path
    kernel: Path | None = None
    initrd: Path | None = None
    append: str = "root=/dev/vda rw console=ttyS0 quiet"
    memory_mb: int = 1024
    cpus: int = 2
    writable: bool = False
    """Keep what is written to the disk; else the file is never touched."""
    extra: tuple[str, ...] = ()
    """Further arguments of QEMU."""


@dataclass(frozen=True)
class Done:
    """How a script ended."""

    status: int
    output: str


def missing() -> str:
    """Say what keeps this machine from running another one; "" when nothing does."""
    if shutil.which(QEMU) is None:
        return f"{QEMU} is missing: install the Debian package qemu-system-x86"
    return ""


class Machine:
    """A running QEMU; use it as a context manager."""

    def __init__(self, system: System) -> None:
        self._system = system
        self._folder = Path(tempfile.mkdtemp(prefix="machine-"))
        self._shell: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._jobs = 0
        self.share = self._folder / "share"
        self.share.mkdir()
        self.console = self._folder / "console.log"

    def __enter__(self) -> Self:
        for left in reversed(range(STARTS)):
            try:
                self._start()
                self._await_shell()
            except MachineError:
                if not left or LOST not in self.last_words(200):
                    self.close()
                    raise
                print("QEMU lost a change of the kernel's code: started again", flush=True)
                self._end()
            except BaseException:
                self.close()
                raise
            else:
                break
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def booted_after_s(self) -> float:
        """Seconds of host time from start to the first answer of the shell."""
        return self._answered - self._started

    def start_unasked(self) -> None:
        """Start it without waiting for an answer: of a system that will give none."""
        self._start()

    @property
    def runs(self) -> bool:
        """Whether QEMU still runs."""
        return self._process is not None and self._process.poll() is None

    def run(self, script: str, *, limit_s: float = RUN_LIMIT_S, check: bool = True) -> Done:
        """Run a bash script as root inside and wait for it.

        Raises:
            MachineError: it did not end in time, or failed and `check` is set.
        """
        self._jobs += 1
        name = f"job-{self._jobs}"
        (self.share / f"{name}.sh").write_text(script)
        inside = f"{SHARE}/{name}"
        self._type(
            f"bash {inside}.sh >{inside}.out 2>&1 </dev/null; echo $? >{inside}.tmp; "
            f"mv {inside}.tmp {inside}.status\n"
        )
        result = self.share / f"{name}.status"
        self._until(result.exists, limit_s, f"a script did not end in time:\n{script}")
        done = Done(int(result.read_text()), (self.share / f"{name}.out").read_text(errors="replace"))
        if check and done.status != 0:
            raise MachineError(f"status {done.status} of:\n{script}\n--- it said:\n{done.output}")
        return done

    def run_to_the_end(self, script: str, *, limit_s: float) -> str:
        """Run a script that has the machine restart, and wait until QEMU has ended; returns what it said.

        Raises:
            MachineError: it did not end in time, or the script failed before.
        """
        self._jobs += 1
        name = f"job-{self._jobs}"
        (self.share / f"{name}.sh").write_text(script)
        inside = f"{SHARE}/{name}"
        self._type(f"bash {inside}.sh >{inside}.out 2>&1 </dev/null || touch {inside}.failed\n")
        process = self._process
        assert process is not None
        said, failed = self.share / f"{name}.out", self.share / f"{name}.failed"

        def text() -> str:
            return said.read_text(errors="replace") if said.exists() else ""

        try:
            self._until(
                lambda: process.poll() is not None or failed.exists(), limit_s, "the machine did not restart"
            )
            if process.poll() is None:
                raise MachineError("the script failed, and nothing restarts")
        except MachineError as error:
            raise MachineError(f"{error}\n--- the script said:\n{text()}") from None
        return text()

    def power_off(self) -> float:
        """Shut it down in order; seconds of host time it took."""
        before = time.monotonic()
        self._type("systemctl poweroff\n")
        process = self._process
        assert process is not None
        self._until(lambda: process.poll() is not None, STOP_LIMIT_S, "the machine did not power off")
        return time.monotonic() - before

    def close(self) -> None:
        """End QEMU, whatever it does, and remove its folder; idempotent."""
        self._end()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is not None and process.poll() is None:
            process.kill()
            process.wait()
        if self._shell is not None:
            self._shell.close()
            self._shell = None

    def last_words(self, lines: int = 30) -> str:
        """Return the end of the console's output."""
        if not self.console.exists():
            return "(nothing on the console)"
        return "\n".join(self.console.read_text(errors="replace").splitlines()[-lines:])

    def command(self) -> list[str]:
        """The whole command line of QEMU."""
        system = self._system
        drive = f"file={system.disk},format=raw,if=virtio" + ("" if system.writable else ",snapshot=on")
        command = [
            *(QEMU, "-M", "q35", "-cpu", "max", "-accel", "tcg,thread=multi"),
            *("-smp", str(system.cpus), "-m", str(system.memory_mb)),
            *("-nographic", "-no-reboot", "-monitor", "none", "-drive", drive),
            *("-netdev", "user,id=n0,restrict=on", "-device", "virtio-net-pci,netdev=n0,romfile="),
            *("-virtfs", f"local,path={self.share},mount_tag=share,security_model=none,id=s0"),
            *("-serial", f"file:{self.console}"),
            *("-serial", f"unix:{self._folder}/shell.sock,server=on,wait=off"),
        ]
        if system.kernel is not None:
            command += ["-kernel", str(system.kernel), "-append", f"{system.append} {SHELL} {NO_TIMER_CHECK}"]
        if system.initrd is not None:
            command += ["-initrd", str(system.initrd)]
        return [*command, *system.extra]

    def _start(self) -> None:
        self._started = time.monotonic()
        with (self._folder / "qemu.log").open("wb") as log:
            self._process = subprocess.Popen(
                self.command(),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
                env={**os.environ, "TMPDIR": str(self._folder)},  # where the snapshot grows
            )

    def _await_shell(self) -> None:
        hello = self.share / "hello"
        path = self._folder / "shell.sock"
        self._until(path.exists, START_LIMIT_S, "QEMU did not start")
        self._shell = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._shell.connect(str(path))
        self._shell.setblocking(False)
        asked = 0.0

        def answered() -> bool:
            nonlocal asked
            if time.monotonic() - asked > ASK_AGAIN_S:
                asked = time.monotonic()
                self._type(
                    f"mkdir -p {SHARE}; mountpoint -q {SHARE} || "
                    f"mount -t 9p -o {SHARE_OPTIONS} share {SHARE}; touch {SHARE}/hello\n"
                )
            self._drain()
            return hello.exists()

        self._until(answered, BOOT_LIMIT_S, "the machine's shell does not answer")
        self._answered = time.monotonic()

    def _type(self, line: str) -> None:
        assert self._shell is not None
        try:
            self._shell.send(line.encode())
        except BlockingIOError:
            pass  # nobody reads yet: asked again
        except ConnectionError:
            raise MachineError("QEMU has ended") from None

    def _drain(self) -> None:
        """Take what the shell echoes; a full socket would stop it."""
        if self._shell is None:
            return
        with contextlib.suppress(BlockingIOError, ConnectionError):
            while self._shell.recv(65_536):
                pass

    def _until(self, true: Callable[[], bool], limit_s: float, otherwise: str) -> None:
        deadline = time.monotonic() + limit_s
        while not true():
            self._drain()
            process = self._process
            if process is not None and process.poll() is not None and not true():
                qemu = (self._folder / "qemu.log").read_text(errors="replace")
                raise MachineError(
                    f"QEMU ended ({process.returncode}): {otherwise}\n{qemu}{self.last_words()}"
                )
            if time.monotonic() > deadline:
                raise MachineError(f"{otherwise}\n--- console:\n{self.last_words()}")
            time.sleep(LOOK_AGAIN_S)
