"""A root slot: one file that holds everything of a system, written whole to one partition and never changed.

    block 0      header: text, one `name=value` a line, padded with zeros to 4096 bytes
    then         kernel, initrd, device trees and overlays, each at a multiple of 4096
    then         the root file system (erofs), at a multiple of 1 MiB, followed by its dm-verity hashes

A boot loader needs block reads only for the header; by the hash in it the initrd opens the root. Numbers
are hexadecimal without prefix, as U-Boot takes them; blocks are 512 bytes.
"""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import zlib
from dataclasses import dataclass
from pathlib import Path

from imaging.project import Build
from imaging.steps import BuildError

HEADER_BYTES = 4096
BLOCK = 512
ALIGN = 4096
ROOT_ALIGN = 1 << 20
FORMAT = "1"
# Of the erofs; one release's is not another's, but each build of it is the same.
_NAMESPACE = "voicemeet-edge root"


@dataclass(frozen=True)
class Part:
    """A piece of a slot that the boot loader reads."""

    name: str
    path: Path


def pack(
    build: Build, out: Path, root: Path, parts: list[Part], *, cmdline: str, version: str, role: str
) -> dict[str, str]:
    """Write the slot file `out` and return its header."""
    header = {
        "vm_format": FORMAT,
        "vm_version": version,
        "vm_arch": build.arch,
        "vm_role": role,
        "vm_cmdline": cmdline,
    }
    with out.open("wb") as file:
        position = HEADER_BYTES
        for part in parts:
            data = part.path.read_bytes()
            file.seek(position)
            file.write(data)
            header[f"vm_{part.name}_at"] = f"{position // BLOCK:x}"
            header[f"vm_{part.name}_blocks"] = f"{-(-len(data) // BLOCK):x}"
            header[f"vm_{part.name}_bytes"] = f"{len(data):x}"
            header[f"vm_{part.name}_sum"] = checksum(data)
            position = _up(position + len(data), ALIGN)
        start = _up(position, ROOT_ALIGN)
    erofs, verity = out.with_suffix(".erofs"), out.with_suffix(".verity")
    _filesystem(build, root, erofs, version, quick=role == "bench")
    header["vm_root"] = _join(build, out, erofs, verity, start)
    text = "".join(f"{name}={value}\n" for name, value in header.items()).encode()
    if len(text) >= HEADER_BYTES:
        raise BuildError(f"the slot's header has {len(text)} bytes; there is room for {HEADER_BYTES - 1}")
    with out.open("r+b") as file:
        file.write(text.ljust(HEADER_BYTES, b"\0"))
    return header


def read_header(path: Path, offset: int = 0) -> dict[str, str]:
    """Read the header of a slot, which starts `offset` bytes into the file or device."""
    with path.open("rb") as file:
        file.seek(offset)
        text = file.read(HEADER_BYTES).split(b"\0")[0].decode("ascii", "replace")
    header = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
    if header.get("vm_format") != FORMAT:
        raise BuildError(f"{path} holds no slot of format {FORMAT}")
    return header


def checksum(data: bytes) -> str:
    """CRC-32 as U-Boot can compare it: stored big-endian by `crc32`, read back little-endian by `setexpr`."""
    return f"{int.from_bytes(zlib.crc32(data).to_bytes(4, 'big'), 'little'):x}"


def extract(path: Path, name: str, out: Path, offset: int = 0) -> None:
    """Take a part out of a slot, its checksum checked."""
    header = read_header(path, offset)
    with path.open("rb") as file:
        file.seek(offset + int(header[f"vm_{name}_at"], 16) * BLOCK)
        data = file.read(int(header[f"vm_{name}_bytes"], 16))
    if checksum(data) != header[f"vm_{name}_sum"]:
        raise BuildError(f"{path}: {name} is damaged")
    out.write_bytes(data)


def command_line(header: dict[str, str], slot: str, disk: str = "") -> str:
    """What the boot script gives the kernel."""
    words = f"{header['vm_cmdline']} voicemeet.slot={slot} rauc.slot={slot.upper()}"
    words += f" voicemeet.root={header['vm_root']}"
    return words + (f" voicemeet.disk={disk}" if disk else "")


def _filesystem(build: Build, root: Path, out: Path, version: str, *, quick: bool) -> None:
    """Make the erofs; `quick` is twice as fast to make and a quarter larger."""
    uuid = _uuid(f"{_NAMESPACE} {version} {os.environ['SOURCE_DATE_EPOCH']}")
    command: list[str | Path] = ["mkfs.erofs", "--quiet", "-C65536"]
    command += ["-zlz4"] if quick else ["-zlz4hc,9", "-Efragments,ztailpacking"]
    command += [f"-T{os.environ['SOURCE_DATE_EPOCH']}", f"-U{uuid}", "-Lvoicemeet", out, root]
    out.unlink(missing_ok=True)
    build.tools.run(command)


def _join(build: Build, out: Path, erofs: Path, verity: Path, start: int) -> str:
    """Append file system and hashes; return what the initrd needs to open them."""
    size = erofs.stat().st_size
    with erofs.open("r+b") as file:
        file.truncate(_up(size, ALIGN))
    blocks = erofs.stat().st_size // ALIGN
    salt = hashlib.sha256(f"{_NAMESPACE} {os.environ['SOURCE_DATE_EPOCH']}".encode()).hexdigest()
    verity.unlink(missing_ok=True)
    told = build.tools.run(
        ["veritysetup", "format", "--no-superblock", "--hash=sha256", f"--salt={salt}", erofs, verity]
    )
    found = re.search(r"Root hash:\s+([0-9a-f]{64})", told)
    if found is None:
        raise BuildError("veritysetup named no root hash")
    for path in (erofs, verity):
        subprocess.run(
            [
                "dd",
                f"if={path}",
                f"of={out}",
                "bs=1M",
                "conv=notrunc",
                "oflag=seek_bytes",
                f"seek={start}",
                "status=none",
            ],
            check=True,
        )
        if path is erofs:
            start_of_hashes = start + erofs.stat().st_size
            first, start = start, start_of_hashes
    sectors = (erofs.stat().st_size + _up(verity.stat().st_size, ALIGN)) // BLOCK
    with out.open("r+b") as file:
        file.truncate(first + sectors * BLOCK)
    erofs.unlink()
    verity.unlink()
    return f"{first // BLOCK},{sectors},{blocks},{blocks},{found[1]},{salt}"


def _up(value: int, step: int) -> int:
    return -(-value // step) * step


def _uuid(text: str) -> str:
    digest = hashlib.sha256(text.encode()).hexdigest()
    return f"{digest[:8]}-{digest[8:12]}-4{digest[13:16]}-8{digest[17:20]}-{digest[20:32]}"
