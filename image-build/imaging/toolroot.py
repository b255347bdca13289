"""The tools a build needs, in a small Debian of their own: the same ones whatever the host is.

The host gives Python, mmdebstrap and the kernel; everything that touches a package or an image comes from the
release the image is made of.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

from imaging.steps import BuildError, Steps, run

KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")

# Name of a set, and the Debian packages in it.
SETS = {
    "build": (
        "apt ca-certificates mmdebstrap erofs-utils genimage mtools dosfstools e2fsprogs fdisk "
        "zstd xz-utils bmap-tools device-tree-compiler u-boot-tools cryptsetup-bin python3 python3-dev "
        "python3-pip gcc libc6-dev libasound2-dev binutils cpio kmod dpkg-dev "
        "file openssl rauc squashfs-tools"
    ),
    "arm64": "gcc-aarch64-linux-gnu libc6-dev-arm64-cross binutils-aarch64-linux-gnu qemu-user-binfmt",
    "lint": "lintian",
    "release": "python3-cyclonedx-lib python3-jsonschema",
    "machines": "qemu-system-arm qemu-system-x86 ipxe-qemu seabios u-boot-qemu mtools device-tree-compiler",
}
_DEVICES = ("null", "zero", "full", "random", "urandom", "tty")


def sources(mirror: str, suite: str, keyring: Path = KEYRING) -> str:
    """The lines of a sources.list: the release, its updates and backports, and its security updates."""
    signed = f"[signed-by={keyring}]"
    parts = "main non-free-firmware" if suite != "bullseye" else "main"
    lines = [
        f"deb {signed} {mirror} {name} {parts}" for name in (suite, f"{suite}-updates", f"{suite}-backports")
    ]
    lines.append(f"deb {signed} {mirror}-security {suite}-security {parts}")
    return "\n".join(lines) + "\n"


class ToolRoot:
    """A tree of tools, entered by chroot; the folders named at the start have the same path inside."""

    def __init__(self, tree: Path, shared: Sequence[Path]) -> None:
        self.tree = tree
        self._mount(shared)

    @classmethod
    def make(
        cls, steps: Steps, sets: Sequence[str], *, mirror: str, suite: str, shared: Sequence[Path]
    ) -> ToolRoot:
        """Make the tree, or take the kept one."""
        packages = " ".join(SETS[name] for name in sets).split()
        lines = sources(mirror, suite)

        def build(path: Path) -> None:
            if not KEYRING.exists():
                raise BuildError(f"{KEYRING} is missing: install the package debian-archive-keyring")
            command = ["mmdebstrap", "--mode=root", "--variant=minbase", "--skip=chroot/mount/sys"]
            command += ["--skip=output/dev", "--aptopt=APT::Install-Recommends false"]
            command += [f"--include={','.join(packages)}", suite, str(path), "-"]
            run(command, stdin=lines.encode(), log=steps.cache / "tools.log")

        tree = steps.keep(f"tools ({' '.join(sets)})", "tools-" + "-".join(sets), [packages, suite, 1], build)
        return cls(tree, shared)

    def _mount(self, shared: Sequence[Path]) -> None:
        """Lend the tree the devices every program expects, and the folders of the build."""
        for name in _DEVICES:
            target = self.tree / "dev" / name
            target.touch()
            _mount(["--bind", f"/dev/{name}", str(target)])
        for name, to in {
            "fd": "/proc/self/fd",
            "stdin": "/proc/self/fd/0",
            "stdout": "/proc/self/fd/1",
        }.items():
            link = self.tree / "dev" / name
            if not link.is_symlink():
                link.symlink_to(to)
        shm = self.tree / "dev/shm"
        shm.mkdir(exist_ok=True)
        _mount(["-t", "tmpfs", "none", str(shm)])
        _mount(["-t", "proc", "proc", str(self.tree / "proc")])
        for path in shared:
            target = self.tree / path.relative_to("/")
            target.mkdir(parents=True, exist_ok=True)
            # With what is mounted in it: the kernel lends no folder from which a mount was left out.
            _mount(["--rbind", str(path), str(target)])
        # Name resolution and the certificates the host trusts: a mirror inside a company needs both.
        for path in (Path("/etc/resolv.conf"), CERTIFICATES, Path("/etc/hosts")):
            if path.exists():
                target = self.tree / path.relative_to("/")
                if target.is_symlink() or not target.exists():
                    target.parent.mkdir(parents=True, exist_ok=True)
                    target.unlink(missing_ok=True)
                    target.touch()
                _mount(["--bind", str(path.resolve()), str(target)])

    def run(
        self,
        command: Sequence[str | Path],
        *,
        env: dict[str, str] | None = None,
        cwd: Path | None = None,
        log: Path | None = None,
        stdin: bytes | None = None,
    ) -> str:
        """Run a command of the tree; BuildError when it fails."""
        inside = ["chroot", str(self.tree), "env", "-i", *_assignments(env or {})]
        if cwd is not None:
            inside += ["-C", str(cwd)]
        return run([*inside, *command], log=log, stdin=stdin)


def _assignments(env: dict[str, str]) -> list[str]:
    """What a tool may see of our environment: enough to find the network, nothing that changes a result."""
    base = {"PATH": "/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8", "HOME": "/root"}
    base |= {"TMPDIR": "/tmp", "SOURCE_DATE_EPOCH": os.environ.get("SOURCE_DATE_EPOCH", "0")}
    for name in ("http_proxy", "https_proxy", "no_proxy", "PIP_INDEX_URL", "PIP_FIND_LINKS"):
        for spelled in (name, name.upper()):
            if spelled in os.environ:
                base[spelled] = os.environ[spelled]
    return [f"{key}={value}" for key, value in (base | env).items()]


def _mount(arguments: list[str]) -> None:
    done = subprocess.run(["mount", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise BuildError(f"mount {' '.join(arguments)}: {done.stderr.strip()}")
