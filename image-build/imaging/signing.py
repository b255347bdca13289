"""The hashes of everything that is published, and an Ed25519 signature of them: openssl alone checks it."""

from __future__ import annotations

from pathlib import Path

from imaging.apt import sha256
from imaging.steps import BuildError, run

SUMS = "SHA256SUMS"
SIGNATURE = "SHA256SUMS.sig"
PUBLIC = "release-key.pem"


def check_key(key: Path | None) -> None:
    """Refuse a key that cannot sign before an hour's work is done for it."""
    if key is None:
        return
    if not key.is_file():
        raise BuildError(f"--key {key}: there is no such file (openssl genpkey -algorithm ed25519 makes one)")
    text = run(["openssl", "pkey", "-in", key, "-noout", "-text"])
    if not text.upper().startswith("ED25519 PRIVATE-KEY"):
        raise BuildError(f"--key {key}: expected an Ed25519 private key in PEM")


def write_sums(folder: Path) -> None:
    """SHA256SUMS over every file of the folder, as `sha256sum -c` reads it."""
    names = sorted(path.name for path in folder.iterdir() if path.name not in (SUMS, SIGNATURE, PUBLIC))
    (folder / SUMS).write_text("".join(f"{sha256(folder / name)}  {name}\n" for name in names))


def sign(folder: Path, key: Path) -> None:
    """Sign SHA256SUMS, and check it the way that whoever fetches the folder will."""
    sums, signature, public = folder / SUMS, folder / SIGNATURE, folder / PUBLIC
    run(["openssl", "pkeyutl", "-sign", "-rawin", "-inkey", key, "-in", sums, "-out", signature])
    run(["openssl", "pkey", "-in", key, "-pubout", "-out", public])
    verify = ["openssl", "pkeyutl", "-verify", "-rawin", "-pubin", "-inkey", str(public)]
    run([*verify, "-in", sums, "-sigfile", signature])
