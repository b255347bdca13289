"""Press, hold and bouncing contacts, told as levels over time."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from voicemeet_edge.panel.interface import ButtonEvent, PanelEvent
from voicemeet_edge.panel.press import AGAIN_S, PressRecogniser

HOLD_S = 1.0
DEBOUNCE_S = 0.02
PRESSED = ButtonEvent.CALL_PRESSED
HELD = ButtonEvent.CALL_HELD


def call_button(*, down_at_start: bool = False) -> PressRecogniser:
    return PressRecogniser(PRESSED, HELD, hold_s=HOLD_S, debounce_s=DEBOUNCE_S, down_at_start=down_at_start)


def report_button() -> PressRecogniser:
    return PressRecogniser(ButtonEvent.REPORT_PRESSED, hold_s=HOLD_S, debounce_s=DEBOUNCE_S)


def play(button: PressRecogniser, *levels: tuple[float, bool], until: float = 100.0) -> list[PanelEvent]:
    """Feed levels at their times and tick at every deadline between them."""
    events: list[PanelEvent] = []
    for at, down in [*levels, (until, None)]:
        while (deadline := button.deadline) is not None and deadline <= at:
            events += button.tick(deadline)
        if down is not None:
            events += button.level(down, at)
    return events


def test_a_press_counts_on_release() -> None:
    button = call_button()
    assert play(button, (1.0, True), until=1.5) == []
    assert play(button, (1.6, False)) == [PRESSED]


def test_a_hold_counts_once_and_its_release_not() -> None:
    button = call_button()
    assert play(button, (1.0, True), until=2.0) == [HELD]
    assert play(button, (5.0, False)) == []


def test_a_hold_is_one_even_when_the_tick_comes_too_late() -> None:
    button = call_button()
    assert button.level(True, 1.0) == []
    assert button.level(False, 2.5) == [HELD]


def test_a_press_stays_one_even_when_its_edges_come_too_late() -> None:
    button = call_button()
    assert button.level(True, 1.0) == []
    assert button.level(False, 1.4) == [PRESSED]
    assert button.tick(9.0) == []


def test_a_short_press_whose_settling_is_ticked_late_is_no_hold() -> None:
    button = call_button()
    button.level(True, 1.0)
    assert button.level(False, 1.01) == []  # within the debounce time
    assert button.tick(5.0) == [PRESSED]


def test_report_counts_at_once_and_once() -> None:
    button = report_button()
    assert button.level(True, 1.0) == [ButtonEvent.REPORT_PRESSED]
    assert play(button, (4.0, False)) == []
    assert button.level(True, 200.0) == [ButtonEvent.REPORT_PRESSED]


def test_a_bouncing_contact_is_one_press() -> None:
    levels = [(1.0 + step * 0.003, step % 2 == 0) for step in range(7)]  # ends down, 18 ms later
    levels += [(1.5 + step * 0.003, step % 2 == 1) for step in range(7)]  # ends up
    assert play(call_button(), *levels) == [PRESSED]


def test_a_bouncing_report_button_reports_once() -> None:
    levels = [(1.0 + step * 0.003, step % 2 == 0) for step in range(7)]
    assert play(report_button(), *levels) == [ButtonEvent.REPORT_PRESSED]


def test_a_button_down_at_start_gives_nothing_until_released() -> None:
    button = call_button(down_at_start=True)
    assert play(button, until=50.0) == []
    assert play(button, (51.0, False), (52.0, True), (52.2, False)) == [PRESSED]


def test_a_lost_release_is_made_good_by_reading_again() -> None:
    button = call_button()
    assert play(button, (1.0, True), (1.9, False)) == [PRESSED]
    # The release of the second press is lost; the level read at 4.0 says up.
    assert play(button, (3.5, True), (4.0, False)) == [PRESSED]


def test_a_level_that_is_known_changes_nothing() -> None:
    button = call_button()
    assert play(button, (1.0, False), (2.0, False), until=3.0) == []
    assert button.deadline is None


def test_an_edge_older_than_a_level_read_meanwhile_is_taken_as_now() -> None:
    button = call_button()
    button.level(True, 2.0)
    assert button.level(True, 1.9) == []
    assert button.level(False, 1.95) == []  # bounces, as far as can be told
    assert button.tick(2.03) == [PRESSED]


@given(st.lists(st.tuples(st.floats(0, 2), st.booleans()), max_size=30))
def test_never_more_events_than_pressings(gaps: list[tuple[float, bool]]) -> None:
    now, pressings, was_down = 0.0, 0, False
    levels: list[tuple[float, bool]] = []
    for gap, down in gaps:
        now += gap
        levels.append((now, down))
        pressings += down and not was_down
        was_down = down
    button = call_button()
    events = play(button, *levels, (now + 0.5, False), until=now + 10)
    assert len(events) <= pressings
    assert button.deadline is None
    assert not button.is_down


def test_a_button_that_is_held_on_says_so_again_and_again_until_it_is_released() -> None:
    again = ButtonEvent.CALL_HELD_ON
    button = PressRecogniser(
        ButtonEvent.CALL_PRESSED, ButtonEvent.CALL_HELD, again=again, hold_s=1.0, debounce_s=0.02
    )
    button.level(True, 0.0)
    assert button.tick(1.0) == [ButtonEvent.CALL_HELD]
    assert button.deadline == 1.0 + AGAIN_S
    assert button.tick(1.5) == []
    assert button.tick(1.8) == [again]
    assert button.tick(2.6) == [again]
    assert button.level(False, 3.0) == []
    assert button.deadline is None
    assert button.tick(9.0) == []


def test_a_button_that_takes_part_in_a_reset_says_nothing_more() -> None:
    button = PressRecogniser(
        None, ButtonEvent.CALL_HELD, again=ButtonEvent.CALL_HELD_ON, hold_s=1.0, debounce_s=0.02
    )
    button.level(True, 0.0)
    button.tick(1.0)
    button.drop()
    assert button.tick(9.0) == []
