"""What pyproject.toml asks for is imported: by the product, or by tests and benches where it is for them."""

from __future__ import annotations

import re
import tomllib
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
# Commands, and what pytest loads by itself: nobody imports them.
TOOLS = {"mypy", "pytest-asyncio", "pytest-timeout", "ruff"}
DEVELOPMENT = PROJECT["optional-dependencies"].pop("dev")
PRODUCT = [
    *PROJECT["dependencies"],
    *(one for extra in PROJECT["optional-dependencies"].values() for one in extra),
]


def plain(name: str) -> str:
    """A distribution's name as PEP 503 compares it, without its version."""
    return re.sub(r"[-_.]+", "-", re.split(r"[^\w.-]", name)[0]).lower()


@cache
def modules(name: str) -> frozenset[str]:
    """What there is to import of a distribution."""
    found = packages_distributions().items()
    return frozenset(module for module, names in found if name in map(plain, names))


@cache
def imported(*folders: str) -> frozenset[str]:
    """The first word of each import, wherever in a file, and of each that is asked for by name."""
    files = [path for folder in folders for path in (ROOT / folder).rglob("*") if path.is_file()]
    text = "\n".join(path.read_text() for path in files if path.suffix in (".py", ""))
    statements = re.findall(r"^\s*(?:import|from) (\w+)", text, re.MULTILINE)
    return frozenset([*statements, *re.findall(r'(?:import_module|find_spec)\("(\w+)"', text)])


@pytest.mark.parametrize("name", [plain(one) for one in PRODUCT])
def test_the_product_imports_what_it_asks_for(name: str) -> None:
    assert modules(name) & imported("voicemeet_edge"), f"nothing imports {name}"


@pytest.mark.parametrize("name", sorted({*map(plain, DEVELOPMENT)} - TOOLS))
def test_tests_and_benches_import_what_they_ask_for(name: str) -> None:
    assert modules(name) & imported("tests", "bench", "scripts"), f"nothing imports {name}"
