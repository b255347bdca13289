"""The slips of a person with an editor: named with the line and the likely meaning, never with the value."""

from __future__ import annotations

import pytest

from voicemeet_edge.errors import SettingsError
from voicemeet_edge.settings import Settings
from voicemeet_edge.settings_slips import line_of

PIN = "ab" * 32
PASTED = f"""[backend]
url = "https://hub:8443"
apikey = "a-key"
tls_pin = "{PIN}"

[call]
pool = "frontdesk"
"""


def sentence(text: str) -> str:
    with pytest.raises(SettingsError) as caught:
        Settings.parse(text)
    return str(caught.value)


def test_settings_pasted_twice_are_named_with_both_lines() -> None:
    told = sentence(PASTED + PASTED)
    assert "section [backend] once, and it is there twice (lines 1 and 8)" in told
    assert "Keep one of them" in told


def test_a_setting_that_is_there_twice_is_named_with_both_lines() -> None:
    told = sentence('[call]\npool = "a"\nrole = "caller"\npool = "b"\n')
    assert "pool once in [call], and it is there twice (lines 2 and 4)" in told


@pytest.mark.parametrize(
    "pin",
    [
        ":".join(PIN[at : at + 2].upper() for at in range(0, 64, 2)),
        " ".join(PIN[at : at + 8] for at in range(0, 64, 8)),
        f"sha256:{PIN}",
    ],
)
def test_a_pin_is_taken_as_browsers_and_openssl_show_it(pin: str) -> None:
    assert Settings.parse(PASTED.replace(PIN, pin)).backend.tls_pin == PIN


def test_a_pin_that_was_cut_says_how_many_digits_and_where() -> None:
    told = sentence(PASTED.replace(PIN, PIN[:-1]))
    assert "(line 4)" in told
    assert "64 hex digits; these are 63" in told
    assert "SHA-1" in sentence(PASTED.replace(PIN, PIN[:40]))


def test_a_misspelt_name_is_named_with_its_line_and_the_likely_one() -> None:
    told = sentence(PASTED.replace("tls_pin", "tls_pim"))
    assert '(line 4): expected a known name; did you mean "tls_pin"?' in told
    assert '(line 6): expected a known name; did you mean "call"?' in sentence(PASTED.replace("call", "cal"))


def test_the_address_of_the_desk_page_is_not_the_hubs() -> None:
    told = sentence(PASTED.replace(":8443", ":8443/desk/"))
    assert "(line 2): expected the hub's own address" in told


@pytest.mark.parametrize(
    ("line", "meaning"),
    [
        ("pool = “frontdesk”", "straight quotes"),
        ('pool: "frontdesk"', "there is a colon"),
        ("pool = frontdesk", 'quotes (") around the value'),
        ('pool = "frontdesk', "a quote at both ends"),
        ("pool =", "a value after pool ="),
        ("pool", '"name = value" or "[section]"'),
        ("[call", "a ] at the end"),
        ("ipv6 = True", "true or false"),
    ],
)
def test_a_line_that_is_no_toml_says_what_is_likely_wrong(line: str, meaning: str) -> None:
    told = sentence(f"# settings\n{line}\n")
    assert meaning in told
    assert "line 2" in told


def test_a_slip_never_repeats_the_line() -> None:
    for text in ("pass = my-secret-pass-here", 'pass = "my-secret-pass-here', "[my-secret-pass-here\nx"):
        assert "my-secret" not in sentence(text)


def test_lines_of_sections_and_keys() -> None:
    text = '# a comment\n[call] # here\n role = "x"\n[ice]\nrole = "y"\n'
    assert (line_of(text, "call.role"), line_of(text, "ice.role")) == (3, 5)
    assert (line_of(text, "[ice]"), line_of(text, "ice.no")) == (4, 0)
