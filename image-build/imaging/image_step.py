"""The steps from packages to an image, in their order."""

from __future__ import annotations

import os
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from imaging import disk, layers, rootfs, slot
from imaging.kernel import Kernel, initrd, kernel
from imaging.package_step import packages
from imaging.project import PROJECT, Build
from imaging.project import version as project_version
from imaging.slot import Part


@dataclass(frozen=True)
class Image:
    """What a build leaves."""

    disk: Path
    slot: Path
    root: Path
    debs: list[Path]
    kernel: Kernel


def image(build: Build, *, role: str, sizes: disk.Sizes, settings: list[str]) -> Image:
    """Make everything, taking from the cache what has not changed."""
    layering = layers.load()
    chosen = layers.values(layering, settings)
    # Debian's packages need nothing of ours, and each half leaves a core idle while it fetches and unpacks.
    with ThreadPoolExecutor(1) as beside:
        debian = beside.submit(rootfs.debian, build, layering, role)
        debs = packages(build)
        made = kernel(build, next(layer for layer in layering if layer.name == "kernel"))
        root = rootfs.system(build, layering, role, chosen, debian.result(), debs)
    slot_file = _slot(build, layering, role, chosen, root, made)
    folder = _disk(build, role, sizes, slot_file)
    return Image(folder / "disk.img", slot_file, root, debs, made)


def _slot(
    build: Build, layering: list[layers.Layer], role: str, chosen: dict[str, str], root: Path, made: Kernel
) -> Path:
    layer = next(layer for layer in layering if layer.name == "kernel")
    version = project_version()

    def make(path: Path) -> None:
        tree = build.cache / f"work-slot-{role}-{build.arch}"
        subprocess.run(["rm", "-rf", str(tree)], check=True)
        subprocess.run(["cp", "-al", str(root), str(tree)], check=True)
        subprocess.run(["cp", "-al", f"{made.modules}/usr/lib/modules", f"{tree}/usr/lib/"], check=True)
        ram = build.cache / f"work-initrd-{role}-{build.arch}"
        initrd(build, layer, made, root, ram)
        parts = [Part("kernel", made.image), Part("initrd", ram)]
        if made.device_trees.exists():
            parts += [Part(f"dtb_{p.stem}", p) for p in sorted(made.device_trees.glob("*.dtb"))]
            parts += _overlays(build)
        slot.pack(build, path, tree, parts, cmdline=chosen["kernel.cmdline"], version=version, role=role)
        subprocess.run(["rm", "-rf", str(tree), str(ram)], check=True)

    here = PROJECT / "image-build"
    ingredients = [
        root.name,
        made.folder.name,
        here / "initrd",
        here / "imaging/slot.py",
        here / "imaging/kernel.py",
    ]
    ingredients += [PROJECT / "firmware/overlays", layer.data, version, os.environ["SOURCE_DATE_EPOCH"]]
    return build.steps.keep(
        f"slot: root with hashes, kernel, initrd ({role}, {build.arch})",
        f"slot-{role}-{build.arch}",
        ingredients,
        make,
    )


def _overlays(build: Build) -> list[Part]:
    """Compile the overlays of firmware/overlays."""
    folder = build.cache / "work-overlays"
    folder.mkdir(exist_ok=True)
    parts = []
    for source in sorted((PROJECT / "firmware/overlays").glob("*.dts")):
        made = folder / f"{source.stem}.dtbo"
        build.tools.run(["dtc", "-@", "-q", "-I", "dts", "-O", "dtb", "-o", made, source])
        parts.append(Part(f"dtbo_{source.stem}", made))
    return parts


def _disk(build: Build, role: str, sizes: disk.Sizes, slot_file: Path) -> Path:
    def make(path: Path) -> None:
        path.mkdir()
        files = path / "card"
        disk.firmware_files(build, files)
        disk.card(build, path / "card.img", sizes, files)
        shutil.rmtree(files)
        disk.assemble(build, path / "disk.img", card_image=path / "card.img", slot=slot_file, sizes=sizes)
        (path / "card.img").unlink()

    here = PROJECT / "image-build/imaging"
    ingredients = [
        slot_file.name,
        PROJECT / "firmware",
        here / "disk.py",
        sizes,
        os.environ["SOURCE_DATE_EPOCH"],
    ]
    return build.steps.keep("disk image", f"disk-{role}-{build.arch}", ingredients, make)
