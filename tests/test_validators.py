"""Checks of setting values: what they take, what they make of it, and that a refusal repeats nothing."""

from __future__ import annotations

import base64
import contextlib
from enum import StrEnum

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voicemeet_edge import validators
from voicemeet_edge.secret import Secret
from voicemeet_edge.validators import Check, Refused

KEY = base64.urlsafe_b64encode(bytes(range(32))).decode().rstrip("=")


class Word(StrEnum):
    ONE = "one"
    TWO = "two"


CHECKS: dict[str, Check[object]] = {
    "boolean": validators.boolean,
    "integer": validators.integer(1, 5),
    "number": validators.number(0.5, 2),
    "text": validators.text("[a-c]{1,3}", "letters"),
    "one_of": validators.one_of("a", "b", 1),
    "choice": validators.choice(Word),
    "many": validators.many(validators.integer(1, 5), 3, least=1),
    "secret": validators.secret,
    "intercom_key": validators.intercom_key,
    "pass_text": validators.pass_text,
    "gpio_line": validators.gpio_line,
    "pin_digest": validators.pin_digest,
    "base_url": validators.base_url,
    "address": validators.address,
    "alsa_name": validators.alsa_name,
}


@pytest.mark.parametrize(
    ("name", "given", "taken"),
    [
        ("boolean", True, True),
        ("integer", 5, 5),
        ("number", 1, 1.0),
        ("text", "abc", "abc"),
        ("one_of", 1, 1),
        ("choice", "two", Word.TWO),
        ("choice", Word.ONE, Word.ONE),
        ("many", [1, 2], (1, 2)),
        ("many", (3,), (3,)),
        ("secret", "a.key-of~chars", Secret("a.key-of~chars")),
        ("secret", Secret("x"), Secret("x")),
        ("intercom_key", KEY, Secret(KEY)),
        ("intercom_key", KEY + "=", Secret(KEY)),
        ("pass_text", "", Secret("")),
        ("gpio_line", "GPIO17", "GPIO17"),
        ("gpio_line", "PIN11", "PIN11"),
        ("pin_digest", "AB" * 32, "ab" * 32),
        ("pin_digest", "", ""),
        ("base_url", "https://hub.example:8443/", "https://hub.example:8443"),
        ("base_url", "http://[::1]:80/path", "http://[::1]:80/path"),
        ("address", "2001:DB8::0001", "2001:db8::1"),
        ("address", "192.0.2.1", "192.0.2.1"),
        ("alsa_name", "plughw:CARD=Device", "plughw:CARD=Device"),
        ("alsa_name", "auto", "auto"),
    ],
)
def test_what_is_taken(name: str, given: object, taken: object) -> None:
    assert CHECKS[name](given) == taken


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("boolean", "false"),
        ("boolean", 1),
        ("integer", 6),
        ("integer", True),
        ("integer", 2.0),
        ("number", float("nan")),
        ("number", float("inf")),
        ("number", "1"),
        ("text", "abcd"),
        ("text", "a\n"),
        ("one_of", True),  # which equals the 1 that is a choice
        ("one_of", "c"),
        ("choice", "three"),
        ("many", []),
        ("many", [1, 1]),
        ("many", [1, 2, 3, 4]),
        ("many", "12"),
        ("many", [9]),
        ("secret", "with space"),
        ("secret", "é"),
        ("secret", "x" * 5000),
        ("intercom_key", KEY[:-1]),
        ("intercom_key", KEY[:-1] + "9"),  # the spare bits of the last character are set
        ("intercom_key", "!" * 43),
        ("pass_text", "not a pass"),
        ("pass_text", 5),
        ("gpio_line", "PIN99"),
        ("gpio_line", "a b"),
        ("pin_digest", "ab"),
        ("base_url", "ftp://hub"),
        ("base_url", "https://user:word@hub"),
        ("base_url", "https://hub?x=1"),
        ("base_url", "https://hub:99999"),
        ("base_url", "https://hub:0"),
        ("base_url", "https://"),
        ("base_url", "https://[::1"),
        ("address", "hub.example"),
        ("address", 7),
        ("alsa_name", "hw:0"),
        ("alsa_name", "plughw:CARD=1"),
        ("alsa_name", " x"),
    ],
)
def test_what_is_refused(name: str, given: object) -> None:
    with pytest.raises(Refused) as refused:
        CHECKS[name](given)
    assert str(refused.value)
    if isinstance(given, str) and len(given) > 8:
        assert given not in str(refused.value)


@pytest.mark.parametrize("name", CHECKS)
@given(
    value=st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.lists(st.text(max_size=3))
)
def test_any_value_is_taken_or_refused(name: str, value: object) -> None:
    with contextlib.suppress(Refused):  # anything else is a fault
        CHECKS[name](value)


@pytest.mark.parametrize(
    ("url", "is_here"),
    [
        ("http://localhost:1", True),
        ("https://127.0.0.2", True),
        ("http://[::1]/x", True),
        ("https://hub.example", False),
        ("https://192.0.2.1", False),
        ("https://localhost.example", False),
    ],
)
def test_this_machine_is_told_from_others(url: str, is_here: bool) -> None:
    assert validators.is_loopback_url(url) is is_here


@pytest.mark.parametrize("good", ["", "mqtt://broker", "mqtts://broker.example:8883", "mqtt://[::1]:1883"])
def test_a_broker(good: str) -> None:
    assert validators.broker_url(good) == good


@pytest.mark.parametrize(
    "bad", ["broker", "http://broker", "mqtt://", "mqtt://a:b@c", "mqtt://a:0", 1, "mqtt://a/b"]
)
def test_no_broker(bad: object) -> None:
    with pytest.raises(Refused):
        validators.broker_url(bad)
