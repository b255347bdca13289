"""The packages hold everything the project installs: whoever adds a unit or a command finds it in one."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from imaging.debs import RECIPES, UNIT_PLACES, Recipe

TOP = Path(__file__).parent.parent.parent
FILES = {source: target for recipe in RECIPES.values() for source, target in recipe.extra_files}


@pytest.mark.parametrize("path", sorted((TOP / "systemd").iterdir()), ids=lambda path: path.name)
def test_each_file_of_systemd_is_in_one_package_or_in_the_image(path: Path) -> None:
    if path.suffix in UNIT_PLACES:
        owners = [r.name for r in RECIPES.values() if path.name.startswith(r.unit_prefix)]
        assert len(owners) == 1, f"no package takes a unit of that name: {owners}"
    elif f"systemd/{path.name}" not in FILES:
        # What says in its first line where it goes is put there by the image's layer `hardening`.
        assert re.search(r"[Gg]oes to /usr/\S+", path.read_text().splitlines()[0]), "nothing takes this file"


def test_each_command_of_the_project_is_in_usr_bin() -> None:
    scripts = tomllib.loads((TOP / "pyproject.toml").read_text())["project"]["scripts"]
    assert {f"usr/bin/{name}" for name in scripts} <= set(FILES.values())


def test_what_the_packages_take_is_there() -> None:
    assert [source for source in FILES if not (TOP / source).is_file()] == []


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=lambda recipe: recipe.name)
def test_settings_that_a_person_changes_are_conffiles(recipe: Recipe) -> None:
    in_etc = {f"/{target}" for _, target in recipe.extra_files if target.startswith("etc/")}
    assert in_etc == set(recipe.conffiles)


def test_the_man_page_is_made_by_a_python_that_has_no_libraries() -> None:
    command = [sys.executable, "-S", str(TOP / "packaging/manual.py"), "man"]
    done = subprocess.run(command, env={"PYTHONPATH": str(TOP)}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert ".TH" in done.stdout
