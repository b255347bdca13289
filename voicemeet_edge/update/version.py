"""Versions of the system, compared by their numbers; pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

_FORM = re.compile(r"(\d{1,4})\.(\d{1,4})\.(\d{1,4})")


class VersionError(ValueError):
    """Not a version; the text says what was expected."""


@dataclass(frozen=True, order=True)
class SystemVersion:
    """Three numbers, such as 0.2.0."""

    major: int
    minor: int
    patch: int

    @classmethod
    def parse(cls, text: str) -> SystemVersion:
        """Read a version.

        Raises:
            VersionError: it is none.
        """
        found = _FORM.fullmatch(text)
        if found is None or not text.isascii():
            raise VersionError("three numbers with dots, such as 0.2.0")
        return cls(*(int(number) for number in found.groups()))

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}.{self.patch}"
