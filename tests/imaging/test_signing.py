"""Whoever fetches a release checks it with the two commands of docs/flash.md; nothing else is needed."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from imaging import signing
from imaging.steps import BuildError

DOCS = Path(__file__).parent.parent.parent / "docs/flash.md"


def key(folder: Path, name: str, kind: str = "ed25519") -> Path:
    path = folder / name
    subprocess.run(["openssl", "genpkey", "-quiet", "-algorithm", kind, "-out", str(path)], check=True)
    return path


@pytest.fixture
def release(tmp_path: Path) -> Path:
    """A folder as it is published, signed."""
    folder = tmp_path / "release"
    folder.mkdir()
    (folder / "image.img.xz").write_bytes(b"image")
    (folder / "package.deb").write_bytes(b"package")
    signing.write_sums(folder)
    signing.sign(folder, key(tmp_path, "maker.pem"))
    return folder


def checks(folder: Path) -> list[bool]:
    """What the commands in docs/flash.md say: the hashes, the signature."""
    commands = re.findall(r"`((?:sha256sum -c|openssl pkeyutl -verify)[^`]*)`", DOCS.read_text())
    assert len(commands) == 2
    return [
        subprocess.run(command.split(), cwd=folder, capture_output=True, check=False).returncode == 0
        for command in commands
    ]


def test_what_was_signed_passes(release: Path) -> None:
    names = [line.split()[1] for line in (release / signing.SUMS).read_text().splitlines()]
    assert names == ["image.img.xz", "package.deb"]
    assert checks(release) == [True, True]


def test_a_changed_file_is_found_by_its_hash(release: Path) -> None:
    (release / "image.img.xz").write_bytes(b"other")
    assert checks(release) == [False, True]


def test_whoever_changes_file_and_hash_is_found_by_the_signature(release: Path) -> None:
    (release / "image.img.xz").write_bytes(b"other")
    signing.write_sums(release)
    assert checks(release) == [True, False]


def test_another_makers_signature_does_not_pass(release: Path, tmp_path: Path) -> None:
    public = (release / signing.PUBLIC).read_bytes()
    signing.sign(release, key(tmp_path, "other.pem"))
    (release / signing.PUBLIC).write_bytes(public)  # the one that came another way
    assert checks(release) == [True, False]


def test_signing_again_gives_the_same_signature(release: Path, tmp_path: Path) -> None:
    before = (release / signing.SIGNATURE).read_bytes()
    signing.sign(release, tmp_path / "maker.pem")
    assert (release / signing.SIGNATURE).read_bytes() == before


def test_the_private_key_is_never_published(release: Path) -> None:
    assert not any(b"PRIVATE KEY" in path.read_bytes() for path in release.iterdir())


def test_a_key_that_cannot_sign_is_refused_at_once(tmp_path: Path) -> None:
    signing.check_key(None)
    signing.check_key(key(tmp_path, "good.pem"))
    with pytest.raises(BuildError, match="no such file"):
        signing.check_key(tmp_path / "none.pem")
    with pytest.raises(BuildError, match="expected an Ed25519"):
        signing.check_key(key(tmp_path, "x.pem", "x25519"))
    public = tmp_path / "public.pem"
    subprocess.run(
        ["openssl", "pkey", "-in", str(tmp_path / "good.pem"), "-pubout", "-out", str(public)], check=True
    )
    with pytest.raises(BuildError, match="pkey"):
        signing.check_key(public)
