"""Who listens on the wire sees on no rung what is said: any sound has one size and one rhythm."""

from __future__ import annotations

import numpy as np
import pytest

from voicemeet_edge.testing.signals import speech_like
from voicemeet_edge.voice.control import SendControl
from voicemeet_edge.voice.format import FRAME_SAMPLES, Samples
from voicemeet_edge.voice.ladder import LADDER, LOSS_BYTES, SendPlan
from voicemeet_edge.voice.loss_policy import BURST_DISTANCES, HEAVY_DISTANCES
from voicemeet_edge.voice.sender import VoiceSender

OPUS_TYPE = 111
SECONDS = 2
PLANS = [
    *dict.fromkeys(plan for rung in LADDER for plan in (rung.clean, rung.lossy)),
    *(SendPlan(rung.clean.packet_bytes, 10) for rung in LADDER if rung.clean.frame_ms == 20),
    SendPlan(LOSS_BYTES, 10),
    SendPlan(LOSS_BYTES, 0, HEAVY_DISTANCES),
    SendPlan(LOSS_BYTES, 0, BURST_DISTANCES),
]


def on_the_wire(plan: SendPlan, said: Samples) -> list[tuple[int, int]]:
    """Return (frame, bytes) of each packet."""
    control = SendControl(0.0, red=True)
    control.plan = plan
    sender = VoiceSender(control, red_payload_type=OPUS_TYPE)
    seen = []
    for frame in range(len(said) // FRAME_SAMPLES):
        pcm = said[frame * FRAME_SAMPLES :][:FRAME_SAMPLES].tobytes()
        packet = sender.encode(pcm, frame * FRAME_SAMPLES)
        if packet is not None:
            seen.append((frame, len(packet[0])))
    sender.close()
    return seen


@pytest.mark.parametrize("plan", PLANS, ids=str)
def test_size_and_rhythm_are_the_rungs_and_not_the_voices(plan: SendPlan) -> None:
    count = SECONDS * 48_000
    noise = np.random.default_rng(1).normal(0, 6000, count).clip(-32768, 32767).astype(np.int16)
    said = (np.zeros(count, np.int16), noise, speech_like(float(SECONDS), seed=2))
    silence, loud, speech = (on_the_wire(plan, sound) for sound in said)
    assert silence == loud == speech
    assert {size for _, size in silence} == {plan.packet_bytes}
    assert len(silence) == SECONDS * 1000 // plan.frame_ms
