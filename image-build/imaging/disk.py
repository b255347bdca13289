"""The disk image: card, boot state, two root slots and data, under a GPT with the card in a hybrid MBR too.

The Pi 3's boot ROM reads only MBRs, everything else the GPT. The data partition is last and empty: the device
makes its file system at first start, in the size of the real card.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from imaging.project import PROJECT, Build
from imaging.steps import BuildError, remove

MIB = 1 << 20
SECTOR = 512
BLANK_BYTES = 64 << 10  # of data: what the device takes for a partition that was never used (`preinit`)
CARD_MIB = 128
STATE_MIB = 8
DATA_MIB = 8
STATE_COPY_BYTES = 0x4000  # U-Boot's environment in the boot state, twice: see firmware/boot.cmd

# Fixed, so that a build can be repeated; the partitions are found by name, on the disk that was booted.
_DISK_UUID = "564d4545-0000-4000-8000-766f69636565"
_PARTITION_UUID = "564d4545-000{}-4000-8000-766f69636565"
_FAT_SERIAL = "564d4545"


@dataclass(frozen=True)
class Sizes:
    """Partition sizes in MiB."""

    slot: int
    card: int = CARD_MIB


def card(build: Build, out: Path, sizes: Sizes, files: Path) -> None:
    """Make the FAT partition from a folder."""
    out.unlink(missing_ok=True)
    with out.open("wb") as file:
        file.truncate(sizes.card * MIB)
    build.tools.run(["mkfs.vfat", "--invariant", "-F", "32", "-i", _FAT_SERIAL, "-n", "VOICEMEET", out])
    names = sorted(files.iterdir())
    epoch = int(os.environ["SOURCE_DATE_EPOCH"])
    for path in files.rglob("*"):
        os.utime(path, (epoch, epoch))
    if names:
        env = {"MTOOLS_SKIP_CHECK": "1", "TZ": "UTC"}
        build.tools.run(["mcopy", "-s", "-m", "-i", out, *names, "::"], env=env)


def assemble(build: Build, out: Path, *, card_image: Path, slot: Path, sizes: Sizes) -> None:
    """Join the partitions; BuildError when the slot does not fit."""
    if slot.stat().st_size > sizes.slot * MIB:
        need = -(-slot.stat().st_size // MIB)
        raise BuildError(f"the system takes {need} MiB, a slot has {sizes.slot}: choose a larger --slot-size")
    work = out.with_suffix(".parts")
    remove(work)
    (work / "input").mkdir(parents=True)
    for source, name in ((card_image, "card.vfat"), (slot, "root.slot")):
        os.link(source, work / "input" / name)
    state = _first_boot_state(build, work)
    os.link(state, work / "input" / "bootstate.bin")
    (work / "genimage.cfg").write_text(_config(out.name, sizes))
    command: list[str | Path] = ["genimage", "--config", work / "genimage.cfg", "--inputpath", work / "input"]
    command += ["--outputpath", work / "output", "--tmppath", work / "tmp", "--rootpath", work / "root"]
    (work / "root").mkdir()
    build.tools.run(command)
    shutil.move(work / "output" / out.name, out)
    remove(work)


def _first_boot_state(build: Build, work: Path) -> Path:
    """Slot A, three tries; slot B is empty until an update fills it."""
    text, env, state = work / "state.txt", work / "state.env", work / "state.bin"
    text.write_text("BOOT_ORDER=A\nBOOT_A_LEFT=3\nBOOT_B_LEFT=0\n")
    build.tools.run(["mkenvimage", "-s", hex(STATE_COPY_BYTES), "-p", "0", "-o", env, text])
    state.write_bytes(env.read_bytes() * 2)
    return state


def _config(name: str, sizes: Sizes) -> str:
    def partition(number: int, label: str, image: str, size: int, extra: str = "") -> str:
        lines = [f"    partition {label} {{", f'        partition-uuid = "{_PARTITION_UUID.format(number)}"']
        lines += [f"        size = {size}M"]
        if image:
            lines.append(f'        image = "{image}"')
        return "\n".join([*lines, *([extra] if extra else []), "    }"])

    linux = '        partition-type-uuid = "linux"'
    # 0xC: FAT32 by LBA; only what has a type of its own gets into the MBR.
    fat = "        partition-type = 0xC\n        bootable = true\n        partition-type-uuid = " + (
        '"ebd0a0a2-b9e5-4433-87c0-68b6b72699c7"'
    )
    return "\n".join(
        [
            f"image {name} {{",
            '    hdimage { partition-table-type = "hybrid"',
            "        align = 1M",
            f'        disk-uuid = "{_DISK_UUID}"',
            "        disk-signature = 0x564d4545 }",
            partition(1, "card", "card.vfat", sizes.card, fat),
            partition(2, "bootstate", "bootstate.bin", STATE_MIB, linux),
            partition(3, "root_a", "root.slot", sizes.slot, linux),
            partition(4, "root_b", "", sizes.slot, linux),
            partition(5, "data", "", DATA_MIB, linux),
            "}",
            "",
        ]
    )


def partition_start(disk: Path, name: str) -> int:
    """Byte where the partition of that name starts, from the image's GPT."""
    with disk.open("rb") as file:
        table = file.read(34 * SECTOR)
    for number in range(128):
        entry = table[2 * SECTOR + 128 * number :][:128]
        if entry[56:].decode("utf-16-le").rstrip("\0") == name:
            return int.from_bytes(entry[32:40], "little") * SECTOR
    raise LookupError(name)


def blank_data(disk: Path) -> None:
    """Write out the zeros that data begins with: a block map leaves holes alone, and flashing forgets."""
    with disk.open("r+b") as file:
        file.seek(partition_start(disk, "data"))
        file.write(bytes(BLANK_BYTES))


def firmware_files(build: Build, out: Path) -> None:
    """What the FAT partition carries: our templates, and on arm64 the Pi's own first stages and U-Boot."""
    remove(out)
    out.mkdir(parents=True)
    firmware = PROJECT / "firmware"
    for name in ("voicemeet.toml", "network.toml"):
        if (firmware / name).exists():
            shutil.copy(firmware / name, out / name.replace(".toml", ".example.toml"))
    script = out / "boot.scr"
    build.tools.run(
        [
            "mkimage",
            "-A",
            "arm64",
            "-T",
            "script",
            "-C",
            "none",
            "-n",
            "VoiceMeet Edge",
            "-d",
            firmware / "boot.cmd",
            script,
        ]
    )
    if build.arch != "arm64":
        return
    apt = build.apt()
    unpacked = build.cache / "work-firmware"
    remove(unpacked)
    apt.unpack(apt.download(["u-boot-rpi", "raspi-firmware"]), unpacked)
    shutil.copy(unpacked / "usr/lib/u-boot/rpi_arm64/u-boot.bin", out / "u-boot.bin")
    for path in sorted((unpacked / "usr/lib/raspi-firmware").iterdir()):
        # Not the cut-down, camera and debug variants.
        if path.name in ("bootcode.bin", "fixup.dat", "start.elf", "fixup4.dat", "start4.elf"):
            shutil.copy(path, out / path.name)
    for name in ("config.txt", "cmdline.txt", "boot.env"):
        shutil.copy(firmware / name, out / name)
    remove(unpacked)
    # The first stages want a device tree of the board; the kernel gets the slot's own.
