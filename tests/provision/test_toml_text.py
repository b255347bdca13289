"""Settings written anew, without their secrets, and with those put back."""

from __future__ import annotations

import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voicemeet_edge.provision.toml_text import HEADER, KEPT, dump, with_kept, without_secrets

SECRETS = {("backend", "apikey"), ("security", "keys")}
WORDS = st.from_regex(r"[a-z][a-z0-9_-]{0,8}", fullmatch=True)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
VALUES = st.one_of(
    st.booleans(), st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False, allow_infinity=False), TEXTS,
    st.lists(TEXTS, max_size=3),
)  # fmt: skip


@given(st.dictionaries(WORDS, st.dictionaries(WORDS, VALUES, max_size=3), max_size=4))
def test_what_is_written_is_read_back(table: dict[str, dict[str, object]]) -> None:
    assert tomllib.loads(dump(table)) == table


def test_a_value_outside_of_sections_comes_before_them() -> None:
    assert tomllib.loads(dump({"call": {"pool": "x"}, "version": 1})) == {"version": 1, "call": {"pool": "x"}}


def test_comments_and_order_stay_and_secrets_go() -> None:
    left = without_secrets('# mine\n[backend] # hub\nurl = "u"  # there\napikey = "sesame"\n', SECRETS)
    assert left == HEADER + f'# mine\n[backend] # hub\nurl = "u"  # there\napikey = "{KEPT}"\n'
    assert without_secrets(left, SECRETS) == left, "taken over once more it stays as it is"


@pytest.mark.parametrize(
    "text",
    [
        '[security]\nkeys = [\n  "sesame",\n]\n',
        '# sesame\n[backend]\napikey = "sesame"\n',
        'backend.apikey = "sesame"\n',
        'security = {keys = ["sesame"]}\n',
        "[backend]\napikey = '''\nsesame'''\n",
    ],
)
def test_a_secret_leaves_however_it_is_written(text: str) -> None:
    left = without_secrets(text, SECRETS)
    assert "sesame" not in left
    assert KEPT in left.removeprefix(HEADER)


def test_an_empty_secret_stays_empty() -> None:
    left = tomllib.loads(without_secrets('[backend]\napikey = ""\n[security]\nkeys = []\n', SECRETS))
    assert left == {"backend": {"apikey": ""}, "security": {"keys": []}}


def test_what_was_kept_comes_back_and_nothing_else_does() -> None:
    kept = {"backend": {"apikey": "sesame", "url": "old"}, "security": {"keys": ["a", "b"]}}
    card = {"backend": {"apikey": KEPT, "url": KEPT}, "security": {"keys": [KEPT]}, "version": 1}
    assert with_kept(card, kept, SECRETS) == {
        "backend": {"apikey": "sesame", "url": KEPT},  # no secret: whoever wrote that means it
        "security": {"keys": ["a", "b"]},
        "version": 1,
    }
    assert with_kept({"backend": {"apikey": KEPT}}, {}, SECRETS) == {"backend": {"apikey": ""}}
    assert with_kept({"backend": {"apikey": "new"}}, kept, SECRETS) == {"backend": {"apikey": "new"}}
