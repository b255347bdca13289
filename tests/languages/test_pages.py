"""No sentence of a page stands in the page itself, where no language could replace it."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path

import pytest

import voicemeet_edge.hub

HUB = Path(voicemeet_edge.hub.__file__).parent
# A name, what stands on keys, and a title that the first state replaces.
SAME_EVERYWHERE = {"VoiceMeet", "Enter", "Esc", "M", "VoiceMeet desk"}
VOID = {"meta", "link", "input", "img", "br", "hr"}
SAID = ("placeholder", "title", "alt", "aria-label")


class Untranslated(HTMLParser):
    """Collects texts that stand in no element that names its sentence."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self._open: list[bool] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Go into an element."""
        self.found += [f"{name}={value}" for name, value in attrs if name in SAID and value]
        if tag not in VOID:
            self._open.append("data-t" in dict(attrs))

    def handle_endtag(self, tag: str) -> None:
        """Leave it."""
        if tag not in VOID:
            self._open.pop()

    def handle_data(self, data: str) -> None:
        """Take a text."""
        words = data.strip()
        if any(letter.isalpha() for letter in words) and not any(self._open):
            self.found.append(words)


@pytest.mark.parametrize("page", ["desk/desk.html", "operator/operator.html"])
def test_what_a_page_says_is_in_the_catalogue(page: str) -> None:
    look = Untranslated()
    look.feed((HUB / page).read_text("utf-8"))
    assert set(look.found) - SAME_EVERYWHERE == set()
