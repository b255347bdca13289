"""Emulated arm64 boards for the image: `virt`, started by U-Boot as on a Pi, and `raspi3b`.

QEMU comes from image-build's tools: it must know raspi3b as Debian 13's does, whatever the host has.
"""

from __future__ import annotations

import re
from pathlib import Path

from tests.machine.qemu import SHELL, Machine, System

# QEMU resets the board in the moment in which its watchdog is started.
NO_WATCHDOG = "systemd.watchdog_sec=0"
TOP = Path(__file__).parent.parent.parent


def tool(cache: Path, share: list[Path], *command: str) -> list[str]:
    """The command that runs a program of image-build's tools."""
    words = [str(TOP / "image-build/run-tool"), "--cache", str(cache), "--out", str(cache / "out")]
    for folder in share:
        words += ["--share", str(folder)]
    return [*words, "--", *command]


class VirtBoard(Machine):
    """QEMU's `virt`. Without a kernel in `system`, U-Boot starts what the disk's boot script says."""

    uboot = "/usr/lib/u-boot/qemu_arm64/u-boot.bin"

    def __init__(self, system: System, cache: Path) -> None:
        super().__init__(system)
        self._cache = cache

    def command(self) -> list[str]:
        system = self._system
        drive = f"file={system.disk},format=raw,if=none,id=d0" + ("" if system.writable else ",snapshot=on")
        command = [
            "qemu-system-aarch64",
            "-M",
            "virt,acpi=off",
            "-cpu",
            "cortex-a72",
            "-accel",
            "tcg,thread=multi",
        ]
        command += ["-smp", str(system.cpus), "-m", str(system.memory_mb), "-nographic", "-no-reboot"]
        command += ["-monitor", "none", "-drive", drive, "-device", "virtio-blk-pci,drive=d0,bootindex=0"]
        command += ["-netdev", "user,id=n0,restrict=on", "-device", "virtio-net-pci,netdev=n0,romfile="]
        command += ["-virtfs", f"local,path={self.share},mount_tag=share,security_model=none,id=s0"]
        command += ["-serial", f"file:{self.console}"]
        command += ["-serial", f"unix:{self._folder}/shell.sock,server=on,wait=off"]
        command += ["-qtest", f"unix:{self._folder}/qtest.sock,server=on,wait=off"]
        if system.kernel is None:
            command += ["-bios", self.uboot]
        else:
            command += ["-kernel", str(system.kernel), "-initrd", str(system.initrd)]
            command += ["-append", f"{system.append} {SHELL.replace('ttyS1', 'ttyAMA1')}"]
        return tool(self._cache, [self._folder, system.disk.parent], *command, *system.extra)

    @property
    def qtest(self) -> Path:
        """Where QEMU takes levels for its chips' lines."""
        return self._folder / "qtest.sock"


class RaspberryPi3(VirtBoard):
    """QEMU's `raspi3b`, started with the slot's kernel and device tree: there is no Pi firmware to emulate.

    Its serial port is its only way out, so it is watched and not asked.
    """

    def __init__(self, system: System, cache: Path, device_tree: Path) -> None:
        super().__init__(system, cache)
        self._device_tree = device_tree

    def command(self) -> list[str]:
        system = self._system
        command = ["qemu-system-aarch64", "-M", "raspi3b", "-accel", "tcg,thread=multi", "-nographic"]
        command += [
            "-no-reboot",
            "-monitor",
            "none",
            "-kernel",
            str(system.kernel),
            "-initrd",
            str(system.initrd),
        ]
        command += ["-dtb", str(self._device_tree), "-append", f"{system.append} {NO_WATCHDOG}"]
        command += ["-drive", f"file={system.disk},format=raw,if=sd", "-serial", f"file:{self.console}"]
        return tool(self._cache, [self._folder, system.disk.parent], *command)

    def watch(self, pattern: str, limit_s: float) -> str:
        """Start it and wait until the console says what the pattern means; returns the console's text."""
        self._start()
        try:
            self._until(
                lambda: re.search(pattern, self._console()) is not None,
                limit_s,
                f"the board never said {pattern!r}",
            )
            return self._console()
        finally:
            self.close()

    def _console(self) -> str:
        return self.console.read_text(errors="replace") if self.console.exists() else ""
