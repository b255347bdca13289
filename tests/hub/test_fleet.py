"""What devices say of themselves is bounded, checked, and forgotten when they are silent."""

from __future__ import annotations

import pytest

from voicemeet_edge.errors import MessageError
from voicemeet_edge.fleet_seal import SEALED_CHARS
from voicemeet_edge.hub import fleet as fleet_module
from voicemeet_edge.hub.fleet import FORGET_AFTER_S, Fleet, Health

BODY = {"device": "0123456789abcdef", "name": "Gate 3", "version": "1.2", "up_s": 5, "faults": ["microphone"]}


def test_what_is_told_is_listed_by_name_with_its_age() -> None:
    fleet = Fleet()
    fleet.tell(Health.parse(BODY), 100.0)
    fleet.tell(Health.parse({**BODY, "device": "f" * 16, "name": "Attic", "faults": []}), 150.0)
    rows = fleet.list(160.0)
    assert [(row["name"], row["seen_s"]) for row in rows] == [("Attic", 10), ("Gate 3", 60)]
    assert rows[1]["faults"] == ["microphone"]
    assert "device" not in rows[0]  # nobody needs it
    fleet.tell(Health.parse({**BODY, "faults": []}), 200.0)
    assert [row["faults"] for row in fleet.list(200.0)] == [[], []]


def test_the_silent_go_and_so_does_the_longest_silent_of_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fleet_module, "MAX_DEVICES", 2)
    fleet = Fleet()
    for number in range(3):
        fleet.tell(Health.parse({**BODY, "device": f"{number:016x}", "name": f"box {number}"}), number)
    assert [row["name"] for row in fleet.list(3.0)] == ["box 1", "box 2"]
    assert fleet.list(3.0 + FORGET_AFTER_S) == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"device": "gate"},
        {"device": 5},
        {"name": "x" * 81},
        {"name": "two\nlines"},
        {"name": 5},
        {"up_s": "long"},
        {"up_s": float("nan")},
        {"up_s": True},
        {"up_s": 10**400},
        {"faults": "microphone"},
        {"faults": ["x"] * 9},
        {"faults": [5]},
    ],
)
def test_what_is_out_of_shape_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(MessageError):
        Health.parse({**BODY, **wrong})
    with pytest.raises(MessageError):
        Health.parse([wrong])


SEALED = {"device": "0123456789abcdef", "sealed": "A" * SEALED_CHARS}


def test_what_is_sealed_is_passed_on_closed_and_nothing_beside_it() -> None:
    fleet = Fleet()
    fleet.tell(Health.parse({**SEALED, "name": "Gate 3", "faults": ["microphone"]}), 100.0)
    assert fleet.list(110.0) == [{**SEALED, "seen_s": 10}]


@pytest.mark.parametrize("sealed", ["", "A" * (SEALED_CHARS - 1), "A" * (SEALED_CHARS + 1), 5, None, ["A"]])
def test_a_seal_has_one_length(sealed: object) -> None:
    for wrong in (sealed, "ü" * SEALED_CHARS, "A" * (SEALED_CHARS - 1) + "\n"):
        with pytest.raises(MessageError):
            Health.parse({**SEALED, "sealed": wrong})


def test_what_nobody_asked_for_is_not_kept() -> None:
    health = Health.parse({**BODY, "calls": 7, "state": "talking"})
    assert not {"calls", "state"} & set(health.facts)
