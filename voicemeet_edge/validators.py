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
from enum import StrEnum
from typing import TypeVar
from urllib.parse import urlsplit

from voicemeet_edge.backend.admission import PassTextError, parse_pass
from voicemeet_edge.panel.header import NoSuchPositionError, line_name
from voicemeet_edge.panel.keypad import KeypadButton
from voicemeet_edge.secret import Secret

T = TypeVar("T")
WordT = TypeVar("WordT", bound=StrEnum)
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


def choice(choices: type[WordT]) -> Check[WordT]:
    """Accept one of the words of an enumeration; returns its member."""
    word = one_of(*(one.value for one in choices))

    def check(value: object) -> WordT:
        return choices(value if isinstance(value, choices) else word(value))

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


def pass_text(value: object) -> Secret:
    """Accept nothing or a pass as `voicemeet-edge pass` prints it; returned in its one form."""
    given = value if isinstance(value, Secret) else Secret(value) if isinstance(value, str) else None
    if given is None or len(given.reveal()) > MAX_KEY_TEXT:
        raise Refused("a pass, as `voicemeet-edge pass` prints it at the hub")
    if not given:
        return given
    try:
        return parse_pass(given)
    except PassTextError as error:
        raise Refused(f"a pass, as `voicemeet-edge pass` prints it at the hub ({error})") from None


def gpio_line(value: object) -> str:
    """A line of the kernel's, or a place on the Raspberry Pi's header."""
    line = text(r"[!-~]{1,32}", 'a GPIO line such as "GPIO17", or its place on the header, "PIN11"')(value)
    try:
        line_name(line)
    except NoSuchPositionError as error:
        raise Refused(f"a GPIO line ({error})") from None
    return line


def fleet_key(value: object) -> str:
    """Accept nothing, or the half of a fleet key that devices are told."""
    if value == "":
        return ""
    # Loaded by whoever has one: checking settings shall stay quick.
    from voicemeet_edge.fleet_seal import FleetKeyError, parse_public

    try:
        parse_public(value if isinstance(value, str) else "")
    except FleetKeyError:
        expected = (
            "the 87 letters and digits that the operator's page shows (or `voicemeet-edge keygen --fleet`)"
        )
        raise Refused(expected) from None
    return str(value)


def optional_gpio_line(value: object) -> str:
    """Nothing, or a line."""
    return "" if value == "" else gpio_line(value)


def time_of_day(value: object) -> str:
    """Nothing, or hours and minutes."""
    return text(r"(?:(?:[01][0-9]|2[0-3]):[0-5][0-9])?", 'a time of day such as "03:30", or nothing')(value)


def hours(value: object) -> str:
    """Nothing, or from when to when each day."""
    span = text(r"(?:[0-9:]{5}-[0-9:]{5})?", 'hours such as "22:00-06:30", or nothing')(value)
    for one in filter(None, span.split("-")):
        time_of_day(one)
    return span


def keypad_button(value: object) -> KeypadButton:
    """A line, a pool, and the pool's pass where it asks for one; with blanks between."""
    words = value.split() if isinstance(value, str) and len(value) <= MAX_TEXT else []
    if len(words) not in (2, 3):
        raise Refused('a line and a pool, such as "GPIO5 office", and a pass behind them where one is needed')
    return KeypadButton(gpio_line(words[0]), pool_name(words[1]), pass_text(words[2] if words[2:] else ""))


def pool_name(value: object) -> str:
    """The name of a pool."""
    wanted = "a name of small letters, digits and - inside"
    return text(r"[a-z0-9](?:[a-z0-9-]{0,30}[a-z0-9])?", wanted)(value)


def pin_digest(value: object) -> str:
    """Accept nothing or the SHA-256 of a certificate in hex; returned in small letters.

    Colons and spaces between the digits, as browsers and openssl show them, are taken out.
    """
    if not isinstance(value, str) or len(value) > MAX_TEXT:
        raise Refused("nothing or 64 hex digits")
    bare = re.sub(r"[\s:]", "", value.strip().removeprefix("sha256:")).lower()
    if re.fullmatch(r"([0-9a-f]{64})?", bare):
        return bare
    if re.fullmatch(r"[0-9a-f]{40}", bare):
        raise Refused("nothing or the SHA-256 of the certificate, 64 hex digits; this is its SHA-1")
    if re.fullmatch(r"[0-9a-f]+", bare):
        raise Refused(f"nothing or 64 hex digits; these are {len(bare)}")
    raise Refused("nothing or 64 hex digits")


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
    if parts.path.rstrip("/").endswith(("/desk", "/operator")):
        raise Refused("the hub's own address, without what comes after the port")
    return value.rstrip("/")


def broker_url(value: object) -> str:
    """Accept mqtt(s)://host[:port] or nothing; name and password have settings of their own."""
    expected = "mqtt://host[:port], mqtts://host[:port] or nothing"
    if value == "":
        return ""
    if not isinstance(value, str) or not re.fullmatch(r"mqtts?://[A-Za-z0-9.:\[\]-]{1,255}", value):
        raise Refused(expected)
    try:
        parts = urlsplit(value)
        port_is_usable = parts.port is None or parts.port > 0
    except ValueError:
        raise Refused(expected) from None
    if not parts.hostname or not port_is_usable:
        raise Refused(expected)
    return value


def optional_url(value: object) -> str:
    """Accept what `base_url` accepts, or nothing."""
    return "" if value == "" else base_url(value)


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


def loopback_endpoint(value: object) -> str:
    """Accept "127.0.0.1:9464", "[::1]:9464" or nothing."""
    expected = 'an address of this machine and a port, such as "127.0.0.1:9464", or nothing'
    if not isinstance(value, str):
        raise Refused(expected)
    if value == "":
        return value
    host, _, port = value.rpartition(":")
    try:
        is_ours = ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        is_ours = False
    if not is_ours or not port.isdecimal() or not 0 <= int(port[:6]) <= 65_535:
        raise Refused(expected)
    return value


def alsa_name(value: object) -> str:
    """Accept a sound device by name, USB product or port; numbers change when a card is replugged."""
    expected = '"auto", "usb:0d8c:0014", "port:1-1.2" or an ALSA name such as "plughw:CARD=Device"'
    if not isinstance(value, str) or len(value) > MAX_TEXT or not re.fullmatch(r"[!-~][ -~]*", value):
        raise Refused(expected)
    if re.match(r"(plug|dmix|dsnoop|sysdefault)?(hw)?:(CARD=)?\d", value):
        raise Refused(expected + ", not by number")
    return value
