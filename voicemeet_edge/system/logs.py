"""Where log lines go, and a last look at each of them.

One rule: at INFO and above nothing that looks like an address, token, key, id or SDP leaves this
process. The first line of defence is not to log such things; this is the second, and it may redact
too much.
"""

from __future__ import annotations

import ipaddress
import logging
import re
import sys
from typing import TextIO

from typing_extensions import override

from voicemeet_edge.system.journal import JournalHandler, fields_of, is_journal

GONE = "[…]"
MIN_TOKEN = 20  # characters; 128 bits take 22 in base64url, and words are rarely that long

# Libraries whose INFO lines are addresses and candidates by design.
TALKATIVE = ("aioice", "aiortc", "aiohttp", "asyncio", "websockets", "pyee")

_SDP = re.compile(r"\bv=0(?:\\r|\\n|\r|\n).*", re.DOTALL)
_SDP_ATTRIBUTE = re.compile(r"\b(?:a=|o=|c=IN |candidate:|ice-ufrag:|ice-pwd:|fingerprint:)[^\r\n]*")
_FINGERPRINT = re.compile(r"\b(?:[0-9A-Fa-f]{2}:){7,}[0-9A-Fa-f]{2}\b")
_JWT = re.compile(r"\beyJ[\w-]+(?:\.[\w-]*){1,2}")
_UUID = re.compile(r"\b[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}\b(?:\.local)?")
_IPV4 = re.compile(r"(?<![\w.])\d{1,3}(?:\.\d{1,3}){3}(?![\w.]*\w)(?::\d{1,5})?")
_IPV6 = re.compile(r"(?<![\w:.])[0-9A-Fa-f:]*:[0-9A-Fa-f:]*:[0-9A-Fa-f:.]*")
_HEX = re.compile(r"(?<!\w)(?:0x)?[0-9A-Fa-f]{16,}(?!\w)")
_TOKEN = re.compile(r"[A-Za-z0-9_+/-]{%d,}={0,2}" % MIN_TOKEN)  # noqa: UP031 - braces are the regex's
# Words as code and paths have them: all small, Capital, CamelCase, CAPITALS, maybe a short number behind.
_WORDS = re.compile(r"(?:(?:[A-Z]?[a-z]{2,}){1,6}|[A-Z]{0,12}|[a-z])\d{0,4}")


def redact(text: str) -> str:
    """Replace whatever looks as if it could identify somebody or open something."""
    for pattern in (_SDP, _SDP_ATTRIBUTE, _FINGERPRINT, _JWT, _UUID, _IPV4):
        text = pattern.sub(GONE, text)
    text = _IPV6.sub(_redact_ipv6, text)
    text = _HEX.sub(GONE, text)
    return _TOKEN.sub(_redact_token, text)


def _redact_ipv6(match: re.Match[str]) -> str:
    found = match.group()
    candidate = found.rstrip(":.") + ("::" if found.endswith("::") else "")
    try:
        ipaddress.IPv6Address(candidate)
    except ValueError:  # a time of day, most likely
        return found
    return GONE + found[len(candidate) :]


def _redact_token(match: re.Match[str]) -> str:
    parts = re.split(r"[_+/=-]", match.group())
    return match.group() if all(_WORDS.fullmatch(part) for part in parts) else GONE


class RedactingHandler(logging.Handler):
    """Pass records on to another handler, redacted from INFO upwards.

    The record that goes on is a new one with text only: its arguments, its exception object and
    whatever else hung on it stay behind, since handlers and formatters print those too.
    """

    def __init__(self, target: logging.Handler) -> None:
        super().__init__()
        self._target = target
        self._formatter = logging.Formatter()

    @override
    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._target.handle(record if record.levelno < logging.INFO else self._clean(record))
        except Exception:
            self.handleError(record)

    @override
    def handleError(self, record: logging.LogRecord) -> None:
        # The standard one prints message and arguments to stderr.
        print(f"A log line of {record.name} was lost", file=sys.stderr)  # noqa: T201

    @override
    def close(self) -> None:
        self._target.close()
        super().close()

    def _clean(self, record: logging.LogRecord) -> logging.LogRecord:
        text = record.getMessage()
        if record.exc_info:
            text += "\n" + self._formatter.formatException(record.exc_info)
        if record.stack_info:
            text += "\n" + record.stack_info
        clean = logging.LogRecord(record.name, record.levelno, "", 0, redact(text), None, None)
        clean.created, clean.msecs = record.created, record.msecs
        clean.fields = {name: redact(value) for name, value in fields_of(record).items()}
        return clean


def set_up_logging(level: str = "info", *, stream: TextIO | None = None) -> None:
    """Send all logging to stderr, in the journal's way where that is the journal, and nowhere else."""
    stream = stream or sys.stderr
    target: logging.Handler
    if is_journal(stream):
        target = JournalHandler(stream)
    else:
        target = logging.StreamHandler(stream)
        target.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    root = logging.getLogger()
    for handler in list(root.handlers):
        root.removeHandler(handler)
        handler.close()
    root.addHandler(RedactingHandler(target))
    number = getattr(logging, level.upper())
    root.setLevel(number)
    for name in TALKATIVE:
        logging.getLogger(name).setLevel(number if number <= logging.DEBUG else logging.WARNING)
    logging.captureWarnings(True)
    logging.raiseExceptions = False  # a failing handler is not reported with the record it failed on
