"""Log lines: where they go and what is not in them."""

from __future__ import annotations

import base64
import io
import logging
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voicemeet_edge.system.logs import GONE, redact, set_up_logging

SDP = "v=0\r\no=- 1 2 IN IP4 203.0.113.7\r\nc=IN IP4 203.0.113.7\r\na=ice-pwd:abc\r\n"


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    """Logging set up at info level on this stream, and put back as pytest had it."""
    root = logging.getLogger()
    handlers, level, raising = list(root.handlers), root.level, logging.raiseExceptions
    root.handlers.clear()
    stream = io.StringIO()
    set_up_logging("info", stream=stream)
    yield stream
    logging.captureWarnings(False)
    logging.raiseExceptions = raising
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.mark.parametrize(
    "secret",
    [
        "203.0.113.7",
        "203.0.113.7:3478",
        "2001:db8::7",
        "fe80::1",
        "::1",
        "1:2:3:4:5:6:7:8",
        "eyJhbGciOiJIUzI1NiJ9.eyJyb2xlIjoiYW5vbiJ9.c2lnbmF0dXJl",
        "0a1b2c3d-0a1b-4a1b-8a1b-0a1b2c3d4e5f.local",
        "0123456789abcdef0123456789abcdef",
        "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8",
        "qL3+x/9Zk0TtW1v7c5mA2bRfYhE=",
        "AB:CD:EF:01:23:45:67:89:AB:CD:EF:01:23:45:67:89",
        "a=candidate:1 1 udp 2130706431 203.0.113.7 4 typ host",
        "candidate:1 1 udp 1 0a1b.local 4",
        SDP,
        repr(SDP),
    ],
)
def test_what_identifies_or_opens_is_gone(secret: str) -> None:
    clean = redact(f"before {secret}")
    assert clean.startswith("before ")
    assert GONE in clean
    for part in secret.replace("\r\n", " ").replace("\\r\\n", " ").strip("'").split():
        assert len(part) < 6 or part not in clean


@pytest.mark.parametrize(
    "text",
    [
        "state talking → reconnecting after 3.25 s",
        "started at 12:34:56, Python 3.11.7",
        'File "/usr/lib/python3.13/site-packages/voicemeet_edge/panel/lamp.py", line 20, in show',
        "voicemeet.toml: call.reconnect_timeout_s = 0: expected a number from 1 to 300",
        "voicemeet_edge.audio.engine: SoundFatalError",
        "plughw:CARD=Device is gone",
    ],
)
def test_what_helps_stays(text: str) -> None:
    assert redact(text) == text


@given(st.binary(min_size=18, max_size=48))
def test_random_keys_are_gone(raw: bytes) -> None:
    for token in (raw.hex(), base64.urlsafe_b64encode(raw + bytes(range(7, 19))).decode()):
        # A run that happens to look like words may stay in one of many; the whole never does.
        assert token not in redact(f"key {token}") or token.isalpha()


@given(st.text())
def test_any_text_can_be_redacted(text: str) -> None:
    assert isinstance(redact(text), str)


def test_arguments_exceptions_and_extras_stay_behind(stream: io.StringIO) -> None:
    logger = logging.getLogger("voicemeet_edge.test")
    try:
        raise ConnectionRefusedError(111, "Connect call failed ('203.0.113.7', 443)")
    except ConnectionRefusedError:
        logger.exception("to %s", "203.0.113.8", extra={"peer": "203.0.113.9"})
    text = stream.getvalue()
    assert "ConnectionRefusedError" in text
    assert f"to {GONE}" in text
    assert "203.0.113" not in text


def test_nothing_below_the_level_and_no_talkative_library(stream: io.StringIO) -> None:
    logging.getLogger("voicemeet_edge.test").debug("detail")
    logging.getLogger("aioice.ice").info("Connection(0) Remote candidate")
    logging.getLogger("voicemeet_edge.test").info("change")
    assert stream.getvalue().count("\n") == 1
    assert "change" in stream.getvalue()


def test_debug_is_not_redacted(stream: io.StringIO) -> None:
    set_up_logging("debug", stream=stream)
    logging.getLogger("voicemeet_edge.test").debug("to 203.0.113.7")
    logging.getLogger("aioice").info("to 203.0.113.8")
    assert "203.0.113.7" in stream.getvalue()
    assert "203.0.113.8" not in stream.getvalue()
    set_up_logging("info", stream=stream)


def test_a_record_that_cannot_be_written_does_not_raise(
    stream: io.StringIO, capsys: pytest.CaptureFixture[str]
) -> None:
    logging.getLogger("voicemeet_edge.test").info("%d", "203.0.113.7")
    assert "203.0.113.7" not in capsys.readouterr().err + stream.getvalue()
