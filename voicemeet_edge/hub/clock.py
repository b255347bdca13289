"""The hub's own time: unix seconds that never step; the one rule: only age counts, not what a clock says.

A machine without a clock chip starts with a wrong time and is set right later, forward or back by days.
Tokens and calls must not die or come to life by that, so they are dated by a clock that begins where the
wall clock stood at the start and then goes with the monotonic one.
"""

from __future__ import annotations

import time
from collections.abc import Callable


class SteadyClock:
    """Unix seconds since the start; call it for the time."""

    def __init__(
        self,
        not_before: float = 0.0,
        *,
        wall: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """`not_before` is the latest time an earlier run wrote down: nothing older comes to life again."""
        self._monotonic = monotonic
        self._offset = max(wall(), not_before) - monotonic()

    def __call__(self) -> float:
        """Return the time."""
        return self._monotonic() + self._offset
