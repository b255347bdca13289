"""What the documents name is there: files behind links, modules in code marks."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from voicemeet_edge.call.signs import Lamp
from voicemeet_edge.not_connected import NotConnected
from voicemeet_edge.reasons import EndReason

ROOT = Path(__file__).parent.parent
DOCUMENTS = [*sorted((ROOT / "docs").glob("*.md")), ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
BASES = (ROOT, ROOT / "voicemeet_edge", ROOT / "tests")
LINK = re.compile(r"\]\(([^)#]+)")
FILE = re.compile(r"`([\w./{},-]+\.(?:py|js|mjs|md))`")


def spelled_out(name: str) -> Iterator[str]:
    """Yield each name that braces stand for."""
    parts = [part.split(",") for part in re.split(r"[{}]", name)]
    yield from ("".join(choice) for choice in itertools.product(*parts))


def named_files(text: str) -> Iterator[str]:
    for match in FILE.finditer(text):
        yield from spelled_out(match[1])


def is_there(name: str) -> bool:
    """Whether a file is where the documents say; a name without a folder may be in any."""
    if "/" not in name:
        return any(next(base.rglob(name), None) is not None for base in BASES[1:]) or (ROOT / name).exists()
    return any((base / name).exists() for base in BASES)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document: Path) -> None:
    links = [link for link in LINK.findall(document.read_text()) if "://" not in link]
    assert [link for link in links if not (document.parent / link).exists()] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_files_that_are_named_exist(document: Path) -> None:
    missing = {name for name in named_files(document.read_text()) if not is_there(name)}
    assert sorted(missing) == []


def test_braces_are_spelled_out() -> None:
    assert list(spelled_out("a/{b,c}.py")) == ["a/b.py", "a/c.py"]
    assert not is_there("webrtc/nothing.py")


TROUBLESHOOTING = (ROOT / "docs" / "troubleshooting.md").read_text()


@pytest.mark.parametrize("reason", NotConnected)
def test_each_reason_for_no_connection_stands_with_its_cure(reason: NotConnected) -> None:
    assert f"| `{reason.value}` | {reason.said} | {reason.cure} |" in TROUBLESHOOTING


@pytest.mark.parametrize("reason", EndReason)
def test_each_end_of_a_call_is_explained(reason: EndReason) -> None:
    assert f"`{reason.value}`" in TROUBLESHOOTING


@pytest.mark.parametrize("lamp", Lamp)
def test_each_lamp_leads_somewhere(lamp: Lamp) -> None:
    name = lamp.value.replace("_", " ")
    assert re.search(rf"^\| {name}\b|\*[^*]*{name}\*", TROUBLESHOOTING, re.MULTILINE), name


@pytest.mark.parametrize("word", ["hub", "door", "desk", "pool", "pass"])
def test_the_five_words_are_defined_once(word: str) -> None:
    glossary = (ROOT / "docs" / "glossary.md").read_text()
    assert len(re.findall(rf"^\| \**{word}\** \|", glossary, re.MULTILINE)) == 1
