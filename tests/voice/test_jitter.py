"""What is learnt of the network: bounded, quick to rise, sure to forget, and it weighs delay fairly."""

from __future__ import annotations

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st

from voicemeet_edge.voice import jitter
from voicemeet_edge.voice.jitter import FRAME, MS, DelayEstimator, Frame, FrameStore


def feed(estimator: DelayEstimator, lateness_ms: list[float], start: int = 0) -> int:
    """Measure one frame for each lateness; returns the timestamp after the last."""
    for index, late in enumerate(lateness_ms):
        estimator.measure(start + index * FRAME, int(late * MS))
    return start + len(lateness_ms) * FRAME


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
    changes, before, at = 0, estimator.target, 1000 * FRAME
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
def test_any_lateness_gives_a_bounded_target(lateness: list[int]) -> None:
    estimator = DelayEstimator()
    for index, late in enumerate(lateness):
        estimator.measure(index * FRAME, late)
        assert estimator.target is not None
        assert estimator.base is not None
        assert estimator.target - estimator.base <= jitter.LATEST
        assert len(estimator._seen) <= jitter.MAX_SEEN


def frame(timestamp: int, samples: int = FRAME) -> Frame:
    return Frame(timestamp, samples, b"x", has_fec=False, copy=False)


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
@example(list(range(0, 300 * FRAME, FRAME)))
def test_store_is_bounded_and_keeps_the_newest(timestamps: list[int]) -> None:
    store = FrameStore()
    for timestamp in timestamps:
        store.put(frame(timestamp))
    assert len(store) <= jitter.MAX_FRAMES
    if timestamps:
        assert store.covering(max(timestamps)) is not None
