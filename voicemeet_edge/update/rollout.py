"""How many devices of a hundred may take a version, from what became of the first ones; pure.

One rule: it only ever grows by itself while hardly anything failed, and stops by itself when too much did.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from voicemeet_edge.records import dataclass

STAGES = (1, 5, 20, 50, 100)  # per cent of the devices
STAGE_S = 86_400.0  # s at least in each stage: a device asks once a day
MIN_GOOD = (
    1,
    3,
    5,
    5,
    0,
)  # devices that must have reported well before a stage ends; a building may have ten
STOP_SHARE = 0.02  # of the reports
MIN_BAD = 2  # reports; one device alone may have its own trouble


@dataclass(frozen=True)
class Rollout:
    """One version on its way out."""

    version: str
    began_at: float
    """Seconds since 1970, when the present stage began."""
    stage: int = 0
    good: int = 0
    bad: int = 0
    stopped: bool = False

    @property
    def percent(self) -> int:
        """How many of a hundred take it."""
        return 0 if self.stopped else STAGES[self.stage]

    def told(self, *, good: bool) -> Rollout:
        """Count what one device reports of it."""
        new = replace(self, good=self.good + good, bad=self.bad + (not good))
        too_many = new.bad >= MIN_BAD and new.bad >= STOP_SHARE * (new.good + new.bad)
        return replace(new, stopped=self.stopped or too_many)

    def at(self, now: float) -> Rollout:
        """Go on to the next stage when this one has lasted and enough went well."""
        if self.stopped or self.stage + 1 >= len(STAGES):
            return self
        has_lasted = now - self.began_at >= STAGE_S or now < self.began_at
        if not has_lasted or (self.good < MIN_GOOD[self.stage] and not self._nobody_asks(now)):
            return self
        return replace(self, stage=self.stage + 1, began_at=now)

    def _nobody_asks(self, now: float) -> bool:
        """Say whether a stage seems to have nobody in it: of three devices none is in the first per cent."""
        return self.good + self.bad == 0 and now - self.began_at >= 2 * STAGE_S

    def resumed(self, now: float) -> Rollout:
        """Begin again from the first stage, because a person said so."""
        return Rollout(self.version, now)

    def sentence(self) -> str:
        """Say how it stands, for the operator."""
        state = "stopped by itself" if self.stopped else f"{self.percent} % of the devices"
        return f"{self.version}: {state}; {self.good} updated, {self.bad} went back"


def next_of(rollouts: Sequence[Rollout], version: str, now: float) -> Rollout:
    """Return the roll-out of a version, a new one when it is offered for the first time."""
    return next((one for one in rollouts if one.version == version), None) or Rollout(version, now)
