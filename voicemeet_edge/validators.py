"""Checks of single setting values: each takes what TOML gave and returns what the code uses.

One rule: a check that refuses raises `Refused` with what was *expected* and never repeats the value,
because the value may be a secret.
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
import re
from collections.abc import Callable
from typing import TypeVar
from urllib.parse import urlsplit

from voicemeet_edge.secret import Secret

T = TypeVar("T")
Check = Callable[[object], T]

MAX_TEXT = 256  # characters; no name, path or address in the settings needs more
MAX_KEY_TEXT = 4096  # characters; a hosted API key is a JWT of a few hundred
INTERCOM_KEY_BYTES = 32  # bytes; the input of HKDF-SHA-256 in signaling/sealed.py


class Refused(ValueError):  # noqa: N818 - reads as a sentence: a check refused
    """The value cannot be used; the text says what was expected."""


def boolean(value: object) -> bool:
    """Accept true and false only, so that the text "false" is not taken for true."""
    if not isinstance(value, bool):
        raise Refused("true or false")
    return value


def integer(low: int, high: int) -> Check[int]:
    """Accept a whole number within both limits."""

    def check(value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise Refused(f"a whole number from {low} to {high}")
        return value

    return check


def number(low: float, high: float) -> Check[float]:
    """Accept a number within both limits; nan and infinity are outside every limit."""

    def check(value: object) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            raise Refused(f"a number from {low:g} to {high:g}")
        return float(value)

    return check


def text(pattern: str, expected: str) -> Check[str]:
    """Accept a text that matches the whole pattern."""
    compiled = re.compile(pattern)

    def check(value: object) -> str:
        if not isinstance(value, str) or len(value) > MAX_TEXT or not compiled.fullmatch(value):
            raise Refused(expected)
        return value

    return check


def one_of(*choices: T) -> Check[T]:
    """Accept one of these words."""

    def check(value: object) -> T:
        for choice in choices:
            if type(value) is type(choice) and value == choice:
                return choice
        raise Refused("one of " + ", ".join(f'"{choice}"' for choice in choices))

    return check


def many(item: Check[T], most: int, least: int = 0) -> Check[tuple[T, ...]]:
    """Accept a list of different values, each passing `item`."""

    def check(value: object) -> tuple[T, ...]:
        if not isinstance(value, list | tuple) or not least <= len(value) <= most:
            raise Refused(f"a list of {least} to {most} values")
        try:
            items = tuple(item(one) for one in value)
        except Refused as refused:
            raise Refused(f"a list, each {refused}") from None
        if len(set(items)) != len(items):
            raise Refused("a list without repeats")
        return items

    return check


def secret(value: object) -> Secret:
    """Accept one line of printable ASCII: what may stand in an HTTP header."""
    if isinstance(value, Secret):
        return value
    if not isinstance(value, str) or len(value) > MAX_KEY_TEXT or not re.fullmatch(r"[!-~]*", value):
        raise Refused("a key of printable ASCII characters without spaces")
    return Secret(value)


def intercom_key(value: object) -> Secret:
    """Accept base64url of 32 bytes, as `voicemeet-edge keygen` prints it; padding is dropped."""
    expected = f"base64url of {INTERCOM_KEY_BYTES} bytes, as `voicemeet-edge keygen` prints it"
    given = value.reveal() if isinstance(value, Secret) else value
    if not isinstance(given, str) or not re.fullmatch(r"[A-Za-z0-9_-]{43}=?", given):
        raise Refused(expected)
    bare = given.rstrip("=")
    try:
        raw = base64.urlsafe_b64decode(bare + "=")
    except binascii.Error:
        raise Refused(expected) from None
    # RFC 4648 §3.5: the last character carries two spare bits; a key has one spelling only.
    if len(raw) != INTERCOM_KEY_BYTES or base64.urlsafe_b64encode(raw).rstrip(b"=").decode() != bare:
        raise Refused(expected)
    return Secret(bare)


def pin_digest(value: object) -> str:
    """Accept nothing or the SHA-256 of a certificate in hex; returned in small letters."""
    if not isinstance(value, str) or not re.fullmatch(r"([0-9A-Fa-f]{64})?", value):
        raise Refused("nothing or 64 hex digits")
    return value.lower()


def base_url(value: object) -> str:
    """Accept http(s)://host[:port][/path]; no user, query or fragment. A last slash is dropped."""
    expected = "https://host[:port], without user, password, query or fragment"
    if not isinstance(value, str) or len(value) > MAX_TEXT or not re.fullmatch(r"[!-~]+", value):
        raise Refused(expected)
    try:
        parts = urlsplit(value)
        port_is_usable = parts.port is None or parts.port > 0
    except ValueError:
        raise Refused(expected) from None
    if parts.scheme not in ("http", "https") or not parts.hostname or not port_is_usable:
        raise Refused(expected)
    if "@" in parts.netloc or "?" in value or "#" in value:
        raise Refused(expected)
    return value.rstrip("/")


def is_loopback_url(url: str) -> bool:
    """Say whether the host of an already checked URL is this machine, without asking a resolver."""
    host = urlsplit(url).hostname or ""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def address(value: object) -> str:
    """Accept an IPv4 or IPv6 address; returned in its one short spelling."""
    try:
        return str(ipaddress.ip_address(value)) if isinstance(value, str) else _refuse_address()
    except ValueError:
        return _refuse_address()


def _refuse_address() -> str:
    raise Refused("an IPv4 or IPv6 address")


def alsa_name(value: object) -> str:
    """Accept an ALSA device by name; numbers are refused, because they change when a card is replugged."""
    expected = 'an ALSA device by card name, such as "plughw:CARD=Device"'
    if not isinstance(value, str) or len(value) > MAX_TEXT or not re.fullmatch(r"[!-~][ -~]*", value):
        raise Refused(expected)
    if re.match(r"(plug|dmix|dsnoop|sysdefault)?(hw)?:(CARD=)?\d", value):
        raise Refused(expected + ", not by number")
    return value
