"""Whole directions of a call in virtual time: what went wrong once, by name, with the seed that showed it."""

from __future__ import annotations

import pytest

from bench.line import LINES
from bench.virtual_call import VirtualCall
from voicemeet_edge.testing.signals import speech_like
from voicemeet_edge.voice.format import MS
from voicemeet_edge.voice.ladder import SendPlan


@pytest.mark.parametrize(("line", "seed"), [("loss5", 2), ("loss5", 5), ("loss20", 3), ("wifi", 4)])
def test_chance_makes_no_packet_long_and_no_delay_stays(line: str, seed: int) -> None:
    """A look for a policer sent packets of 40 ms for a moment, and the delay stayed 20 ms up for 20 s."""
    call = VirtualCall(LINES[line], speech_like(16.0, seed=seed), seed)
    seen: set[SendPlan] = set()
    call.on_plan = seen.add
    call.run()
    assert {plan.frame_ms for plan in seen} == {20}
    assert max(plan.packet_bytes for plan in seen) == 177
    if line == "loss5":
        assert call.playout.stats.target_samples <= 21 * MS


@pytest.mark.parametrize(("line", "most_ms"), [("clean", 5), ("loss5", 25)])
def test_a_call_has_the_delay_it_keeps_within_a_second(line: str, most_ms: int) -> None:
    """The first packets had waited for the playback thread, and held the delay up for eight seconds."""
    call = VirtualCall(LINES[line], speech_like(1.0), 1)
    call.run()
    assert call.playout.stats.offset_samples <= most_ms * MS
    assert call.playout.stats.late == 0
