"""The clock and the sleep that a module under test is given."""

from __future__ import annotations


class ToldTime:
    """The clock and the sleep of a module, as a test tells them."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
