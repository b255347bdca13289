"""Who is fed, who is not, and what comes of it."""

from __future__ import annotations

import threading
import time

import pytest

from voicemeet_edge.system.life import Part, Proofs
from voicemeet_edge.system.watchdog import LIMITS_S, Watchdog, overdue


def test_everybody_has_a_limit() -> None:
    assert set(LIMITS_S) == set(Part)


@pytest.mark.parametrize("part", Part)
def test_each_part_is_overdue_after_its_limit_and_not_before(part: Part) -> None:
    proofs: dict[Part, float | None] = dict.fromkeys(Part, 100.0)
    others = {one: 1000.0 for one in Part if one is not part}
    now = 100.0 + LIMITS_S[part]
    assert overdue({**proofs, **others}, now) is None
    assert overdue({**proofs, **others}, now + 0.1) is part


def test_who_owes_nothing_is_never_overdue() -> None:
    assert overdue(dict.fromkeys(Part), 1e9) is None


def test_the_most_overdue_is_named() -> None:
    proofs: Proofs = {Part.CAPTURE: 50.0, Part.LOOP: 10.0, Part.PANEL: 90.0}
    assert overdue(proofs, 100.0) is Part.LOOP


class Dog:
    """Counts its meals."""

    def __init__(self) -> None:
        self.meals = 0
        self.fed = threading.Event()

    def alive(self) -> None:
        self.meals += 1
        if self.meals >= 3:
            self.fed.set()


class Life:
    """Proofs of a part that can stop."""

    def __init__(self) -> None:
        self.stopped_at: float | None = None

    def __call__(self) -> Proofs:
        return {Part.PANEL: self.stopped_at if self.stopped_at is not None else time.monotonic()}


def test_it_is_fed_while_all_live_and_ends_the_process_when_one_does_not(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("voicemeet_edge.system.watchdog.ORDERLY_S", 0.01)
    dog, life, killed, ended = Dog(), Life(), threading.Event(), list[Part]()

    def end(part: Part) -> bool:
        ended.append(part)
        return True

    watchdog = Watchdog(dog, life, end, kill=killed.set, look_s=0.01, limits_s={Part.PANEL: 0.1})
    watchdog.start()
    assert dog.fed.wait(20)
    assert not killed.is_set()
    life.stopped_at = time.monotonic()
    assert killed.wait(20)
    assert ended == [Part.PANEL]
    assert "panel gives no sign of life" in caplog.text
    meals = dog.meals
    for thread in threading.enumerate():
        if thread.name == "watchdog":
            thread.join(20)
    assert dog.meals == meals


def test_an_orderly_end_that_fails_does_not_save_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("voicemeet_edge.system.watchdog.ORDERLY_S", 0.01)
    life, killed = Life(), threading.Event()
    life.stopped_at = 0.0

    def end(_part: Part) -> bool:
        raise RuntimeError("Event loop is closed")

    Watchdog(Dog(), life, end, kill=killed.set, look_s=0.01).start()
    assert killed.wait(20)


def test_nobody_waits_for_an_orderly_end_that_cannot_come(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("voicemeet_edge.system.watchdog.ORDERLY_S", 1000.0)
    life, killed = Life(), threading.Event()
    life.stopped_at = 0.0
    Watchdog(Dog(), life, lambda part: False, kill=killed.set, look_s=0.01).start()
    assert killed.wait(20)


def test_once_stopped_it_looks_no_more() -> None:
    life, killed = Life(), threading.Event()
    watchdog = Watchdog(Dog(), life, lambda part: True, kill=killed.set, look_s=0.05)
    watchdog.start()
    watchdog.stop()
    life.stopped_at = 0.0
    assert not killed.wait(0.3)
