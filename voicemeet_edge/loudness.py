"""How loud the device is now: what was set, what a person chose at the buttons, and the night. Pure.

One rule: the night quietens what rings, never what two people say to each other.
"""

from __future__ import annotations

from datetime import datetime

STEP = 10  # per cent
SOFTEST = 20  # per cent; a person at the buttons cannot make the box dumb


class Loudness:
    """Told what happens; `now` is what the loudspeaker plays at, in per cent."""

    def __init__(self, volume: int, night_volume: int) -> None:
        self._volume = volume
        self._night_volume = night_volume
        self.is_night = False
        self.is_talking = False

    @property
    def chosen(self) -> int:
        """What was set, by day and in calls."""
        return self._volume

    @property
    def now(self) -> int:
        """What is in force."""
        quiet = self.is_night and not self.is_talking
        return min(self._volume, self._night_volume) if quiet else self._volume

    def set(self, volume: int, night_volume: int) -> None:
        """Take new settings."""
        self._volume, self._night_volume = volume, night_volume

    def step(self) -> None:
        """One step louder; after the loudest comes the softest."""
        self._volume = self._volume + STEP if self._volume + STEP <= 100 else SOFTEST


def is_within(span: str, now: datetime) -> bool:
    """Say whether a time of day lies in a span such as "22:00-06:30"; never in an empty one."""
    begin, _, end = span.partition("-")
    time = f"{now:%H:%M}"
    if begin <= end:
        return begin <= time < end
    return time >= begin or time < end
