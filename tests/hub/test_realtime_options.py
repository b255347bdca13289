"""The token bucket of one socket."""

from __future__ import annotations

from voicemeet_edge.hub.limits import Rate
from voicemeet_edge.hub.realtime_options import Bucket


def test_a_burst_passes_then_the_rate() -> None:
    rate = Rate(per_s=2.0, burst=3.0)
    bucket = Bucket(rate, now=0.0)
    assert [bucket.take(rate, 0.0) for _ in range(4)] == [True, True, True, False]
    assert [bucket.take(rate, 0.5) for _ in range(2)] == [True, False]
    assert [bucket.take(rate, 100.0) for _ in range(4)] == [True, True, True, False]
