"""Reads the fields of a body that somebody else sent: each of its form and within its limit, or refused."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import cast

from voicemeet_edge.errors import MessageError
from voicemeet_edge.secret import Secret

MAX_TOKEN_LENGTH = 4096  # characters; a JWT of ours has about 250, a hosted one may carry more claims
MAX_SECONDS = 86_400.0  # every time in the contract is at most a day
MAX_COUNT = 1_000_000  # of callers, desks, doors; only so that nobody shows nonsense
_TOKEN_PATTERN = re.compile(rf"[\x21-\x7e]{{1,{MAX_TOKEN_LENGTH}}}\Z")


def read_object(body: object) -> Mapping[str, object]:
    """Return the fields of a body. Raises: MessageError."""
    if not isinstance(body, dict):
        raise MessageError("must be a JSON object")
    return cast("Mapping[str, object]", body)


def read_text(fields: Mapping[str, object], name: str, limit: int) -> str:
    """Return a text of 1 to `limit` characters. Raises: MessageError."""
    value = fields.get(name)
    if not isinstance(value, str) or not 0 < len(value) <= limit:
        raise MessageError(f"{name} must be a text of 1 to {limit} characters")
    return value


def read_matching(fields: Mapping[str, object], name: str, pattern: re.Pattern[str]) -> str:
    """Return a text of this form. Raises: MessageError."""
    value = fields.get(name)
    if not isinstance(value, str) or not pattern.match(value):
        raise MessageError(f"{name} is missing or out of shape")
    return value


def read_token(fields: Mapping[str, object], name: str) -> Secret:
    """Return a token. Raises: MessageError."""
    return Secret(read_matching(fields, name, _TOKEN_PATTERN))


def read_count(fields: Mapping[str, object], name: str) -> int:
    """Return a number of things. Raises: MessageError."""
    value = fields.get(name)
    if type(value) is not int or not 0 <= value <= MAX_COUNT:  # type(): a bool is an int to isinstance
        raise MessageError(f"{name} must be a number from 0 to {MAX_COUNT}")
    return value


def read_seconds(fields: Mapping[str, object], name: str, limit: float = MAX_SECONDS) -> float:
    """Return a time in seconds, at most `limit`. Raises: MessageError."""
    value = fields.get(name)
    # bool is an int in Python and NaN compares false with everything: both must not pass.
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= limit:
        raise MessageError(f"{name} must be a number of seconds from 0 to {limit:.0f}")
    return value
