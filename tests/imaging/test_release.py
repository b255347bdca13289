"""What is published: the Imager's list, the lock, and the comparison of two builds."""

from __future__ import annotations

import lzma
import subprocess
import sys
from pathlib import Path

import pytest
from imaging import manifest
from imaging.apt import compare_lock, write_lock
from imaging.steps import fingerprint

COMPARE = Path(__file__).parent.parent.parent / "image-build/compare"


def entry() -> dict[str, object]:
    return manifest.entry(
        role="device",
        version="1.0",
        url="https://example.org/x.img.xz",
        size=1,
        sha256="0" * 64,
        packed_size=1,
        packed_sha256="f" * 64,
        epoch=0,
    )


def test_our_own_list_is_one_the_imager_takes() -> None:
    assert manifest.problems({"os_list": [entry()]}) == []
    assert entry()["release_date"] == "1970-01-01"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("extract_sha256", "0" * 63),
        ("extract_size", "1"),
        ("init_format", "custom"),
        ("url", "https://example.org/x.img.zst"),
        ("url", "x.img.xz"),
        ("release_date", "today"),
        ("devices", "pi4"),
        ("nonsense", 1),
    ],
)
def test_a_wrong_entry_is_named(key: str, value: object) -> None:
    found = manifest.problems({"os_list": [entry() | {key: value}]})
    assert any(key in line for line in found), found


def test_a_list_without_images_is_wrong() -> None:
    assert manifest.problems({"os_list": []})
    assert manifest.problems({})


def test_the_lock_says_what_differs(tmp_path: Path) -> None:
    lock = tmp_path / "device-arm64.txt"
    assert compare_lock(lock, {}) == ["there is no device-arm64.txt yet"]
    write_lock(lock, {"bash": ("5", "aa"), "dash": ("1", "bb")})
    assert compare_lock(lock, {"bash": ("5", "aa"), "dash": ("1", "bb")}) == []
    said = compare_lock(lock, {"bash": ("6", "cc"), "zsh": ("1", "dd")})
    assert said == [
        "bash: locked 5, installed 6",
        "dash: locked, not installed",
        "zsh 1: installed, not locked",
    ]
    # The same version with another content is the one to fear.
    assert compare_lock(lock, {"bash": ("5", "xx"), "dash": ("1", "bb")})


def compare(one: Path, other: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(COMPARE), str(one), str(other)], capture_output=True, text=True
    )


def test_comparing_says_where_two_images_differ(tmp_path: Path) -> None:
    table = bytearray(3 << 20)
    table[512:520] = b"EFI PART"
    for number, (name, first, last) in enumerate((("card", 2048, 4095), ("root_a", 4096, 6143))):
        at = 1024 + 128 * number
        table[at : at + 16] = b"x" * 16
        table[at + 32 : at + 48] = first.to_bytes(8, "little") + last.to_bytes(8, "little")
        table[at + 56 : at + 56 + 2 * len(name)] = name.encode("utf-16-le")
    one, same, other = tmp_path / "a.img", tmp_path / "b.img.xz", tmp_path / "c.img"
    one.write_bytes(table)
    same.write_bytes(lzma.compress(table))
    done = compare(one, same)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "identical: 3 MiB" in done.stdout
    table[2 << 20] = 1
    other.write_bytes(table)
    done = compare(one, other)
    assert done.returncode == 1
    assert "card       identical" in done.stdout
    assert "root_a     1 MiB differ" in done.stdout


def test_a_kept_step_is_made_anew_when_a_file_of_it_changes(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    file = tmp_path / "folder/script"
    file.write_text("one")
    before = fingerprint([tmp_path / "folder", "x"])
    assert fingerprint([tmp_path / "folder", "x"]) == before
    file.chmod(0o755)
    assert fingerprint([tmp_path / "folder", "x"]) != before
    file.chmod(0o644)
    file.write_text("two")
    assert fingerprint([tmp_path / "folder", "x"]) != before
