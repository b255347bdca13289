"""The slot's header: what is written is what a boot loader and the initrd find again."""

from __future__ import annotations

import zlib
from pathlib import Path

import pytest
from imaging.slot import BLOCK, HEADER_BYTES, checksum, command_line, extract, read_header
from imaging.steps import BuildError


def write_slot(path: Path, kernel: bytes, **changes: str) -> None:
    header = {
        "vm_format": "1",
        "vm_cmdline": "console=tty1",
        "vm_root": "1,2,3,4,5,6",
        "vm_kernel_at": "8",
        "vm_kernel_bytes": f"{len(kernel):x}",
        "vm_kernel_sum": checksum(kernel),
    } | changes
    text = "".join(f"{name}={value}\n" for name, value in header.items()).encode()
    path.write_bytes(b"before" * 100 + text.ljust(HEADER_BYTES, b"\0") + kernel)


def test_a_part_is_found_again(tmp_path: Path) -> None:
    slot, out = tmp_path / "slot", tmp_path / "kernel"
    write_slot(slot, b"a kernel" * 1000)
    extract(slot, "kernel", out, offset=600)
    assert out.read_bytes() == b"a kernel" * 1000
    assert HEADER_BYTES == 8 * BLOCK


def test_a_damaged_part_is_refused(tmp_path: Path) -> None:
    slot = tmp_path / "slot"
    write_slot(slot, b"a kernel")
    data = bytearray(slot.read_bytes())
    data[-1] ^= 1
    slot.write_bytes(data)
    with pytest.raises(BuildError, match="kernel is damaged"):
        extract(slot, "kernel", tmp_path / "kernel", offset=600)


def test_what_is_no_slot_is_refused(tmp_path: Path) -> None:
    slot = tmp_path / "slot"
    write_slot(slot, b"", vm_format="2")
    with pytest.raises(BuildError, match="format 1"):
        read_header(slot, 600)
    with pytest.raises(BuildError, match="format 1"):
        read_header(slot, 0)


def test_the_sum_is_the_one_uboot_reads_back() -> None:
    """`crc32` stores it big-endian at an address, `setexpr.l` reads that address little-endian."""
    stored = zlib.crc32(b"kernel").to_bytes(4, "big")
    assert checksum(b"kernel") == f"{int.from_bytes(stored, 'little'):x}"


def test_the_command_line_names_slot_root_and_disk() -> None:
    header = {"vm_cmdline": "quiet", "vm_root": "1,2,3,4,h,s"}
    assert command_line(header, "b", "mmc") == (
        "quiet voicemeet.slot=b rauc.slot=B voicemeet.root=1,2,3,4,h,s voicemeet.disk=mmc"
    )
