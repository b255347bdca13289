"""The doctor's table."""

from __future__ import annotations

from voicemeet_edge.system.findings import Finding, Outcome, as_json, row, summary, worst

WELL = Finding("name", Outcome.WELL, "has an address")
DOUBT = Finding("machine", Outcome.DOUBT, "it is too hot", "give it air")
FAULT = Finding("sound", Outcome.FAULT, "no microphone", "plug one in")
SKIPPED = Finding("relay", Outcome.SKIPPED, "no call")


def test_the_worst_counts() -> None:
    assert worst([WELL, SKIPPED]) is Outcome.WELL
    assert worst([WELL, DOUBT]) is Outcome.DOUBT
    assert worst([DOUBT, FAULT, WELL]) is Outcome.FAULT


def test_rows_say_what_to_do() -> None:
    assert row(WELL, 9) == "✓ name       has an address"
    assert row(FAULT, 9).splitlines()[1].strip() == "→ plug one in"


def test_the_summary() -> None:
    assert summary([WELL, SKIPPED]) == "All is well."
    assert summary([WELL, DOUBT]) == "It works; 1 to look at."
    assert summary([FAULT, DOUBT]).startswith("1 fault:")


def test_for_programs() -> None:
    assert as_json([FAULT])["outcome"] == "fault"
