"""Health before trust: what a new system must show, and by when, before its slot is confirmed; pure.

One rule: only what was seen counts. Nothing seen in time is a failure, and the sentence says of what.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from voicemeet_edge.records import dataclass


class Proof(StrEnum):
    """What has to be seen, in this order."""

    SIGNALING = "signaling"
    SOUND = "sound"
    CALL = "call"


LIMITS_S: Mapping[Proof, float] = {
    # From the start of the check. A router after a power cut, and a hub that is updated too, take minutes.
    Proof.SIGNALING: 600.0,
    Proof.SOUND: 660.0,
    Proof.CALL: 900.0,
}
_MISSING: Mapping[Proof, str] = {
    Proof.SIGNALING: "the hub was not reached",
    Proof.SOUND: "microphone and loudspeaker did not open",
    Proof.CALL: "the self-test call did not pass",
}


@dataclass(frozen=True)
class Trust:
    """Everything was seen: confirm the slot."""


@dataclass(frozen=True)
class FallBack:
    """Something was not: go back to the other slot."""

    why: str


class Trial:
    """Collect proofs until all are there or the time of one is over."""

    def __init__(self, began_at: float, limits_s: Mapping[Proof, float] = LIMITS_S) -> None:
        self._began_at = began_at
        self._limits_s = limits_s
        self._seen: set[Proof] = set()
        self._doubts: dict[Proof, str] = {}

    @property
    def missing(self) -> Proof | None:
        """The next proof to look for; None when all were seen."""
        return next((proof for proof in Proof if proof not in self._seen), None)

    @property
    def deadline(self) -> float:
        """When `verdict` decides at the latest."""
        missing = self.missing
        return self._began_at + (self._limits_s[missing] if missing is not None else 0.0)

    def saw(self, proof: Proof) -> None:
        """Take a proof. One that was there and went away again stays seen: a call proves what follows."""
        self._seen.add(proof)

    def doubted(self, proof: Proof, why: str) -> None:
        """Remember what was found instead of a proof, for the sentence at the end."""
        self._doubts[proof] = why

    def verdict(self, now: float) -> Trust | FallBack | None:
        """Decide, or None while there is time left."""
        missing = self.missing
        if missing is None:
            return Trust()
        if now < self.deadline:
            return None
        doubt = self._doubts.get(missing)
        return FallBack(f"{_MISSING[missing]}{f' ({doubt})' if doubt else ''}")
