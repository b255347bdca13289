"""The sender's plans: two sizes, quick to protect, slow to stop, bursts told from single losses."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.voice.speech import frames, voiced
from voicemeet_edge.voice import loss_policy as sender
from voicemeet_edge.voice.control import SendControl
from voicemeet_edge.voice.ladder import CLEAN_BYTES, LADDER, LOSS_BYTES, SendPlan
from voicemeet_edge.voice.loss_policy import CLEAN, LossPolicy
from voicemeet_edge.voice.opus import parse_packet
from voicemeet_edge.voice.red import unpack
from voicemeet_edge.voice.sender import VoiceSender

OVERHEAD_BYTES = 20 + 8 + 12 + 8 + 16  # IPv4, UDP, RTP, one header extension, AES-GCM tag


def kilobits(payload_bytes: int) -> float:
    return (payload_bytes + OVERHEAD_BYTES) * 8 * 50 / 1000


def random_reports(loss: float, burst: int, count: int, seed: int) -> list[float]:
    """Return the loss of each 50 packets when `burst` packets are lost at a time."""
    chance = np.random.default_rng(seed)
    lost = np.zeros(count * 50 + burst, dtype=bool)
    for start in np.flatnonzero(chance.random(count * 50) < loss / burst):
        lost[start : start + burst] = True
    return [float(lost[n * 50 : n * 50 + 50].mean()) for n in range(count)]


def test_the_wire_keeps_its_budgets() -> None:
    assert kilobits(CLEAN_BYTES) <= 72
    assert kilobits(LOSS_BYTES) <= 100


def test_no_loss_no_redundancy() -> None:
    policy = LossPolicy(red=True)
    assert all(policy.report(0.0) is CLEAN for _ in range(40))


def test_one_lost_packet_in_half_a_minute_changes_nothing() -> None:
    policy = LossPolicy(red=True)
    assert all(policy.report(0.02 if n == 5 else 0.0) is CLEAN for n in range(40))


def test_loss_brings_fec_at_once_and_its_end_takes_time() -> None:
    policy = LossPolicy(red=False)
    assert policy.report(0.06).fec_percent > 0
    plans = [policy.report(0.0) for _ in range(sender.REPORTS + 1)]
    assert plans[5].fec_percent > 0
    assert plans[-1] is CLEAN


@pytest.mark.parametrize("seed", range(5))
def test_heavy_loss_brings_deep_copies_only_where_the_peer_takes_them(seed: int) -> None:
    reports = random_reports(0.22, 1, 30, seed)
    with_red, without = LossPolicy(red=True), LossPolicy(red=False)
    for report in reports:
        with_red.report(report)
        without.report(report)
    assert with_red.plan.distances == sender.HEAVY_DISTANCES
    assert without.plan.distances == ()
    assert without.plan.fec_percent > 10


@pytest.mark.parametrize("seed", range(5))
def test_bursts_are_told_from_single_losses(seed: int) -> None:
    bursts, singles = LossPolicy(red=True), LossPolicy(red=True)
    for burst, single in zip(
        random_reports(0.05, 4, 30, seed), random_reports(0.05, 1, 30, seed), strict=True
    ):
        bursts.report(burst)
        singles.report(single)
    assert bursts.plan.distances == sender.BURST_DISTANCES
    assert singles.plan.distances == ()


@given(st.lists(st.floats(-1, 2), max_size=60), st.booleans())
def test_any_reports_give_one_of_two_sizes(reports: list[float], red: bool) -> None:
    policy = LossPolicy(red=red)
    for report in reports:
        plan = policy.report(report)
        assert plan.packet_bytes in (CLEAN_BYTES, LOSS_BYTES)
        assert 0 <= plan.fec_percent <= sender.MAX_FEC_PERCENT
        assert red or not plan.distances


def encode(voice: VoiceSender, pcm: bytes, timestamp: int) -> bytes:
    packet = voice.encode(pcm, timestamp)
    assert packet is not None
    assert packet[1] == timestamp
    return packet[0]


@pytest.mark.parametrize("red", [False, True])
def test_every_payload_of_a_class_has_one_size(red: bool) -> None:
    control = SendControl(0.0, red=red)
    voice = VoiceSender(control, red_payload_type=111 if red else None, complexity=0)
    sizes: dict[SendPlan, set[int]] = {}
    speech = [*frames(voiced(0.4)), *[bytes(1920)] * 10]
    for number, loss in enumerate([0.0, 0.05, 0.05, 0.25, 0.25, 0.0]):
        control.loss(loss, number)
        for index, pcm in enumerate(speech):
            payload = encode(voice, pcm, (number * len(speech) + index) * 960)
            sizes.setdefault(control.plan, set()).add(len(payload))
    assert len(sizes) >= 3
    assert all(found == {plan.packet_bytes} for plan, found in sizes.items())
    voice.close()


@pytest.mark.parametrize("red", [False, True])
@pytest.mark.parametrize("plan", [plan for rung in LADDER for plan in (rung.clean, rung.lossy)])
def test_every_rung_has_one_size_and_one_rhythm_whatever_is_said(plan: SendPlan, red: bool) -> None:
    if plan.distances and not red:
        return
    control = SendControl(0.0, red=red)
    control.plan = plan
    voice = VoiceSender(control, red_payload_type=111 if red else None, complexity=0)
    speech = [*frames(voiced(1.2)), *[bytes(1920)] * 30]
    sent = [voice.encode(pcm, n * 960) for n, pcm in enumerate(speech)]
    packets = [packet for packet in sent if packet is not None]
    every = plan.frame_ms // 20
    assert [n for n, packet in enumerate(sent) if packet is not None] == list(
        range(every - 1, len(speech), every)
    )
    assert {len(payload) for payload, _ in packets} == {plan.packet_bytes}
    assert [timestamp for _, timestamp in packets] == [n * plan.frame_ms * 48 for n in range(len(packets))]
    voice.close()


def test_a_gap_in_what_the_microphone_gives_begins_a_new_packet() -> None:
    control = SendControl(0.0)
    control.plan = SendPlan(120, frame_ms=60)
    voice = VoiceSender(control, complexity=0)
    assert [voice.encode(bytes(1920), at) for at in (0, 960)] == [None, None]
    assert [voice.encode(bytes(1920), at) for at in (9600, 10560)] == [None, None]
    packet = voice.encode(bytes(1920), 11520)
    assert packet is not None
    assert packet[1] == 9600


def test_a_plan_that_changes_waits_for_the_packet_that_was_begun() -> None:
    control = SendControl(0.0)
    control.plan = SendPlan(120, frame_ms=40)
    voice = VoiceSender(control, complexity=0)
    assert voice.encode(bytes(1920), 0) is None
    control.plan = SendPlan(80)
    first, second = voice.encode(bytes(1920), 960), voice.encode(bytes(1920), 1920)
    assert first is not None
    assert second is not None
    assert (len(first[0]), first[1], len(second[0]), second[1]) == (120, 0, 80, 1920)


def test_copies_are_the_frames_sent_before() -> None:
    control = SendControl(0.0, red=True)
    voice = VoiceSender(control, red_payload_type=111, complexity=0)
    for second in range(3):
        control.loss(0.3, second)
    sent = [unpack(encode(voice, pcm, n * 960)) for n, pcm in enumerate(frames(voiced(0.4)))]
    primaries = [blocks[-1].payload for blocks in sent]
    for n in range(4, len(sent)):
        copies = {block.offset // 960: block.payload for block in sent[n][:-1]}
        assert copies == {back: primaries[n - back] for back in control.plan.distances}


def test_fec_is_in_the_packets_when_the_plan_says_so() -> None:
    control = SendControl(0.0)
    voice = VoiceSender(control, complexity=0)
    for second in range(5):
        control.loss(0.05, second)
    payloads = [encode(voice, pcm, n * 960) for n, pcm in enumerate(frames(voiced(1.0)))]
    assert sum(parse_packet(payload).has_fec for payload in payloads) > len(payloads) / 3


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10))
def test_any_complexity(complexity: int) -> None:
    voice = VoiceSender(SendControl(0.0), complexity=complexity)
    assert len(encode(voice, bytes(1920), 0)) == CLEAN_BYTES
    voice.close()
