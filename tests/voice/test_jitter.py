"""What is learnt of the network: bounded, quick to rise, sure to forget, and it weighs delay fairly."""

from __future__ import annotations

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st

from voicemeet_edge.voice import jitter
from voicemeet_edge.voice.format import FRAME_SAMPLES, MS
from voicemeet_edge.voice.jitter import DelayEstimator, FrameStore, OpusFrame


def feed(estimator: DelayEstimator, relative_delay_ms: list[float], start: int = 0) -> int:
    """Measure one frame for each relative delay; returns the timestamp after the last."""
    for index, late in enumerate(relative_delay_ms):
        estimator.measure(start + index * FRAME_SAMPLES, int(late * MS))
    return start + len(relative_delay_ms) * FRAME_SAMPLES


def target_ms(estimator: DelayEstimator) -> float:
    assert estimator.target is not None
    return estimator.target / MS


def test_knows_nothing_before_the_first_frame() -> None:
    assert DelayEstimator().target is None
    assert DelayEstimator().base is None


def test_a_steady_path_needs_no_margin() -> None:
    estimator = DelayEstimator()
    feed(estimator, [40.0] * 100)
    assert target_ms(estimator) == 40


def test_waits_for_redundancy_when_it_pays_and_not_when_it_does_not() -> None:
    often, rarely = DelayEstimator(), DelayEstimator()
    feed(often, [20.0 if n % 50 == 0 else 0.0 for n in range(1000)])  # 2 % come 20 ms later
    feed(rarely, [20.0 if n % 500 == 7 else 0.0 for n in range(1000)])  # 0.2 % do
    assert target_ms(often) == 20
    assert target_ms(rarely) == 0


def test_a_single_spike_does_not_move_it() -> None:
    estimator = DelayEstimator()
    feed(estimator, [0.0] * 500 + [150.0] + [0.0] * 20)
    assert target_ms(estimator) == 0


def test_the_first_frames_late_hold_it_up_for_half_a_second_only() -> None:
    estimator = DelayEstimator()
    late = [30.0, 10.0, *[0.0] * (jitter.FIRST_FRAMES - 3), 10.0]
    after = feed(estimator, [*late, *[0.0] * (jitter.FIRST_SEEN - len(late) - 1)])
    assert target_ms(estimator) == 30
    after = feed(estimator, [0.0], after)
    assert target_ms(estimator) == 0
    estimator.reset()  # another sender, which has first frames of its own
    feed(estimator, [*late, *[0.0] * (jitter.FIRST_SEEN - len(late))])
    assert target_ms(estimator) == 0


def test_the_first_frames_of_a_path_with_jitter_are_kept() -> None:
    estimator = DelayEstimator()
    feed(estimator, [30.0, *[0.0] * 20, 15.0, *[0.0] * 10])
    assert target_ms(estimator) == 30


def test_after_a_stall_no_first_frames_are_forgotten() -> None:
    estimator = DelayEstimator()
    after = feed(estimator, [0.0] * 100)
    estimator.rebase()
    feed(estimator, [20.0, *[0.0] * (jitter.FIRST_SEEN + 5)], after)
    assert target_ms(estimator) == 20


def test_follows_jitter_up_at_once_and_down_when_forgotten() -> None:
    estimator = DelayEstimator()
    chance = np.random.default_rng(1)
    after = feed(estimator, list(chance.normal(0, 1, 300)))
    calm = target_ms(estimator)
    after = feed(estimator, list(chance.normal(0, 20, 100)), after)
    assert target_ms(estimator) > calm + 25
    feed(estimator, list(chance.normal(0, 1, jitter.WINDOW_FRAMES + 2 * jitter.UPDATE_FRAMES)), after)
    assert target_ms(estimator) < calm + 10


def test_forgets_a_longer_path_in_two_seconds() -> None:
    estimator = DelayEstimator()
    chance = np.random.default_rng(1)
    after = feed(estimator, list(chance.normal(200, 10, 600)))
    feed(estimator, list(chance.normal(50, 10, jitter.SHIFT_FRAMES + jitter.UPDATE_FRAMES)), after)
    assert target_ms(estimator) < 100


def test_chance_does_not_move_it_to_and_fro() -> None:
    estimator = DelayEstimator()
    chance = np.random.default_rng(5)
    feed(estimator, [20.0 if lost else 0.0 for lost in chance.random(1000) < 0.01])
    changes, before, at = 0, estimator.target, 1000 * FRAME_SAMPLES
    for lost in chance.random(4000) < 0.01:
        at = feed(estimator, [20.0 if lost else 0.0], at)
        changes += estimator.target != before
        before = estimator.target
    assert changes <= 2


def test_only_the_first_time_a_frame_could_be_played_counts() -> None:
    estimator = DelayEstimator()
    assert estimator.measure(960, 0)
    assert not estimator.measure(960, 5000)
    assert estimator.target == 0


def test_rebase_keeps_the_spread() -> None:
    estimator = DelayEstimator()
    chance = np.random.default_rng(2)
    after = feed(estimator, list(chance.normal(0, 15, 400)))
    assert estimator.target is not None
    assert estimator.base is not None
    spread = estimator.target - estimator.base
    estimator.rebase()
    feed(estimator, [500.0], after)
    assert estimator.target - 500 * MS == spread


def test_reset_forgets_all() -> None:
    estimator = DelayEstimator()
    feed(estimator, [float(n % 60) for n in range(100)])
    estimator.reset()
    feed(estimator, [7.0])
    assert target_ms(estimator) == 7


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(-(10**9), 10**9), min_size=1, max_size=400))
def test_any_relative_delay_gives_a_bounded_target(relative_delay: list[int]) -> None:
    estimator = DelayEstimator()
    for index, late in enumerate(relative_delay):
        estimator.measure(index * FRAME_SAMPLES, late)
        assert estimator.target is not None
        assert estimator.base is not None
        assert estimator.target - estimator.base <= jitter.LATEST
        assert len(estimator._seen) <= jitter.MAX_SEEN


def frame(timestamp: int, samples: int = FRAME_SAMPLES) -> OpusFrame:
    return OpusFrame(timestamp, samples, b"x", has_fec=False, copy=False)


def test_store_gives_a_frame_away_once() -> None:
    store = FrameStore()
    store.put(frame(960))
    assert store.take(961) is None
    assert store.take(960) == frame(960)
    assert store.take(960) is None


def test_store_finds_by_time() -> None:
    store = FrameStore()
    assert store.put(frame(960))
    assert store.put(frame(2880, 2880))
    assert not store.put(frame(960))
    assert store.covering(960) == frame(960)
    assert store.covering(1919) == frame(960)
    assert store.covering(1920) is None
    assert store.after(960) == frame(2880, 2880)
    assert store.after(2880) is None
    assert store.forget_before(1920) == 1
    assert len(store) == 1
    store.clear()
    assert len(store) == 0


@given(st.lists(st.integers(0, 10**9), max_size=300))
@example(list(range(0, 300 * FRAME_SAMPLES, FRAME_SAMPLES)))
def test_store_is_bounded_and_keeps_the_newest(timestamps: list[int]) -> None:
    store = FrameStore()
    for timestamp in timestamps:
        store.put(frame(timestamp))
    assert len(store) <= jitter.MAX_FRAMES
    if timestamps:
        assert store.covering(max(timestamps)) is not None


def test_a_queue_that_was_drained_is_forgotten_and_one_that_comes_again_is_believed() -> None:
    estimator = DelayEstimator()
    at = feed(estimator, [0.0] * 400)
    queue = [*np.linspace(0, 200, 10), *[200.0] * 60, *np.linspace(200, 0, 10)]
    at = feed(estimator, queue, at)
    assert estimator.target is not None
    assert estimator.target > 100 * MS
    at = feed(estimator, [0.0] * 80, at)
    assert estimator.target < 20 * MS
    # Ten seconds later again, and again: now it is the line's nature.
    at = feed(estimator, [*[0.0] * 300, *queue, *[0.0] * 100], at)
    assert estimator.target > 100 * MS


def test_while_the_sender_looks_for_the_rate_no_queue_is_the_lines_nature() -> None:
    estimator = DelayEstimator()
    at = feed(estimator, [0.0] * 20)
    for _ in range(2):
        at = feed(estimator, [*np.linspace(0, 150, 10), *[150.0] * 30, *np.linspace(150, 0, 10)], at)
        at = feed(estimator, [0.0] * 80, at)
        assert estimator.target is not None
        assert estimator.target < 20 * MS


def test_a_long_frame_counts_for_as_many_as_it_is_as_long_as() -> None:
    short, long = DelayEstimator(), DelayEstimator()
    for index in range(300):
        late = 60 * MS if index % 30 == 0 else 0
        # A packet of 60 ms waits 40 ms longer for its own sound, which is no jitter.
        long.measure(index * 3 * FRAME_SAMPLES, late + 40 * MS, 3 * FRAME_SAMPLES)
        for part in range(3):
            short.measure((index * 3 + part) * FRAME_SAMPLES, late)
    assert short.target is not None
    assert long.target == short.target + 40 * MS
    assert long._often == short._often


def test_copies_from_further_back_are_waited_for_at_the_first_burst() -> None:
    """Of a full window three frames are nothing: what was learnt without such copies goes."""
    targets = []
    for knows in (True, False):
        estimator = DelayEstimator()
        at = feed(estimator, [0.0] * 1000)
        if knows:
            estimator.expect_copies()
        feed(estimator, [60.0] * 3 + [0.0] * 5, at)
        targets.append(estimator.target or 0)
    assert targets[0] == targets[1] + 60 * MS
