"""The step that makes the packages, shared by the commands `package` and `build`."""

from __future__ import annotations

import os
from pathlib import Path

from imaging.debs import Packages
from imaging.project import PROJECT, Build
from imaging.steps import remove
from imaging.wheels import Target, Wheels

INGREDIENTS = (
    *("voicemeet_edge", "systemd", "packaging", "pyproject.toml", "README.md"),
    *("firmware/voicemeet.toml", "firmware/hub.toml", "LICENSE"),
)


def packages(build: Build) -> list[Path]:
    """Return the .debs for the build's architecture and release; kept until anything inside changes."""
    target = Target(build.arch, build.python)

    here = Path(__file__).parent
    work = build.cache / f"work-packages-{build.suite}-{build.arch}"

    def maker() -> Packages:
        remove(work)
        wheels = Wheels(build.tools, build.apt(), PROJECT, work / "wheels", target)
        return Packages(build.tools, wheels, PROJECT, work / "trees", target)

    locks = [PROJECT / "requirements" / f"{name}.txt" for name in ("build", "device", "hub")]
    libraries = build.steps.keep(
        f"Python libraries for {build.arch}, Python {build.python}",
        f"libraries-{build.suite}-{build.arch}",
        [*locks, target, here / "wheels.py"],
        lambda path: maker().libraries(path),
    )

    def make(path: Path) -> None:
        maker().make(libraries, path)
        remove(work)

    ingredients = [*(PROJECT / name for name in INGREDIENTS), here / "debs.py", libraries.name]
    ingredients.append(os.environ["SOURCE_DATE_EPOCH"])
    folder = build.steps.keep(
        f"Debian packages for {build.arch}, {build.suite}",
        f"debs-{build.suite}-{build.arch}",
        ingredients,
        make,
    )
    return sorted(folder.glob("*.deb"))
