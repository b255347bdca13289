"""Both buttons held, told as times."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from voicemeet_edge.panel.interface import ButtonEvent
from voicemeet_edge.panel.reset import COUNT_EVERY_S, HOLD_S, TOGETHER_S, ResetHold, are_together

COUNTED, LEFT, ASKED = ButtonEvent.RESET_COUNTED, ButtonEvent.RESET_LEFT, ButtonEvent.RESET_ASKED
AT_START = float("-inf")


def wait(hold: ResetHold, until: float) -> list[ButtonEvent]:
    """Tick at every deadline up to a time."""
    events: list[ButtonEvent] = []
    while (deadline := hold.deadline) is not None and deadline <= until:
        events += hold.tick(deadline)
    return events


def test_nine_counts_and_the_request() -> None:
    hold = ResetHold()
    assert hold.buttons(1.0, None, 1.0) == []
    assert hold.deadline is None
    assert hold.buttons(1.0, 1.5, 1.5) == []
    assert wait(hold, 1.5 + HOLD_S) == [COUNTED] * 9 + [ASKED]
    assert wait(hold, 100.0) == []
    assert hold.buttons(None, 1.5, 100.0) == []
    assert hold.buttons(None, None, 101.0) == []


def test_let_go_too_soon() -> None:
    hold = ResetHold()
    hold.buttons(1.0, 1.0, 1.0)
    assert wait(hold, 4.5) == [COUNTED] * 3
    assert hold.buttons(1.0, None, 4.5) == [LEFT]
    assert hold.deadline is None
    hold.buttons(5.0, 5.0, 5.0)  # and once more from the beginning
    assert wait(hold, 14.9) == [COUNTED] * 9


def test_a_touch_of_both_says_nothing() -> None:
    hold = ResetHold()
    hold.buttons(1.0, 1.0, 1.0)
    assert hold.buttons(1.0, None, 1.5) == []


def test_a_late_tick_counts_once() -> None:
    hold = ResetHold()
    hold.buttons(1.0, 1.0, 1.0)
    assert hold.tick(5.5) == [COUNTED]
    assert hold.deadline == 6.0
    assert hold.tick(30.0) == [ASKED]


def test_a_button_that_was_down_before_is_not_pressed_together() -> None:
    assert are_together(1.0, 1.0 + TOGETHER_S)
    assert not are_together(1.0, 1.1 + TOGETHER_S)
    assert not are_together(AT_START, 1.0)
    assert not are_together(AT_START, AT_START)
    assert not are_together(None, 1.0)


@given(st.lists(st.tuples(st.floats(0, 5), st.booleans()), max_size=40))
def test_whatever_happens_it_is_asked_only_after_ten_seconds(steps: list[tuple[float, bool]]) -> None:
    hold, now = ResetHold(), 0.0
    since: float | None = None
    for seconds, both in steps:
        now += seconds
        at = since if both and since is not None else (now if both else None)
        events = hold.buttons(at, at, now)
        if ASKED in events:
            assert since is not None
            assert now - since >= HOLD_S
        assert hold.deadline is None or hold.deadline <= now + COUNT_EVERY_S
        since = at
