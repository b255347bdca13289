"""Kernel and initrd, made natively for any architecture: unpacked, pruned by a list, packed again."""

from __future__ import annotations

import fnmatch
import gzip
import lzma
import os
import re
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from imaging.layers import Layer
from imaging.project import Build
from imaging.steps import BuildError, remove

# Device trees by the kernel's names: Pi 3B, 3B+, 3A+, CM3, Zero 2 W, 4B, 400, CM4, 5B.
BOARDS = (
    *("bcm2837-rpi-3-b", "bcm2837-rpi-3-b-plus", "bcm2837-rpi-3-a-plus", "bcm2837-rpi-cm3-io3"),
    *("bcm2837-rpi-zero-2-w", "bcm2711-rpi-4-b", "bcm2711-rpi-400", "bcm2711-rpi-cm4-io", "bcm2712-rpi-5-b"),
)
_MADE = 1_700_000_000  # s since 1970; before any release, whose slot keeps older dates as they are
_LIBRARY_DIRS = (
    "usr/lib/x86_64-linux-gnu",
    "usr/lib/aarch64-linux-gnu",
    "usr/lib",
    "lib",
    "lib64",
    "usr/lib64",
)


@dataclass(frozen=True)
class Kernel:
    """What a slot needs of the kernel."""

    folder: Path

    @property
    def image(self) -> Path:
        """arm64: gzip of Image, which U-Boot's booti takes; amd64: bzImage."""
        return self.folder / "kernel"

    @property
    def modules(self) -> Path:
        """A tree with usr/lib/modules/VERSION."""
        return self.folder / "modules"

    @property
    def device_trees(self) -> Path:
        return self.folder / "dtb"

    @property
    def debs(self) -> Path:
        return self.folder / "debs"


def kernel(build: Build, layer: Layer) -> Kernel:
    """Return the pinned kernel for the build's architecture, its modules pruned."""
    spec = layer.data["kernel"]

    def make(path: Path) -> None:
        path.mkdir()
        _make(build, spec, Kernel(path))

    folder = build.steps.keep(
        f"kernel {spec['version']}", f"kernel-{build.arch}", [spec, Path(__file__)], make
    )
    return Kernel(folder)


def _make(build: Build, spec: dict[str, object], out: Kernel) -> None:
    release = f"{spec['version']}-{build.arch}"
    version = spec["package_version"]
    names = [f"linux-binary-{release}={version}", f"linux-modules-{release}={version}"]
    names.append(f"linux-base-{release}={version}")  # the device trees
    apt = build.apt()
    debs = apt.download(names)
    tree = out.folder / "unpacked"
    apt.unpack(debs, tree)
    out.debs.mkdir()
    for deb in debs:
        (out.debs / deb.name).touch()  # the SBOM names them
    image = next(tree.rglob("vmlinu*"), None)
    if image is None:
        raise BuildError(f"{names[0]} has no kernel in it")
    data = image.read_bytes()
    image.unlink()
    if build.arch == "arm64":
        data = gzip.compress(_plain_arm64(data), 9, mtime=0)
    out.image.write_bytes(data)
    folder = tree / "usr/lib/modules" / release
    trees = folder / "dtb/broadcom"
    if trees.exists():
        out.device_trees.mkdir()
        for board in BOARDS:
            shutil.copy(trees / f"{board}.dtb", out.device_trees)
    for name in ("dtb", "System.map", "config"):
        remove(folder / name)
    target = out.modules / "usr/lib/modules"
    target.parent.mkdir(parents=True)
    shutil.move(folder.parent, target)
    prune(build, target / release, [str(p) for p in spec["modules"]])  # type: ignore[attr-defined]
    remove(tree)


def _plain_arm64(data: bytes) -> bytes:
    """Take the Image out of an EFI zboot wrapper (Linux, drivers/firmware/efi/libstub/zboot-header.S)."""
    if data[4:8] == b"zimg":
        offset, size = int.from_bytes(data[8:12], "little"), int.from_bytes(data[12:16], "little")
        kind, packed = data[24:56].split(b"\0")[0], data[offset : offset + size]
        if kind == b"gzip":
            return gzip.decompress(packed)
        raise BuildError(f"the kernel is packed by {kind.decode()}, which is not understood here")
    if data[:2] == b"\x1f\x8b":
        return gzip.decompress(data)
    return data


def prune(build: Build, folder: Path, patterns: list[str]) -> None:
    """Keep the modules that match and what they depend on, and index them anew."""
    root = folder.parents[3]
    release = folder.name
    build.tools.run(["depmod", "-b", root / "usr", release])
    depends: dict[str, list[str]] = {}
    for line in (folder / "modules.dep").read_text().splitlines():
        name, _, rest = line.partition(":")
        depends[name] = rest.split()
    wanted: set[str] = set()
    for name in depends:
        plain = name.removeprefix("kernel/")
        if any(fnmatch.fnmatch(plain, pattern) for pattern in patterns):
            wanted.add(name)
            wanted.update(depends[name])
    for path in folder.rglob("*.ko*"):
        if str(path.relative_to(folder)) not in wanted:
            path.unlink()
    for path in sorted((p for p in folder.rglob("*") if p.is_dir()), reverse=True):
        if not any(path.iterdir()):
            path.rmdir()
    build.tools.run(["depmod", "-b", root / "usr", release])
    (folder / "modules.dep").rename(folder / "modules.dep.text")  # for the initrd; kmod reads the .bin files
    for name in ("modules.alias", "modules.symbols", "modules.builtin.alias"):
        (folder / name).unlink(missing_ok=True)
    # The same whenever it was made; last, for what is taken away dates the folder anew.
    for path in [folder.parent, *folder.parent.rglob("*")]:
        os.utime(path, (_MADE, _MADE))


def initrd(build: Build, layer: Layer, made: Kernel, root: Path, out: Path) -> None:
    """Make the initrd: busybox, dmsetup and a handful of modules, out of what the root has."""
    tree = out.with_suffix(".tree")
    remove(tree)
    for folder in ("bin", "dev", "proc", "sys", "run", "root", "usr/lib/modules"):
        (tree / folder).mkdir(parents=True)
    (tree / "lib").symlink_to("usr/lib")
    (tree / "lib64").symlink_to("usr/lib")
    unpacked = out.with_suffix(".busybox")
    remove(unpacked)
    apt = build.apt()
    apt.unpack(apt.download(["busybox-static"]), unpacked)
    busybox = next(p for p in unpacked.rglob("busybox") if p.is_file() and p.parent.name == "bin")
    shutil.copy(busybox, tree / "bin/busybox")
    remove(unpacked)
    _with_libraries(build, root, root / "usr/sbin/dmsetup", tree)
    here = Path(__file__).resolve().parent.parent
    shutil.copy(here / "initrd/init", tree / "init")
    _modules(layer, made, tree)
    epoch = int(os.environ["SOURCE_DATE_EPOCH"])
    for path in [tree, *tree.rglob("*")]:
        if not path.is_symlink():
            executable = (
                path.is_dir() or path.parent.name == "bin" or path.name == "init" or ".so" in path.name
            )
            path.chmod(0o755 if executable else 0o644)
        os.utime(path, (epoch, epoch), follow_symlinks=False)
    script = (
        f"cd {tree} && find . -mindepth 1 | LC_ALL=C sort | "
        f"cpio --quiet --reproducible -o -H newc -R 0:0 | gzip -9n > {out}"
    )
    build.tools.run(["sh", "-c", script])
    remove(tree)


def _with_libraries(build: Build, root: Path, program: Path, tree: Path) -> None:
    """Copy a program of the root and every library it needs, found without running anything of the root."""
    shutil.copy(program, tree / "bin" / program.name)
    todo, done = [program], set()
    while todo:
        path = todo.pop()
        shown = build.tools.run(["readelf", "-dl", path])
        names = re.findall(r"\(NEEDED\).*\[([^]]+)\]", shown)
        if interpreter := re.search(r"program interpreter: ([^]]+)\]", shown):
            names.append(Path(interpreter[1]).name)
        for name in names:
            if name in done:
                continue
            done.add(name)
            found = next((root / d / name for d in _LIBRARY_DIRS if (root / d / name).exists()), None)
            if found is None:
                raise BuildError(f"{path.name} needs {name}, which the root does not have")
            shutil.copy(found, tree / "usr/lib" / name)
            todo.append(found)


def _modules(layer: Layer, made: Kernel, tree: Path) -> None:
    names = [str(name) for name in layer.data["kernel"]["initrd_modules"]]
    folder = next((made.modules / "usr/lib/modules").iterdir())
    target = tree / "usr/lib/modules" / folder.name
    by_name = {path.name.split(".ko")[0].replace("-", "_"): path for path in folder.rglob("*.ko*")}
    present = [name for name in names if name in by_name]
    # Unpacked: busybox does not know xz, and the initrd is packed as a whole anyway.
    for path in _closure(folder, [by_name[name] for name in present]):
        copy = target / str(path.relative_to(folder)).removesuffix(".xz")
        copy.parent.mkdir(parents=True, exist_ok=True)
        data = path.read_bytes()
        copy.write_bytes(lzma.decompress(data) if path.suffix == ".xz" else data)
    (tree / "modules").write_text("\n".join(present) + "\n")
    for name in ("modules.order", "modules.builtin", "modules.builtin.modinfo"):
        if (folder / name).exists():
            shutil.copy(folder / name, target / name)
    lines = [line.replace(".ko.xz", ".ko") for line in (folder / "modules.dep.text").read_text().splitlines()]
    kept = [line for line in lines if (target / line.split(":")[0]).exists()]
    (target / "modules.dep").write_text("\n".join(kept) + "\n")


def _closure(folder: Path, wanted: Iterable[Path]) -> list[Path]:
    depends = {}
    for line in (folder / "modules.dep.text").read_text().splitlines():
        name, _, rest = line.partition(":")
        depends[name] = rest.split()
    found = set()
    for path in wanted:
        name = str(path.relative_to(folder))
        found.update([name, *depends.get(name, [])])
    return sorted(folder / name for name in found)
