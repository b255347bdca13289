"""The Debian packages: a device's and a hub's, from our wheel and the hash-locked ones."""

from __future__ import annotations

import gzip
import hashlib
import os
import re
import shutil
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime
from pathlib import Path

from imaging.project import version
from imaging.steps import BuildError, remove, run
from imaging.toolroot import ToolRoot
from imaging.wheels import Target, Wheels, requirements

SETTINGS = "/boot/firmware/voicemeet.toml"

UNIT_PLACES = {
    ".service": "usr/lib/systemd/system",
    ".path": "usr/lib/systemd/system",
    ".socket": "usr/lib/systemd/system",
    ".timer": "usr/lib/systemd/system",
    ".target": "usr/lib/systemd/system",
}


@dataclass(frozen=True)
class Recipe:
    """What one package is made of, beside its Python tree."""

    name: str
    unit_prefix: str  # the units of systemd/ whose names start so belong to it
    extra_files: tuple[tuple[str, str], ...]  # (file of the project, where it goes)
    conffiles: tuple[str, ...]
    purged: tuple[str, ...]

    @property
    def home(self) -> str:
        return f"/usr/lib/{self.name}"


EDGE = Recipe(
    "voicemeet-edge",
    "voicemeet-edge",
    (
        ("systemd/sysusers.conf", "usr/lib/sysusers.d/voicemeet.conf"),
        ("systemd/tmpfiles.conf", "usr/lib/tmpfiles.d/voicemeet.conf"),
        ("systemd/watchdog.conf", "usr/lib/systemd/system.conf.d/50-voicemeet-watchdog.conf"),
        ("systemd/udev.rules", "usr/lib/udev/rules.d/60-voicemeet.rules"),
        ("firmware/voicemeet.toml", "usr/share/doc/voicemeet-edge/examples/voicemeet.toml"),
        ("packaging/launcher", "usr/bin/voicemeet-edge"),
    ),
    (),
    (SETTINGS, "/var/lib/voicemeet-edge"),
)
HUB = Recipe(
    "voicemeet-hub",
    "voicemeet-hub",
    (("firmware/hub.toml", "etc/voicemeet/hub.toml"),),
    ("/etc/voicemeet/hub.toml",),
    ("/var/lib/voicemeet-hub",),
)
RECIPES = {"edge": EDGE, "hub": HUB}


class Packages:
    """Make both packages for one target out of one set of wheels."""

    def __init__(self, tools: ToolRoot, wheels: Wheels, project: Path, work: Path, target: Target) -> None:
        self._tools, self._wheels, self._project = tools, wheels, project
        self._work, self._target = work, target
        self._version = version()

    def libraries(self, out: Path) -> None:
        """Make `out/<package>`, the Python libraries of each, and `out/backends`, which build wheels."""
        out.mkdir(parents=True)
        locks = self._project / "requirements"
        backends = self._wheels.build_tools(out / "backends")
        compiled = self._wheels.compiled(backends)
        device = set(requirements(locks / "device.txt"))
        for recipe, lock, without, extra in (
            (EDGE, locks / "device.txt", set[str](), compiled),
            (HUB, locks / "hub.txt", device, []),
        ):
            tree = out / recipe.name
            self._wheels.install(tree, lock, without=without, extra=extra)
            self._wheels.finish(tree, recipe.home)

    def make(self, libraries: Path, out: Path) -> list[Path]:
        """Make the packages into the folder `out`, from the libraries and the project as it is."""
        remove(self._work)
        for folder in (self._work, out):
            folder.mkdir(parents=True)
        own = self._wheels.own_wheel(libraries / "backends")
        made = []
        for recipe in (EDGE, HUB):
            root = self._work / recipe.name
            tree = root / recipe.home.lstrip("/")
            tree.parent.mkdir(parents=True)
            run(["cp", "-al", libraries / recipe.name, tree])
            if recipe is EDGE:
                self._wheels.add(tree, own, recipe.home, "voicemeet_edge")
            made.append(self._package(recipe, root, out))
        return made

    def _package(self, recipe: Recipe, root: Path, out: Path) -> Path:
        self._copy_files(recipe, root)
        units = self._copy_units(recipe, root)
        self._documents(recipe, root)
        self._check_libraries(root)
        self._control(recipe, root, units)
        _clamp_times(root)
        deb = out / f"{recipe.name}_{self._version}_{self._target.arch}.deb"
        self._tools.run(
            ["dpkg-deb", "--root-owner-group", "-Zxz", "-z1", "--threads-max=2", "--build", root, deb]
        )
        return deb

    def _copy_files(self, recipe: Recipe, root: Path) -> None:
        for source, target in recipe.extra_files:
            path = root / target
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(self._project / source, path)
            path.chmod(0o755 if target.startswith("usr/bin/") else 0o644)
        if recipe is EDGE:
            for kind, target in (
                ("man", "usr/share/man/man1/voicemeet-edge.1.gz"),
                ("bash", "usr/share/bash-completion/completions/voicemeet-edge"),
            ):
                script = self._project / "packaging/manual.py"
                env = {"PYTHONPATH": str(self._project), "PYTHONDONTWRITEBYTECODE": "1"}
                text = self._tools.run(["python3", script, kind], env=env).encode()
                path = root / target
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(gzip.compress(text, 9, mtime=0) if kind == "man" else text)

    def _copy_units(self, recipe: Recipe, root: Path) -> list[str]:
        """Copy the units and return their names."""
        names = []
        for path in sorted((self._project / "systemd").iterdir()):
            if path.suffix not in UNIT_PLACES or not path.name.startswith(recipe.unit_prefix):
                continue
            target = root / UNIT_PLACES[path.suffix] / path.name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target)
            target.chmod(0o644)
            names.append(path.name)
        return names

    def _documents(self, recipe: Recipe, root: Path) -> None:
        """Licences of everything inside, and the changelog."""
        folder = root / "usr/share/doc" / recipe.name
        folder.mkdir(parents=True, exist_ok=True)
        parts = [
            "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/",
            "Upstream-Name: VoiceMeet Edge",
            "",
            "Files: *",
            "Copyright: The VoiceMeet Edge project",
            "License: Apache-2.0",
            " On Debian systems the text is in /usr/share/common-licenses/Apache-2.0.",
        ]
        for info in sorted((root / recipe.home.lstrip("/")).glob("*.dist-info")):
            name = info.name.removesuffix(".dist-info")
            if name.startswith("voicemeet_edge"):
                continue
            licence = metadata_licence(info)
            parts += ["", f"Files: {recipe.home.lstrip('/')}/* (Python package {name})"]
            parts += [f"Copyright: see {recipe.home}/{info.name}", f"License: {licence}"]
        (folder / "copyright").write_text("\n".join(parts) + "\n")
        epoch = int(os.environ.get("SOURCE_DATE_EPOCH", "0"))
        when = format_datetime(datetime.fromtimestamp(epoch, UTC))
        entry = (
            f"{recipe.name} ({self._version}) stable; urgency=medium\n\n"
            f"  * See CHANGELOG.md of the project.\n\n -- {_maintainer(self._project)}  {when}\n"
        )
        (folder / "changelog.gz").write_bytes(gzip.compress(entry.encode(), 9, mtime=0))
        overrides = self._project / "packaging" / recipe.name / "lintian-overrides"
        if overrides.exists():
            target = root / "usr/share/lintian/overrides" / recipe.name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(overrides, target)

    def _check_libraries(self, root: Path) -> None:
        """Every library that anything in the tree needs is in the tree, or Depends: brings it."""
        known = {
            "libc.so.6", "libm.so.6", "libpthread.so.0", "libdl.so.2", "librt.so.1", "libutil.so.1",
            "libgcc_s.so.1", "libstdc++.so.6", "libasound.so.2",
            "ld-linux-aarch64.so.1", "ld-linux-x86-64.so.2",
            "libz.so.1",  # python3 needs it too
        }  # fmt: skip
        inside = {path.name for path in root.rglob("*.so*")}
        for path in root.rglob("*.so*"):
            shown = self._tools.run(["readelf", "-d", path])
            needed = set(re.findall(r"\(NEEDED\).*\[([^]]+)\]", shown))
            if missing := needed - known - inside:
                raise BuildError(
                    f"{path.name} needs {', '.join(sorted(missing))}, which no dependency brings"
                )

    def _control(self, recipe: Recipe, root: Path, units: list[str]) -> None:
        control = root / "DEBIAN"
        control.mkdir()
        size = sum(path.stat().st_size for path in root.rglob("*") if path.is_file()) // 1024
        major, minor = self._target.python.split(".")
        enabled = [name for name in units if "[Install]" in self._unit(root, name)]
        alsa = "libasound2t64" if self._target.python == "3.13" else "libasound2"
        values = {
            "PACKAGE": recipe.name,
            "VERSION": self._version,
            "ARCH": self._target.arch,
            "SIZE": str(size),
            "PYTHON": self._target.python,
            "PYTHON_NEXT": f"{major}.{int(minor) + 1}",
            "ALSA": alsa,
            "HOME": recipe.home,
            "UNITS": " ".join(units),
            "ENABLED": " ".join(enabled),
            "STARTED": " ".join(enabled),
            "STOPPED": " ".join(reversed(units)),
            "SYSUSERS": "voicemeet.conf",
            "TMPFILES": "voicemeet.conf",
            "PURGED": " ".join(recipe.purged),
        }
        packaging = self._project / "packaging"
        for source, name in (
            (packaging / recipe.name / "control", "control"),
            (packaging / "postinst.in", "postinst"),
            (packaging / "prerm.in", "prerm"),
            (packaging / "postrm.in", "postrm"),
        ):
            text = re.sub(r"@([A-Z_]+)@", lambda found: values[found[1]], source.read_text())
            (control / name).write_text(text)
            (control / name).chmod(0o644 if name == "control" else 0o755)
        if recipe.conffiles:
            (control / "conffiles").write_text("\n".join(recipe.conffiles) + "\n")
        sums = [
            f"{hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()}  {path.relative_to(root)}\n"
            for path in sorted(root.rglob("*"))
            if path.is_file()
            and control not in path.parents
            and f"/{path.relative_to(root)}" not in recipe.conffiles
        ]
        (control / "md5sums").write_text("".join(sums))

    @staticmethod
    def _unit(root: Path, name: str) -> str:
        return (root / "usr/lib/systemd/system" / name).read_text()


def metadata_licence(info: Path) -> str:
    """What a wheel's metadata says about its licence."""
    text = (info / "METADATA").read_text(errors="replace").split("\n\n", 1)[0]
    for pattern in (
        r"^License-Expression: (.+)$",
        r"^Classifier: License :: (?:OSI Approved :: )?(.+)$",
        r"^License: (.+)$",
    ):
        if found := re.search(pattern, text, re.M):
            return found[1].strip()
    return "see-the-package"


def _maintainer(project: Path) -> str:
    text = (project / "packaging/voicemeet-edge/control").read_text()
    found = re.search(r"^Maintainer: (.+)$", text, re.M)
    return found[1] if found else "unknown"


def _clamp_times(root: Path) -> None:
    """Nothing in a package is younger than the source it was made from."""
    epoch = int(os.environ.get("SOURCE_DATE_EPOCH", "0"))
    for path in [root, *root.rglob("*")]:
        os.utime(path, (epoch, epoch), follow_symlinks=False)
