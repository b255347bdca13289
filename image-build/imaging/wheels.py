"""The Python tree of a package: hash-locked wheels of any architecture, pruned, stripped, with bytecode."""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from imaging.apt import Apt
from imaging.steps import BuildError, remove
from imaging.toolroot import ToolRoot

# What has no wheel and is compiled here, with headers of the target.
COMPILED = ("pyalsaaudio",)

_TRIPLETS = {"amd64": "x86_64-linux-gnu", "arm64": "aarch64-linux-gnu"}
_PLATFORMS = {
    "amd64": ("manylinux2014_x86_64", "manylinux_2_28_x86_64"),
    "arm64": ("manylinux2014_aarch64", "manylinux_2_28_aarch64"),
}
_HEADERS = ("libasound2-dev", "libasound2t64")

# Nothing that runs reads these; the licences stay in *.dist-info.
_PRUNED = (
    "tests",
    "test",
    "f2py",
    "_pyinstaller",
    "conftest.py",
    "*.pyi",
    "*.pyx",
    "*.pxd",
    "*.h",
    "*.lib",
    "*.a",
)
_PRUNED_AT_TOP = (
    "bin",
    "share",
    "include",
    "pycparser*",
    "setuptools*",
    "_distutils_hack",
    "distutils-precedence.pth",
)


@dataclass(frozen=True)
class Target:
    """What the tree is for: Debian's architecture and the minor version of its Python, such as "3.13"."""

    arch: str
    python: str

    @property
    def triplet(self) -> str:
        return _TRIPLETS[self.arch]


def requirements(path: Path) -> dict[str, str]:
    """Read a lock file: every requirement with its hashes, by its first words (name, version, marker)."""
    entries: dict[str, str] = {}
    for entry in re.split(r"\n(?=\S)", path.read_text()):
        if entry.strip() and not entry.startswith("#"):
            entries[entry.split("\\")[0].strip()] = entry.rstrip()
    return entries


class Wheels:
    """Make trees for one target; `work` is a folder of its own."""

    def __init__(self, tools: ToolRoot, apt: Apt, project: Path, work: Path, target: Target) -> None:
        self._tools, self._apt, self._project, self._work, self._target = tools, apt, project, work, target
        work.mkdir(parents=True, exist_ok=True)
        self._log = work / "pip.log"

    def _pip(self, words: Sequence[str | Path], env: dict[str, str] | None = None) -> None:
        pip = ["python3", "-m", "pip", "--disable-pip-version-check", "--no-input", "--quiet"]
        self._tools.run([*pip, *words], env={"PIP_ROOT_USER_ACTION": "ignore"} | (env or {}), log=self._log)

    def build_tools(self, folder: Path) -> Path:
        """Install the locked build back ends into `folder`, beside the tools' Python and not into it."""
        lock = self._project / "requirements/build.txt"
        self._pip(["install", "--require-hashes", "--target", folder, "-r", lock])
        return folder

    def own_wheel(self, backends: Path) -> Path:
        """Make the wheel of this project from a clean copy: no build leaves anything in the source."""
        source, out = self._work / "source", self._work / "own"
        remove(source)
        source.mkdir()
        for name in ("pyproject.toml", "README.md", "LICENSE"):
            shutil.copy(self._project / name, source / name)
        ignore = shutil.ignore_patterns("__pycache__")
        shutil.copytree(self._project / "voicemeet_edge", source / "voicemeet_edge", ignore=ignore)
        env = {"PYTHONPATH": str(backends)}
        self._pip(["wheel", "--no-deps", "--no-build-isolation", "-w", out, source], env)
        return next(out.glob("*.whl"))

    def compiled(self, backends: Path) -> list[Path]:
        """Compile what has no wheel, for the target's architecture."""
        lines = [
            text
            for words, text in requirements(self._project / "requirements/device.txt").items()
            if words.split("==")[0] in COMPILED
        ]
        if len(lines) != len(COMPILED):
            raise BuildError(f"requirements/device.txt should lock {' and '.join(COMPILED)}")
        chosen, out = self._work / "compiled.txt", self._work / "compiled"
        chosen.write_text("\n".join(lines) + "\n")
        env = {"PYTHONPATH": str(backends)} | self._cross_environment(backends)
        words: list[str | Path] = ["wheel", "--no-deps", "--no-build-isolation", "--require-hashes"]
        words += ["--no-binary=:all:", "--no-cache-dir", "-w", out, "-r", chosen]
        self._pip(words, env)
        return sorted(out.glob("*.whl"))

    def _cross_environment(self, backends: Path) -> dict[str, str]:
        """Tell compiler and setuptools about the target; nothing to tell when it is ours."""
        if self._target.arch == "amd64":
            return {"CFLAGS": "-O2 -g0"}
        triplet, root = self._target.triplet, self._work / "sysroot"
        version = self._target.python
        names = [
            f"libpython{version}-dev",
            f"libpython{version}-stdlib",
            f"libpython{version}-minimal",
            *_HEADERS,
        ]
        self._apt.unpack(self._apt.download(names), root)
        name = f"_sysconfigdata__linux_{triplet}"
        found = next(root.glob(f"usr/lib/python{version}/{name}.py"))
        alone = self._work / "sysconfig"
        alone.mkdir(exist_ok=True)
        shutil.copy(found, alone)
        libraries, include = root / "usr/lib" / triplet, root / "usr/include"
        return {
            "_PYTHON_HOST_PLATFORM": f"linux-{triplet.split('-')[0]}",
            "_PYTHON_SYSCONFIGDATA_NAME": name,
            "PYTHONPATH": f"{backends}:{alone}",
            "CC": f"{triplet}-gcc",
            "LDSHARED": f"{triplet}-gcc -shared",
            "LDFLAGS": f"-L{libraries}",
            "CFLAGS": " ".join(
                ["-O2", "-g0", *(f"-I{include}/{name}" for name in (f"python{version}", triplet, ""))]
            ),
        }

    def install(self, tree: Path, lock: Path, *, without: set[str], extra: list[Path]) -> None:
        """Install what `lock` names into `tree`, less what is in `without`, plus wheels made here."""
        lines = [
            text
            for words, text in requirements(lock).items()
            if words not in without and words.split("==")[0] not in COMPILED
        ]
        chosen = self._work / f"{lock.stem}-chosen.txt"
        chosen.write_text("\n".join(lines) + "\n")
        words: list[str | Path] = ["install", "--no-deps", "--no-compile", "--target", tree]
        for platform in _PLATFORMS[self._target.arch]:
            words += ["--platform", platform]
        words += ["--python-version", self._target.python, "--only-binary=:all:"]
        self._pip([*words, "--require-hashes", "-r", chosen])
        if extra:
            # Made a minute ago for this target: pip need not agree about the platform's name.
            for wheel in extra:
                self._tools.run(["python3", "-m", "zipfile", "-e", wheel, tree])

    def finish(self, tree: Path, home: str) -> None:
        """Prune, strip and compile; `home` is where the tree will lie on a device."""
        for pattern in _PRUNED_AT_TOP:
            for path in tree.glob(pattern):
                remove(path)
        for pattern in _PRUNED:
            for path in tree.rglob(pattern):
                remove(path)
        for path in tree.rglob("*.dist-info/RECORD"):  # no longer true
            path.unlink()
        libraries = sorted(str(p) for p in tree.rglob("*.so*") if p.is_file())
        strip = "strip" if self._target.arch == "amd64" else f"{self._target.triplet}-strip"
        if libraries:
            self._tools.run([strip, "--strip-unneeded", *libraries])
        self._compile(tree, tree, home)
        for path in [tree, *tree.rglob("*")]:
            if not path.is_symlink():
                path.chmod(0o755 if path.is_dir() else 0o644)

    def add(self, tree: Path, wheel: Path, home: str, package: str) -> None:
        """Add a pure wheel with one package to a finished tree; by its record the hub checks its pages."""
        self._tools.run(["python3", "-m", "zipfile", "-e", wheel, tree])
        self._compile(tree / package, tree, home)
        for path in [tree / package, *(tree / package).rglob("*")]:
            path.chmod(0o755 if path.is_dir() else 0o644)

    def _compile(self, folder: Path, tree: Path, home: str) -> None:
        command = ["python3", "-m", "compileall", "-q", "-j", "0", "--invalidation-mode", "unchecked-hash"]
        self._tools.run([*command, "-s", str(tree), "-p", home, folder])
