"""Who is fed, who is not, and what comes of it."""

from __future__ import annotations

import threading
import time

import pytest

from voicemeet_edge.system.life import Part, Proofs
from voicemeet_edge.system.watchdog import LIMITS_S, LOOK_S, Silence, Watchdog


def test_everybody_has_a_limit() -> None:
    assert set(LIMITS_S) == set(Part)


def looks(
    silence: Silence, proofs: Proofs, begin: float, seconds: float, waited_s: float = 0.0
) -> Part | None:
    """Look each `LOOK_S` for so long; what the last look said."""
    hung = None
    for number in range(round(seconds / LOOK_S) + 1):
        hung = silence.overdue(proofs, begin + number * LOOK_S, waited_s)
    return hung


@pytest.mark.parametrize("part", Part)
def test_each_part_is_overdue_after_its_limit_and_not_before(part: Part) -> None:
    others: Proofs = {one: 1000.0 + LIMITS_S[part] for one in Part if one is not part}
    proofs: Proofs = {**others, part: 1000.0}
    before = LIMITS_S[part] // LOOK_S * LOOK_S
    silence = Silence()
    assert looks(silence, proofs, 1000.0, before) is None
    assert silence.overdue(proofs, 1000.0 + before + LOOK_S) is part


def test_a_proof_counts_from_when_it_was_made() -> None:
    silence = Silence(look_s=2.0, limits_s={Part.LOOP: 6.0})
    silence.overdue({Part.LOOP: 98.0}, 100.0)
    assert silence.overdue({Part.LOOP: 100.1}, 102.0) is None
    assert looks(silence, {Part.LOOP: 100.1}, 104.0, 2.0) is None
    assert silence.overdue({Part.LOOP: 100.1}, 106.2) is Part.LOOP


def test_who_owes_nothing_is_never_overdue() -> None:
    silence = Silence()
    assert looks(silence, dict.fromkeys(Part), 0.0, 1e3) is None
    assert looks(silence, {Part.CAPTURE: 0.0}, 1e3, LIMITS_S[Part.CAPTURE] + LOOK_S) is Part.CAPTURE
    assert silence.overdue({Part.CAPTURE: None}, 2e3) is None


def test_the_most_overdue_is_named() -> None:
    assert Silence().overdue({Part.CAPTURE: 50.0, Part.LOOP: 10.0, Part.PANEL: 90.0}, 100.0) is Part.LOOP


@pytest.mark.parametrize("stood_s", [4.0, 1e6])
def test_a_machine_that_stands_still_again_and_again_proves_nothing(stood_s: float) -> None:
    silence, now = Silence(), 100.0
    for _ in range(100):
        proofs = dict.fromkeys(Part, now)
        assert silence.overdue(proofs, now) is None
        # The first looks afterwards come before anybody had time to prove something.
        assert silence.overdue(proofs, now + stood_s) is None
        assert silence.overdue(proofs, now + stood_s + LOOK_S) is None
        now += stood_s + 2.0 * LOOK_S


def test_who_hung_before_the_machine_stood_still_has_the_rest_of_its_time() -> None:
    silence, proofs = Silence(), {Part.PLAYBACK: 100.0}
    assert looks(silence, proofs, 100.0, 4.0) is None
    assert silence.overdue(proofs, 10_104.0) is Part.PLAYBACK


def test_who_was_ready_to_run_and_had_no_processor_is_not_hung() -> None:
    silence, proofs = Silence(), {Part.LOOP: 100.0}
    assert looks(silence, proofs, 100.0, 1000.0, waited_s=LOOK_S) is None
    assert looks(silence, proofs, 1102.0, LIMITS_S[Part.LOOP]) is Part.LOOP


def test_the_processor_is_asked_for_only_when_a_part_is_late() -> None:
    silence, proofs = Silence(), {Part.LOOP: 100.0, Part.SIGNALING: 100.0}
    assert looks(silence, proofs, 100.0, LOOK_S) is None
    assert not silence.is_suspicious
    assert looks(silence, proofs, 104.0, 0.0) is None
    assert silence.is_suspicious


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
