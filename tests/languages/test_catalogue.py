"""Every language says everything, fills in the same values, and what is asked for is there and no more."""

from __future__ import annotations

import json
import re
import string

import pytest

from voicemeet_edge.choices import Language
from voicemeet_edge.languages.catalogue import DIRECTORY, text

PLURALS = (".one", ".other")


def catalogue(language: Language) -> dict[str, str]:
    sentences: dict[str, str] = json.loads((DIRECTORY / f"{language}.json").read_text("utf-8"))
    return sentences


def values(sentence: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(sentence) if name is not None}


ENGLISH = catalogue(Language.EN)
PACKAGE = DIRECTORY.parent
PAGE = "\n".join(
    path.read_text("utf-8") for ending in ("js", "html") for path in sorted(PACKAGE.rglob(f"*.{ending}"))
)
CODE = PAGE + "\n".join(path.read_text("utf-8") for path in sorted(PACKAGE.rglob("*.py")))
ASKED = re.compile(r"""(?:\b(?:t|tell)\(|\bdata-(?:t|label)=)["']([a-z_.]+)["']""")
COUNTED = re.compile(r"""\bcount\(["']([a-z_.]+)["']""")
QUOTED = set(re.findall(r"""["'`]([a-z_.]+)["'`]""", CODE))
BEGUN = set(re.findall(r"""["'`](\w+)\.\$?\{""", CODE))  # `end.${reason}`, f"spoken.{prompt}"
WORDS = set(re.findall(r"\w+", CODE))


@pytest.mark.parametrize("language", Language)
def test_each_language_has_every_sentence_in_the_same_order(language: Language) -> None:
    assert list(catalogue(language)) == list(ENGLISH)


@pytest.mark.parametrize("language", Language)
def test_sentences_fill_in_the_same_values(language: Language) -> None:
    found = {key: values(sentence) for key, sentence in catalogue(language).items()}
    assert found == {key: values(sentence) for key, sentence in ENGLISH.items()}


@pytest.mark.parametrize("language", [language for language in Language if language is not Language.EN])
def test_a_sentence_is_translated(language: Language) -> None:
    same = {
        key for key, sentence in catalogue(language).items() if sentence == ENGLISH[key] and " " in sentence
    }
    assert same <= {"missed.from"}


@pytest.mark.parametrize("language", Language)
def test_nothing_is_empty_but_what_is_so_everywhere(language: Language) -> None:
    assert {key for key, sentence in catalogue(language).items() if not sentence.strip()} == {
        "state.ended.more"
    }


def test_what_is_chosen_by_a_number_has_both_forms() -> None:
    for key in ENGLISH:
        for ending, other in (PLURALS, PLURALS[::-1]):
            if key.endswith(ending):
                assert key.removesuffix(ending) + other in ENGLISH


def test_there_is_a_file_for_each_language_and_no_other() -> None:
    assert {path.stem for path in DIRECTORY.glob("*.json")} == {language.value for language in Language}


def test_values_are_filled_in() -> None:
    assert text(Language.DE, "spoken.waiting", place=2).endswith("Sie sind Nummer 2.")
    with pytest.raises(KeyError):
        text(Language.EN, "spoken.waiting")


def test_what_the_page_asks_for_is_there() -> None:
    counted = {key + ending for key in COUNTED.findall(PAGE) for ending in PLURALS}
    asked = set(ASKED.findall(PAGE)) | counted
    assert len(asked) > 80
    assert asked - set(ENGLISH) == set()


def is_asked_for(key: str) -> bool:
    """Whether the code names a key, or begins it and has each word that follows."""
    start, *rest = key.split(".")
    return re.sub(r"\.(one|other)$", "", key) in QUOTED or (start in BEGUN and WORDS.issuperset(rest))


def test_nothing_is_translated_that_nobody_asks_for() -> None:
    assert [key for key in ENGLISH if not is_asked_for(key)] == []
