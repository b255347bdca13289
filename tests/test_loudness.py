"""How loud it is: by choice, by night, in a call."""

from __future__ import annotations

from datetime import datetime

import pytest

from voicemeet_edge.loudness import Loudness, is_within


def test_steps_go_up_and_begin_again_at_the_softest() -> None:
    loudness = Loudness(80, 40)
    steps = []
    for _ in range(4):
        loudness.step()
        steps.append(loudness.chosen)
    assert steps == [90, 100, 20, 30]


def test_the_night_quietens_what_rings_and_no_call() -> None:
    loudness = Loudness(80, 40)
    assert loudness.now == 80
    loudness.is_night = True
    assert loudness.now == 40
    loudness.is_talking = True
    assert loudness.now == 80
    loudness.set(30, 40)
    loudness.is_talking = False
    assert loudness.now == 30  # a night is never louder than the day


@pytest.mark.parametrize(
    ("span", "time", "within"),
    [
        ("22:00-06:30", "23:00", True),
        ("22:00-06:30", "22:00", True),
        ("22:00-06:30", "06:29", True),
        ("22:00-06:30", "06:30", False),
        ("22:00-06:30", "12:00", False),
        ("13:00-15:00", "14:00", True),
        ("13:00-15:00", "15:00", False),
        ("", "03:00", False),
        ("03:00-03:00", "03:00", False),
    ],
)
def test_the_hours(span: str, time: str, within: bool) -> None:
    assert is_within(span, datetime.fromisoformat(f"2026-05-05T{time}")) is within
