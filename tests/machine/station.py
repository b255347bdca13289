"""A card that is updated again and again, and the machine it is put into.

One rule: a bundle is the built slot with other words in its header: another version, or a kernel's word that
makes that very system unhealthy. So no test waits for a second build.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.machine import system
from tests.machine.loader import BootState, next_start
from tests.machine.qemu import Machine, MachineError, System

HERE = Path(__file__).parent
HEADER_BYTES = 4096
STICK_BYTES = 512 << 20  # of a second drive, on which bundles come: by QEMU's share it takes them 40 s
MIB = 1 << 20
END_LIMIT_S = 900.0  # s from the word to restart until the machine has ended: a slot is written in between
READY = 'until_true 240 "the device is ready" says voicemeet-edge "Ready: press call"'
PROVED = 'until_true 400 "it proves itself" test -e /run/voicemeet/proved'
# In a trusted slot, calling; and why it is this one.
CALLS = 'until_true 60 "it calls itself" voicemeet-edge self-test && echo "It calls."'
BACK = f"{READY}\n{PROVED}\nvoicemeet-edge update --history\n{CALLS}"
# The first thing in a new slot: nobody looks for proofs before the test has done what it came for.
NOT_YET = "systemctl mask --quiet --runtime --now voicemeet-prove"
SETUP_LIMIT_S = 600.0  # s for one script; three minutes on two quiet cores


class Station:
    """One card in one folder.

    Args:
        built: the image, with its slot beside it.
        folder: for the card, bundles and keys.
    """

    def __init__(self, built: System, folder: Path) -> None:
        self.folder = folder
        self.disk = folder / "card.img"
        # A copy of the slot, too: other tests may build theirs anew later.
        with system.nobody_builds():
            for suffix in (".img", ".slot"):
                source, copy = built.disk.with_suffix(suffix), self.disk.with_suffix(suffix)
                subprocess.run(["cp", "--sparse=always", str(source), str(copy)], check=True)
        self.slot_bytes = self.disk.with_suffix(".slot").stat().st_size
        os.truncate(self.disk, system.DISK_BYTES)
        self._stick = folder / "stick.img"
        self._stick.touch()
        os.truncate(self._stick, STICK_BYTES)
        drive = ("-drive", f"file={self._stick},format=raw,if=virtio,readonly=on")
        self.cpus = 1
        """Processors from the next start on; two emulated ones wait for each other beside another machine."""
        self.system = System(self.disk, memory_mb=built.memory_mb, writable=True, extra=drive)
        self.key("maker")
        self.console = ""
        """What the console had said when the machine went down."""
        self.slot = ""
        """What runs, or ran last."""
        self.update_s = 60.0
        """Seconds that the last update took, from the command until the machine was down."""
        self._machine: Machine | None = None
        self._starts = 0
        self._since = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def key(self, name: str) -> None:
        """Make a key and its certificate; only "maker" is known to the machine."""
        command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "3650"]
        command += ["-subj", f"/CN={name}"]
        command += ["-keyout", str(self.folder / f"{name}.key"), "-out", str(self.folder / f"{name}.pem")]
        subprocess.run(command, check=True, capture_output=True)

    def bundle(self, version: str, *, words: str = "", role: str = "bench", key: str = "maker") -> Path:
        """Sign the built slot as another version, with more words for its kernel."""
        slot = self.folder / f"{version}.slot"
        shutil.copyfile(self.disk.with_suffix(".slot"), slot)
        with slot.open("r+b") as file:
            text = file.read(HEADER_BYTES).split(b"\0")[0].decode()
            lines = dict(line.split("=", 1) for line in text.splitlines())
            lines |= {"vm_version": version, "vm_role": role, "vm_cmdline": f"{lines['vm_cmdline']} {words}"}
            file.seek(0)
            header = "".join(f"{name}={value}\n" for name, value in lines.items()).encode()
            file.write(header.ljust(HEADER_BYTES, b"\0"))
        command = [str(system.TOP / "image-build/bundle"), "--arch", "amd64", "--cache", str(system.CACHE)]
        command += ["--out", str(self.folder), "--slot", str(slot)]
        command += ["--key", str(self.folder / f"{key}.key"), "--cert", str(self.folder / f"{key}.pem")]
        subprocess.run(command, check=True)
        slot.unlink()
        return self.folder / f"voicemeet-edge-{role}-amd64-{version}.raucb"

    @property
    def machine(self) -> Machine:
        """The machine that runs; started as its loader does it when it is down."""
        if self._machine is None:
            self.start()
        assert self._machine is not None
        return self._machine

    def start(self, first: str = "update_bench") -> Machine:
        """Start the machine as its loader does; `first` runs as soon as its shell answers."""
        assert self._machine is None, "it runs"
        self._starts += 1
        self._machine = machine = Machine(replace(next_start(self.system), cpus=self.cpus))
        machine.__enter__()
        for name in ("bench.sh", "wedge.py"):
            shutil.copyfile(HERE / name, machine.share / name)
        shutil.copyfile(self.folder / "maker.pem", machine.share / "keyring.pem")
        self.slot = inside(machine, f"cat /run/voicemeet/slot\n{first}").split()[0]
        self.say(f"start {self._starts}: slot {self.slot}, a shell after {machine.booted_after_s:.0f} s")
        return machine

    def say(self, text: str) -> None:
        """A line of the record that docs/ keeps; also beside the card, for who looks while it runs."""
        line = f"[{(time.monotonic() - self._since) / 60:5.1f} min] {text}"
        print(line, flush=True)
        with (self.folder / "record.txt").open("a") as file:
            file.write(f"{line}\n")

    def ask(self, script: str, limit_s: float = SETUP_LIMIT_S) -> str:
        """Run a script in the machine; returns what it said."""
        said = inside(self.machine, script, limit_s)
        for line in said.splitlines():
            self.say(f"    {line}")
        return said

    def down(self, script: str, limit_s: float = END_LIMIT_S) -> str:
        """Run a script that ends in a restart, until the machine has gone down; returns what it said."""
        machine = self.machine
        said = machine.run_to_the_end(f"set -u\n. /run/bench/bench.sh\n{script}\n", limit_s=limit_s)
        self.cut()
        for line in said.splitlines():
            self.say(f"    {line}")
        return said

    def start_in_vain(self, seconds: float) -> None:
        """Start a system that never answers; the power goes after these seconds, or it restarts before."""
        self._starts += 1
        machine = Machine(next_start(self.system))
        try:
            machine.start_unasked()
            deadline = time.monotonic() + seconds
            while machine.runs and time.monotonic() < deadline:
                time.sleep(0.5)
            self.say(f"start {self._starts}: {'hangs' if machine.runs else 'restarts by itself'}")
        finally:
            machine.close()

    def cut_after(self, script: str) -> list[str]:
        """Take the power when a script ends; one that has had the machine restart before is as good."""
        try:
            said = inside(self.machine, script).splitlines()
        except MachineError as error:
            assert "QEMU ended" in str(error)  # noqa: PT017 - it restarted by itself
            said = ["it was down before"]
        self.cut()
        for line in said:
            self.say(f"    {line}")
        return said

    def secret(self) -> str:
        """Return the device's key to the hub."""
        return inside(self.machine, "sed -n 's/apikey = \"\\(.*\\)\"/\\1/p' $BOX_SETTINGS").strip()

    def off(self) -> None:
        """Shut the machine down in order."""
        self.machine.power_off()
        self.cut()

    def cut(self) -> None:
        """Take the power, if there is any."""
        machine, self._machine = self._machine, None
        if machine is not None:
            self.console = machine.last_words(300)
            machine.close()

    def give(self, bundle: Path) -> str:
        """Bring a bundle to the machine; returns where it has it."""
        there, size = f"/data/{bundle.name}", bundle.stat().st_size
        with bundle.open("rb") as source, self._stick.open("r+b") as stick:
            shutil.copyfileobj(source, stick, MIB)
        inside(
            self.machine,
            f"""
            rm -f /data/*.raucb
            dd if=/dev/vdb of={there} bs={MIB} count={-(-size // MIB)} iflag=direct status=none || exit 1
            truncate -s {size} {there}; sync
            """,
        )
        return there

    def update(self, bundle: Path) -> str:
        """Update by a bundle until the machine goes down for it; returns what was said."""
        began = time.monotonic()
        said = self.down(f"voicemeet-edge update {self.give(bundle)}")
        self.update_s = time.monotonic() - began
        self.say(f"    down for it after {self.update_s:.0f} s")
        return said

    def set_up(self) -> None:
        """Set hub and device up; their settings stay on the card."""
        inside(
            self.machine,
            f"""
            hub_settings
            systemctl start voicemeet-hub
            until_true 120 "the hub is up" is_active voicemeet-hub
            voicemeet-edge device-settings | sed '/^\\[call\\]/,$d' >/run/bench/backend.toml
            device_settings $BOX_SETTINGS Loopback GPIO caller
            sync
            systemctl start voicemeet-edge
            {READY}
            """,
        )

    def close(self) -> None:
        """End the machine and throw the card away."""
        self.cut()
        self.disk.unlink(missing_ok=True)

    def boot_state(self) -> BootState:
        """Read the card's boot state."""
        return BootState.read(self.disk)


def inside(machine: Machine, script: str, limit_s: float = SETUP_LIMIT_S) -> str:
    """Run a script with what bench.sh knows; returns what it said."""
    return machine.run(f"set -u\n. /run/bench/bench.sh\n{script}\n", limit_s=limit_s).output
