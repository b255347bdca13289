"""What firmware/boot.cmd does, for a machine that QEMU starts without a boot loader: choose a slot, count it.

The arm64 image is started by the real script in U-Boot (tests/image/test_arm64.py). An amd64 machine has
none, so its "firmware" is here: the same boot state in the same place, the same rule.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, replace
from pathlib import Path

from imaging import slot as slots
from imaging.disk import partition_start
from imaging.steps import BuildError

from tests.machine.qemu import System

COPY_BYTES = 0x4000
STARTS = 3


@dataclass
class BootState:
    """The three variables of the partition bootstate."""

    order: list[str]
    left: dict[str, int]

    @classmethod
    def read(cls, disk: Path) -> BootState:
        """Read the first copy whose checksum is right, else begin anew, as the script does."""
        with disk.open("rb") as file:
            file.seek(partition_start(disk, "bootstate"))
            raw = file.read(2 * COPY_BYTES)
        for copy in (raw[:COPY_BYTES], raw[COPY_BYTES:]):
            if int.from_bytes(copy[:4], "little") == zlib.crc32(copy[4:]):
                words = copy[4:].split(b"\0\0")[0].decode().split("\0")
                known = dict(word.split("=", 1) for word in words if "=" in word)
                left = {name: int(known.get(f"BOOT_{name}_LEFT") or 0) for name in "AB"}
                return cls(known.get("BOOT_ORDER", "A B").split(), left)
        return cls(["A", "B"], {"A": STARTS, "B": STARTS})

    def write(self, disk: Path) -> None:
        """Write both copies."""
        words = [f"BOOT_ORDER={' '.join(self.order)}", *(f"BOOT_{n}_LEFT={self.left[n]}" for n in "AB")]
        data = "".join(f"{word}\0" for word in words).encode().ljust(COPY_BYTES - 4, b"\0")
        copy = zlib.crc32(data).to_bytes(4, "little") + data
        with disk.open("r+b") as file:
            file.seek(partition_start(disk, "bootstate"))
            file.write(2 * copy)

    def choose(self) -> str:
        """Take the first slot with a start left and count the start; when none has one, all get three."""
        for name in self.order:
            if self.left[name] > 0:
                self.left[name] -= 1
                return name
        self.left = {"A": STARTS, "B": STARTS}
        return self.order[0]


def next_start(system: System) -> System:
    """Return the machine as its loader starts it now; the disk's boot state has counted it."""
    disk = system.disk
    state = BootState.read(disk)
    chosen = state.choose()
    state.write(disk)
    for name in [chosen, *state.order]:
        offset = partition_start(disk, f"root_{name.lower()}")
        try:
            header = slots.read_header(disk, offset)
            kernel, initrd = disk.with_name(f"{name}.kernel"), disk.with_name(f"{name}.initrd")
            slots.extract(disk, "kernel", kernel, offset)
            slots.extract(disk, "initrd", initrd, offset)
        except (BuildError, ValueError, KeyError):
            continue  # "slot … does not start"
        words = slots.command_line(header, name.lower()) + " console=ttyS0"
        return replace(system, kernel=kernel, initrd=initrd, append=words)
    raise AssertionError("no slot starts")
