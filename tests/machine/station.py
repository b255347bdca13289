"""A card that is updated again and again, and the machine it is put into.

One rule: a bundle is the built slot with other words in its header: another version, or a kernel's word that
makes that very system unhealthy. So no test waits for a second build.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.machine import system
from tests.machine.loader import BootState, next_start
from tests.machine.qemu import Machine, System

HERE = Path(__file__).parent
HEADER_BYTES = 4096
END_LIMIT_S = 900.0  # s from the word to restart until the machine has ended: a slot is written in between
SETUP_LIMIT_S = 600.0  # s for one script; three minutes on two quiet cores


class Station:
    """One card in one folder.

    Args:
        built: the image.
        folder: for the card, bundles and keys.
    """

    def __init__(self, built: System, folder: Path) -> None:
        self.folder = folder
        self.slot = built.disk.with_suffix(".slot")
        self.disk = folder / "card.img"
        subprocess.run(["cp", "--sparse=always", str(built.disk), str(self.disk)], check=True)
        os.truncate(self.disk, system.DISK_BYTES)
        self.system = System(self.disk, memory_mb=built.memory_mb, writable=True)
        self.key("maker")

    def key(self, name: str) -> None:
        """Make a key and its certificate; only "maker" is known to the machine."""
        command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "3650"]
        command += ["-subj", f"/CN={name}"]
        command += ["-keyout", str(self.folder / f"{name}.key"), "-out", str(self.folder / f"{name}.pem")]
        subprocess.run(command, check=True, capture_output=True)

    def bundle(self, version: str, *, words: str = "", role: str = "bench", key: str = "maker") -> Path:
        """Sign the built slot as another version, with more words for its kernel."""
        slot = self.folder / f"{version}.slot"
        shutil.copyfile(self.slot, slot)
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

    @contextmanager
    def start(self, *bundles: Path) -> Iterator[Machine]:
        """Start the machine as its loader does, with these bundles at /run/bench/NAME."""
        with Machine(next_start(self.system)) as machine:
            for name in ("bench.sh", "wedge.py"):
                shutil.copyfile(HERE / name, machine.share / name)
            shutil.copyfile(self.folder / "maker.pem", machine.share / "keyring.pem")
            for bundle in bundles:
                os.link(bundle, machine.share / bundle.name)
            inside(machine, "update_bench")
            yield machine

    def first_start(self, machine: Machine) -> None:
        """Set hub and device up; their settings stay on the card."""
        inside(
            machine,
            """
            hub_settings
            systemctl start voicemeet-hub
            until_true 120 "the hub is up" is_active voicemeet-hub
            voicemeet-edge device-settings | sed '/^\\[call\\]/,$d' >/run/bench/backend.toml
            device_settings $BOX_SETTINGS Loopback GPIO caller
            systemctl start voicemeet-edge
            until_true 120 "the device is ready" says voicemeet-edge "Ready: press call"
            """,
        )

    def boot_state(self) -> BootState:
        """Read the card's boot state."""
        return BootState.read(self.disk)


def inside(machine: Machine, script: str, limit_s: float = SETUP_LIMIT_S) -> str:
    """Run a script with what bench.sh knows; returns what it said."""
    return machine.run(f"set -u\n. /run/bench/bench.sh\n{script}\n", limit_s=limit_s).output


def restart_by(machine: Machine, script: str, limit_s: float = END_LIMIT_S) -> str:
    """Run a script that ends in a restart and wait until the machine has gone down; returns what it said."""
    return machine.run_to_the_end(f"set -u\n. /run/bench/bench.sh\n{script}\n", limit_s=limit_s)
