"""How risky a party is; the one rule: a score is raised by reports and halves with time, nothing else.

Pure. Keyed by the hash of a short-lived device token; a rotated token inherits the score. Times are
unix seconds, because scores outlive the process.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Iterable
from enum import Enum, auto

from voicemeet_edge.records import dataclass

MAX_SCORES = 100_000  # scores in RAM, about 20 MB; the least recently raised go first
MAX_SUCCESSORS = 50_000  # rotations remembered, so that a report about an old token finds its new one
MAX_CHAIN = 4  # rotations followed; within one token life nobody honest rotates more often
NEGLIGIBLE = 0.02  # a score below this is forgotten: one report after six half-lives


@dataclass(frozen=True, slots=True)
class RiskOptions:
    """How fast scores rise and fall and what they mean."""

    report_weight: float = 1.0
    half_life_s: float = 3 * 86_400.0
    separate_at: float = 1.8
    refuse_at: float = 4.5


class Standing(Enum):
    """What a score means for matching."""

    CLEAN = auto()
    FLAGGED = auto()  # meets only other flagged parties
    REFUSED = auto()


@dataclass(frozen=True, slots=True)
class Score:
    """A value at a time (unix seconds)."""

    value: float
    at: float

    def decayed(self, now: float, half_life_s: float) -> float:
        """Return what is left of it now; a clock that went backwards changes nothing."""
        return self.value * math.pow(0.5, max(0.0, now - self.at) / half_life_s)


class RiskBook:
    """All scores known to this hub."""

    def __init__(self, options: RiskOptions, scores: Iterable[tuple[str, Score]] = ()) -> None:
        self._options = options
        self._scores: OrderedDict[str, Score] = OrderedDict(scores)
        self._successors: OrderedDict[str, str] = OrderedDict()
        self._trim()

    def standing(self, device: str, now: float) -> Standing:
        """Say how this party may be matched."""
        value = self.value(device, now)
        if value >= self._options.refuse_at:
            return Standing.REFUSED
        return Standing.FLAGGED if value >= self._options.separate_at else Standing.CLEAN

    def value(self, device: str, now: float) -> float:
        """Return the decayed score."""
        score = self._scores.get(device)
        return 0.0 if score is None else score.decayed(now, self._options.half_life_s)

    def report(self, device: str, now: float) -> list[tuple[str, Score]]:
        """Raise the score of a party and of the tokens it rotated to; return what changed."""
        changed: list[tuple[str, Score]] = []
        current: str | None = device
        for _ in range(MAX_CHAIN):
            if current is None:
                break
            score = Score(self.value(current, now) + self._options.report_weight, now)
            self._scores[current] = score
            self._scores.move_to_end(current)
            changed.append((current, score))
            current = self._successors.get(current)
        self._trim()
        return changed

    def rotate(self, old: str, new: str, now: float) -> list[tuple[str, Score]]:
        """Let the new token inherit what is left of the old one's score; return what changed."""
        self._successors[old] = new
        self._successors.move_to_end(old)
        while len(self._successors) > MAX_SUCCESSORS:
            self._successors.popitem(last=False)
        value = self.value(old, now)
        if value < NEGLIGIBLE:
            return []
        score = Score(value, now)
        self._scores[new] = score
        self._trim()
        return [(new, score)]

    def forget_negligible(self, now: float) -> list[str]:
        """Drop scores that time has made meaningless; return whose."""
        gone = [device for device in self._scores if self.value(device, now) < NEGLIGIBLE]
        for device in gone:
            del self._scores[device]
        return gone

    def _trim(self) -> None:
        while len(self._scores) > MAX_SCORES:
            self._scores.popitem(last=False)
