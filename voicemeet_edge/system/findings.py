"""What a check found, and the table a person reads; pure.

One rule: whatever is not well comes with what to do about it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from enum import StrEnum

from voicemeet_edge.records import dataclass


class Outcome(StrEnum):
    """How a check ended."""

    WELL = "well"
    DOUBT = "doubt"  # works, and something should be looked at
    FAULT = "fault"
    SKIPPED = "skipped"  # could not be tried here; says why


MARKS = {Outcome.WELL: "✓", Outcome.DOUBT: "!", Outcome.FAULT: "✗", Outcome.SKIPPED: "–"}


@dataclass(frozen=True, slots=True)
class Finding:
    """One row."""

    check: str
    outcome: Outcome
    found: str
    advice: str = ""


def worst(findings: Sequence[Finding]) -> Outcome:
    """Return how the whole ended: a fault, a doubt, or well."""
    for outcome in (Outcome.FAULT, Outcome.DOUBT):
        if any(finding.outcome is outcome for finding in findings):
            return outcome
    return Outcome.WELL


def row(finding: Finding, width: int) -> str:
    """Write one row, advice on a line of its own."""
    text = f"{MARKS[finding.outcome]} {finding.check:<{width}}  {finding.found}"
    return text + (f"\n  {'':<{width}}  → {finding.advice}" if finding.advice else "")


def summary(findings: Sequence[Finding]) -> str:
    """Say how it ended, for a person on a ladder."""
    faults = sum(finding.outcome is Outcome.FAULT for finding in findings)
    doubts = sum(finding.outcome is Outcome.DOUBT for finding in findings)
    if faults:
        return f"{faults} {'fault' if faults == 1 else 'faults'}: the device cannot work like this."
    return "All is well." if not doubts else f"It works; {doubts} to look at."


def as_json(findings: Sequence[Finding]) -> dict[str, object]:
    """Return the same for programs."""
    return {"outcome": worst(findings).value, "findings": [asdict(finding) for finding in findings]}
