"""The layers of an image: each a capability with packages, files, a finish script and checked variables."""

from __future__ import annotations

import re
import shutil
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from imaging.project import PROJECT, version
from imaging.steps import BuildError
from imaging.toolroot import ToolRoot

ORDER = (
    "base",
    "kernel",
    "network",
    "sound",
    "app",
    "update",
    "hardening",
)  # from below: what all share
ROLES = ("device", "hub", "bench")  # bench: both in one system, with what tests look into it with
_FOLDER = Path(__file__).resolve().parent.parent / "layers"


@dataclass(frozen=True)
class Variable:
    """Something of a layer that a build may set."""

    name: str  # LAYER.NAME
    default: str
    pattern: str
    help: str

    def check(self, value: str) -> str:
        if re.fullmatch(self.pattern, value) is None:
            raise BuildError(f"--set {self.name}={value}: expected {self.pattern} ({self.help})")
        return value


@dataclass(frozen=True)
class Layer:
    """One folder of layers/."""

    name: str
    folder: Path
    data: dict[str, Any]

    def packages(self, role: str) -> list[str]:
        return self._list("packages", role)

    def removed(self, role: str) -> list[str]:
        return self._list("remove", role)

    def _list(self, section: str, role: str) -> list[str]:
        table = self.data.get(section, {})
        return [*table.get("all", []), *table.get(role, [])]

    @property
    def variables(self) -> list[Variable]:
        table = self.data.get("variables", {})
        return [Variable(f"{self.name}.{name}", **fields) for name, fields in table.items()]


def load() -> list[Layer]:
    return [
        Layer(name, _FOLDER / name, tomllib.loads((_FOLDER / name / "layer.toml").read_text()))
        for name in ORDER
    ]


def values(layers: list[Layer], settings: list[str]) -> dict[str, str]:
    """Take `LAYER.NAME=VALUE` words over the defaults; BuildError names what is wrong with one."""
    known = {variable.name: variable for layer in layers for variable in layer.variables}
    chosen = {name: variable.default for name, variable in known.items()}
    for setting in settings:
        name, equals, value = setting.partition("=")
        if not equals or name not in known:
            raise BuildError(f"--set {setting}: expected one of {', '.join(known)}, as NAME=VALUE")
        chosen[name] = known[name].check(value)
    return chosen


def apply(layer: Layer, tools: ToolRoot, root: Path, *, role: str, arch: str, chosen: dict[str, str]) -> None:
    """Lay the layer's files over the root and run its finish script, natively: nothing of the root is run."""
    files = layer.folder / "files"
    if files.is_dir():
        for path in sorted(files.rglob("*")):
            target = root / path.relative_to(files)
            if path.is_dir():
                target.mkdir(parents=True, exist_ok=True)
            else:
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, target)
                target.chmod(0o755 if path.stat().st_mode & 0o100 else 0o644)
    script = layer.folder / "finish"
    if script.exists():
        env = {"ROOT": str(root), "ROLE": role, "ARCH": arch, "PROJECT": str(PROJECT), "VERSION": version()}
        env |= {name.replace(".", "_").upper(): value for name, value in chosen.items()}
        tools.run(["sh", "-eu", script], env=env)
    for pattern in layer.removed(role):
        for path in root.glob(pattern):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
