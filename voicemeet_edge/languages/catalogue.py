"""The sentences of one language, from `<language>.json`: one catalogue for page and device.

One rule: every language has every key, with the same values in braces; a test compares them.

JSON and not gettext, because the page is served as it lies in the source: nothing has to be compiled, the
browser and Python read the same bytes, and what the package's record vouches for is what was translated.
Translators' tools read it as "JSON, flat, key and value". A key that ends in `.one` or `.other` is chosen by
a number.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

from voicemeet_edge.choices import Language

DIRECTORY = Path(__file__).parent


@cache
def _sentences(language: Language) -> dict[str, str]:
    sentences: dict[str, str] = json.loads((DIRECTORY / f"{language.value}.json").read_text("utf-8"))
    return sentences


def text(language: Language, key: str, **values: object) -> str:
    """Return a sentence with its values filled in; blocking the first time, because it reads a file.

    Raises:
        KeyError: there is no such sentence, or a value of it was not given.
    """
    return _sentences(language)[key].format_map(values)
