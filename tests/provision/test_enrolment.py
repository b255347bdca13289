"""The forms of an enrolment: the same facts in each, and a sentence for what was cut or mistyped."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voicemeet_edge.backend.verbs import Role
from voicemeet_edge.call.keys import new_key
from voicemeet_edge.provision.enrolment import Enrolment, EnrolmentError, parse_line
from voicemeet_edge.secret import Secret
from voicemeet_edge.settings import Settings

PLACE = Enrolment(
    "https://hub.example:8443",
    Secret("ey.J.k"),
    "ab" * 32,
    "lobby",
    Role.CALLER,
    'Side "entrance" & gate = ü',
    Secret("0" * 26),
    (new_key(), new_key()),
)


def test_line_and_file_say_the_same() -> None:
    read = parse_line(PLACE.line())
    assert read == PLACE
    settings = Settings.parse(read.settings().reveal())
    assert settings.backend.apikey == PLACE.apikey
    assert settings.security.intercom_keys == PLACE.keys
    assert settings.call.pool == "lobby"


def test_line_breaks_of_a_terminal_do_not_matter() -> None:
    line = PLACE.line().reveal()
    assert parse_line(Secret(f"  {line[:70]}\r\n{line[70:]}\n")) == PLACE


def test_the_desks_link_carries_pass_pool_and_key_behind_the_hash() -> None:
    link = PLACE.desk_link().reveal()
    assert link.startswith("https://hub.example:8443/desk/#pass=" + "0" * 26 + "&pool=lobby&key=")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (PLACE.line().reveal() * 2, "pasted twice"),
        ("https://hub.example:8443/desk/#pass=0", "begins with"),
        (PLACE.line().reveal()[:40], "cut"),
        ("voicemeet-settings:1:", "cut"),
        (PLACE.line().reveal().replace("role=caller", "role=king"), "role"),
        (PLACE.line().reveal().replace("ab" * 32, "ab" * 31), "backend.tls_pin: expected nothing or 64"),
        (PLACE.line().reveal().replace("pass=00", "pass=0"), "26 letters and digits, this one 25"),
        (PLACE.line().reveal() + "x" * 2_000, "at most"),
    ],
)
def test_what_cannot_be_is_named(text: str, why: str) -> None:
    with pytest.raises(EnrolmentError, match=why) as caught:
        parse_line(Secret(text))
    assert "\n" not in str(caught.value)


def test_no_secret_is_in_the_error_or_the_repr() -> None:
    with pytest.raises(EnrolmentError) as caught:
        parse_line(Secret(PLACE.line().reveal().replace("https:", "hxxps:")))
    for secret in (PLACE.apikey, PLACE.pass_, *PLACE.keys):
        assert secret.reveal() not in str(caught.value)
        assert secret.reveal() not in repr(PLACE)


@given(st.text(max_size=400))
def test_any_text_is_refused_with_a_sentence_or_read(text: str) -> None:
    for prefix in (
        "",
        "voicemeet-settings:1:",
        "voicemeet-settings:1:url=https://h&apikey=k&pool=p&role=caller&",
    ):
        try:
            parse_line(Secret(prefix + text))
        except EnrolmentError:
            pass
