from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from voicemeet_edge.audio.echo_reference import CALM, KEEP, LIMIT, MOST_KEEP, WINDOW, EchoReference


def frame(number: int) -> bytes:
    return np.full(480, number, np.int16).tobytes()


def number_of(pcm: bytes) -> int:
    return int(np.frombuffer(pcm, np.int16)[0])


def test_frames_come_in_order() -> None:
    reference = EchoReference()
    reference.put(frame(1))
    reference.put(frame(2))
    assert [number_of(reference.take()) for _ in range(2)] == [1, 2]


def test_silence_stands_in_for_what_is_not_there() -> None:
    reference = EchoReference()
    assert not any(reference.take())
    assert reference.gaps == 1


def test_a_playback_clock_that_runs_ahead_never_makes_the_reference_late() -> None:
    """Late is fatal: two percent too many far frames, and the queue stays as short as ever."""
    reference = EchoReference()
    late = []
    for number in range(5000):
        reference.put(frame(number % 30_000))
        if number % 50 == 0:
            reference.put(frame(number % 30_000))
        late.append(number - number_of(reference.take()))
    assert max(late[WINDOW * 2 :]) <= 4
    assert reference.slips > 50


def test_jitter_of_the_two_threads_costs_nothing() -> None:
    reference = EchoReference()
    reference.put(frame(0))
    for _ in range(500):
        for _ in range(2):
            reference.put(frame(1))
        for _ in range(2):
            reference.take()
    assert reference.gaps == 0
    assert reference.slips == 0


def test_start_of_playback_in_a_burst_is_forgotten_within_a_second() -> None:
    reference = EchoReference()
    for number in range(5):
        reference.put(frame(number))
    for number in range(5, 5 + WINDOW + 2):
        reference.put(frame(number))
        last = number_of(reference.take())
    assert number - last <= KEEP + 1


def test_resync_drops_what_piled_up_while_the_microphone_was_not_read() -> None:
    reference = EchoReference()
    for number in range(10):
        reference.put(frame(number))
    reference.resync()
    assert number_of(reference.take()) == 9
    assert reference.slips == 9


@given(st.lists(st.booleans(), max_size=300))
def test_queue_is_bounded_and_order_is_kept(puts: list[bool]) -> None:
    reference = EchoReference()
    number, seen = 0, 0
    for put in puts:
        if put:
            number += 1
            reference.put(frame(number))
        elif (taken := number_of(reference.take())) != 0:
            assert seen < taken <= number
            assert number - taken < LIMIT
            seen = taken


def test_threads_that_jitter_more_get_more_slack_instead_of_shift_after_shift() -> None:
    """A card that delivers 30 ms at a time: a few gaps at first, then none."""
    reference = EchoReference()
    for turn in range(2000):
        for _ in range(3):
            reference.put(frame(1))
        for _ in range(3 if turn else 6):
            reference.take()
        if turn == 200:
            gaps, slips = reference.gaps, reference.slips
    assert gaps <= 6
    assert reference.gaps == gaps
    assert reference.slips <= slips + 4


def test_slack_is_bounded_and_given_back() -> None:
    reference = EchoReference()
    for _ in range(20):
        reference.take()
    assert reference._keep == MOST_KEEP
    for _ in range(CALM * WINDOW * 5):
        reference.put(frame(1))
        reference.take()
    assert reference._keep == KEEP
