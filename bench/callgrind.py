"""Read what valgrind's callgrind writes: how many instructions each library took between two marks.

One rule: pure, files come as lines. The format is callgrind's own (valgrind's manual, "Callgrind Format
Specification"): names are given once and are numbers from then on, also from one part of a run to the next.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable

_NAME = re.compile(r"\((\d+)\)(?: (.*))?")
_COST = re.compile(r"[+\-*\d]\S* (\d+)")


class CallgrindParts:
    """The parts of one run, given in their order."""

    def __init__(self) -> None:
        self._objects: dict[str, str] = {}

    def read(self, lines: Iterable[str]) -> Counter[str]:
        """Return the instructions each object file took itself in this part.

        Raises:
            ValueError: it is no such file, or what was added up is not the sum it names.
        """
        took: Counter[str] = Counter()
        current, summary, of_a_call = "", None, False
        for line in lines:
            word, _, rest = line.rstrip("\n").partition("=")
            if word == "ob":
                current = self._name(rest)
            elif word == "cob":
                self._name(rest)  # it may be named here for the first time
            elif word == "calls":
                of_a_call = True  # the next line is what was spent in there
            elif line.startswith("summary:"):
                summary = int(line.split()[1])
            elif cost := _COST.match(line):
                if not of_a_call:
                    took[current] += int(cost[1])
                of_a_call = False
        if summary is None or summary != took.total():
            raise ValueError(f"no whole part of callgrind: {took.total()} instructions of {summary}")
        return took

    def _name(self, text: str) -> str:
        found = _NAME.fullmatch(text)
        if found is None:
            return text
        number, name = found.groups()
        if name is not None:
            self._objects[number] = name
        return self._objects.get(number, "")
