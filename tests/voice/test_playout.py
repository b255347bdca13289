"""Playout under any arrival pattern: always 10 ms, never raising, never growing, never too old."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench import traces
from tests.voice.speech import frames, rms, voiced
from voicemeet_edge.voice import jitter, playout
from voicemeet_edge.voice.format import MS, PERIOD_SAMPLES, Samples
from voicemeet_edge.voice.ladder import SendPlan
from voicemeet_edge.voice.opus import OpusEncoder
from voicemeet_edge.voice.packet import RtpAudio
from voicemeet_edge.voice.playout import Playout
from voicemeet_edge.voice.red import RedPacker

TRACES = Path(__file__).parent / "traces"
SSRC = 7
SPEECH = voiced(8.0)


def encode(bitrate: int = 44_800, fec: int = 0) -> list[bytes]:
    encoder = OpusEncoder(bitrate, complexity=0, fec=fec > 0, loss=fec)
    return [encoder.encode(frame) for frame in frames(SPEECH)]


PLAIN = encode()
WITH_FEC = encode(72_000, fec=10)


def wrap(plan: SendPlan) -> list[bytes]:
    packer = RedPacker(111, plan.distances)
    return [packer.pack(payload, n * 960) for n, payload in enumerate(encode(plan.frame_bytes(True) * 400))]


def packet(
    n: int, payloads: list[bytes] = PLAIN, *, at: float, first: int = 0, red: bool = False
) -> RtpAudio:
    """The n-th packet of a stream that began at sequence and timestamp `first`."""
    return RtpAudio(
        (first + n) & 0xFFFF, (first * 960 + n * 960) & 0xFFFFFFFF, SSRC, payloads[n % len(payloads)], at, red
    )


@dataclass
class Listener:
    """A sound card that pulls every 10 ms and keeps what it heard."""

    playout: Playout
    heard: list[Samples]
    now: float = 0.0
    gain: float = 1.0

    @classmethod
    def new(cls) -> Listener:
        return cls(Playout(), [])

    def listen(self, until: float) -> None:
        while self.now < until:
            self.heard.append(np.frombuffer(self.playout.pull_pcm(self.now, self.gain), np.int16))
            self.now += 0.01

    def sound(self) -> Samples:
        return np.concatenate(self.heard)

    def offset_ms(self) -> float:
        return self.playout.stats.offset_samples / MS


def play(arrivals: list[tuple[float, RtpAudio]], until: float, gain: float = 1.0) -> Listener:
    """Hand packets in at their times while the card pulls."""
    listener = Listener.new()
    listener.gain = gain
    for at, received in sorted(arrivals, key=lambda pair: pair[0]):
        listener.listen(at)
        listener.playout.push(received, at)
    listener.listen(until)
    return listener


def from_trace(name: str, payloads: list[bytes], *, red: bool = False) -> Listener:
    rows = traces.read(TRACES / f"{name}.csv")
    arrivals = [
        (row.arrival_ms / 1000, packet(row.seq, payloads, at=row.arrival_ms / 1000, red=red))
        for row in rows
        if row.arrival_ms is not None
    ]
    return play(arrivals, rows[-1].sent_ms / 1000)


def likeness(heard: Samples, start: int) -> float:
    """Best normalised correlation of what was heard with what was said up to 60 ms before."""
    a = heard.astype(np.float64)
    best = 0.0
    for shift in range(60 * 48):
        b = SPEECH[start - shift : start - shift + len(heard)].astype(np.float64)
        best = max(best, float(np.dot(a, b) / np.sqrt(np.dot(a, a) * np.dot(b, b))))
    return best


# --- named traces ---------------------------------------------------------------------------------


def test_before_the_first_packet_there_is_silence() -> None:
    listener = Listener.new()
    listener.listen(0.2)
    assert not listener.sound().any()
    assert listener.playout.stats.concealed_samples == 0


def test_a_clean_path_is_heard_as_it_was_said_and_soon() -> None:
    listener = play([(n * 0.02 + 0.001, packet(n, at=n * 0.02 + 0.001)) for n in range(300)], 6.0)
    stats = listener.playout.stats
    assert stats.concealed_samples == 0
    assert stats.late == 0
    assert listener.offset_ms() <= 15
    assert likeness(listener.sound()[120_000:124_800], 120_000) > 0.9


@pytest.mark.parametrize("name", ["wifi", "jitter"])
def test_jitter_is_ridden_out(name: str) -> None:
    stats = from_trace(name, WITH_FEC).playout.stats
    assert stats.concealed_samples < stats.pulled_samples * 0.04
    assert stats.expanded > 0


def test_fec_mends_most_of_ten_percent_loss() -> None:
    with_fec = from_trace("loss10", WITH_FEC).playout.stats
    without = from_trace("loss10", PLAIN).playout.stats
    assert with_fec.from_fec > 15
    assert with_fec.concealed_samples < without.concealed_samples * 0.6


def test_copies_mend_bursts() -> None:
    plan = SendPlan(177, 0, (3,))
    with_copies = from_trace("burst", wrap(plan), red=True).playout.stats
    without = from_trace("burst", PLAIN).playout.stats
    assert with_copies.from_copy > 5
    assert with_copies.concealed_samples < without.concealed_samples * 0.8


@pytest.mark.parametrize("name", ["lost_outage", "queued_outage"])
def test_after_an_outage_the_delay_is_the_one_before(name: str) -> None:
    rows = traces.read(TRACES / f"{name}.csv")
    listener = Listener.new()
    before = None
    for row in sorted(rows, key=lambda r: r.arrival_ms or 0):
        if row.arrival_ms is None:
            continue
        at = row.arrival_ms / 1000
        if at > 2.9 and before is None:
            before = listener.offset_ms()
        listener.listen(at)
        listener.playout.push(packet(row.seq, at=at), at)
    assert before is not None
    assert abs(listener.offset_ms() - before) <= 20
    assert listener.playout.stats.resyncs == 0
    assert rms(listener.sound()[-24_000:]) > 500


def test_a_longer_path_is_followed_at_once() -> None:
    listener = from_trace("path_longer", PLAIN)
    stats = listener.playout.stats
    assert stats.late <= 2 * playout.LATE_RUN
    assert rms(np.concatenate(listener.heard[-100:])) > 500


def test_a_shorter_path_brings_the_delay_down() -> None:
    listener = from_trace("path_shorter", PLAIN)
    assert listener.offset_ms() < 60


def test_volume_is_the_playouts_and_changes_no_decision() -> None:
    arrivals = [pair for n, pair in enumerate(steady(200)) if not 60 < n < 80]
    loud, soft = play(arrivals, 4.0), play(arrivals, 4.0, gain=0.25)
    assert rms(soft.sound() * 4 - loud.sound()) < 0.02 * rms(loud.sound())
    assert soft.playout.stats == loud.playout.stats


# --- single decisions -----------------------------------------------------------------------------


def steady(count: int, first: int = 0) -> list[tuple[float, RtpAudio]]:
    return [(n * 0.02, packet(n, at=n * 0.02, first=first)) for n in range(count)]


def lazily(name: str, payloads: list[bytes], *, red: bool = False) -> tuple[Listener, int]:
    """Let packets lie in the socket until they are asked for; returns also how often nobody asked."""
    rows = [row for row in traces.read(TRACES / f"{name}.csv") if row.arrival_ms is not None]
    waiting = sorted(
        (packet(row.seq, payloads, at=(row.arrival_ms or 0.0) / 1000, red=red) for row in rows),
        key=lambda received: received.arrival,
    )
    listener, spared = Listener.new(), 0
    while listener.now < rows[-1].sent_ms / 1000:
        if listener.playout.wants_packets():
            while waiting and waiting[0].arrival <= listener.now:
                listener.playout.push(waiting.pop(0), listener.now)
        else:
            spared += 1
        listener.listen(listener.now + 0.005)
    return listener, spared


@pytest.mark.parametrize("name", ["jitter", "wifi", "loss10", "burst", "path_longer", "path_shorter"])
def test_packets_asked_for_only_when_wanted_sound_the_same(name: str) -> None:
    always = from_trace(name, WITH_FEC).playout.stats
    listener, spared = lazily(name, WITH_FEC)
    asked = listener.playout.stats
    assert spared > len(listener.heard) * 0.4
    assert asked.target_samples == always.target_samples
    assert asked.concealed_samples <= always.concealed_samples + len(listener.heard) * PERIOD_SAMPLES // 200
    assert asked.late <= always.late + 3


def test_sequence_and_timestamp_wrap_unheard() -> None:
    listener = play(steady(300, first=65_500), 6.0)
    wrapped = play(
        [
            (at, p._replace(timestamp=(p.timestamp - 65_600 * 960 + 2**32) & 0xFFFFFFFF))
            for at, p in steady(300)
        ],
        6.0,
    )
    assert listener.playout.stats.concealed_samples == 0
    assert wrapped.playout.stats.concealed_samples == 0


def test_duplicates_are_counted_and_unheard() -> None:
    once = play(steady(100), 2.0)
    twice = play([pair for pair in steady(100) for _ in range(2)], 2.0)
    assert twice.playout.stats.duplicate == 100
    assert np.array_equal(once.sound(), twice.sound())


def test_long_loss_fades_to_comfort_noise() -> None:
    listener = play(steady(100), 3.0)
    levels = [rms(np.concatenate(listener.heard[n : n + 10])) for n in range(180, 300, 10)]
    assert levels[0] > 500
    assert levels[-1] < 150
    assert listener.playout.stats.comfort_samples > 0


def test_a_sender_that_starts_afresh_is_heard_at_once() -> None:
    second = [(at + 2.0, p._replace(ssrc=9, timestamp=p.timestamp + 0x5A5A5A5A)) for at, p in steady(100)]
    listener = play([*steady(100), *[(at, p._replace(arrival=at)) for at, p in second]], 4.0)
    stats = listener.playout.stats
    assert stats.decoded >= 197
    assert stats.concealed_samples <= 3 * 960


def test_a_timestamp_jump_is_believed_when_it_stays() -> None:
    jumped = [
        (n * 0.02, packet(n, at=n * 0.02)._replace(timestamp=(n * 960 + 0x70000000) & 0xFFFFFFFF))
        for n in range(100, 200)
    ]
    listener = play([*steady(100), *jumped], 4.0)
    assert listener.playout.stats.decoded >= 195
    assert rms(np.concatenate(listener.heard[-50:])) > 500


def test_one_stray_timestamp_is_ignored() -> None:
    stray = (1.0, packet(0, at=1.0)._replace(sequence=50_000, timestamp=0x70000000))
    listener = play([*steady(150), stray], 3.0)
    assert listener.playout.stats.resyncs == 0
    assert listener.playout.stats.concealed_samples == 0


@pytest.mark.parametrize(("toc", "samples"), [(8 << 3, 480), (10 << 3, 1920), (11 << 3, 2880)])
def test_other_frame_lengths_play(toc: int, samples: int) -> None:
    # A wideband SILK frame of 10, 40 or 60 ms; its content is noise to the ear, its length counts.
    payload = bytes([toc]) + bytes(range(1, 60))
    step = samples / 48_000
    arrivals = [(n * step, RtpAudio(n, n * samples, SSRC, payload, n * step)) for n in range(50)]
    stats = play(arrivals, 50 * step).playout.stats
    assert stats.decoded >= 47
    assert stats.concealed_samples == 0


def test_pauses_of_a_sender_with_dtx_are_no_loss() -> None:
    silence = b"\x48"  # SILK wideband 20 ms without content: nothing until the next packet
    arrivals = steady(50)
    arrivals += [(n * 0.02, packet(n, at=n * 0.02)._replace(payload=silence)) for n in range(50, 150, 20)]
    arrivals = [(at, p._replace(sequence=index)) for index, (at, p) in enumerate(arrivals)]
    stats = play(arrivals, 3.0).playout.stats
    assert stats.concealed_samples == 0
    assert stats.quiet_samples > 48_000


def test_garbage_is_counted_and_concealed() -> None:
    arrivals = [
        (at, p._replace(payload=b"\x03") if n % 10 == 5 else p) for n, (at, p) in enumerate(steady(200))
    ]
    stats = play(arrivals, 4.0).playout.stats
    assert stats.broken == 20
    assert stats.concealed_samples > 0


def test_a_card_that_stood_still_does_not_leave_its_delay_behind() -> None:
    listener = Listener.new()
    for n in range(165):  # half a second after the card moves again
        at = n * 0.02
        if not 2.0 < at < 2.8:
            listener.listen(at)
        else:
            listener.now = at
        listener.playout.push(packet(n, at=at), at)
    assert listener.playout.stats.skipped_samples > 0
    assert listener.offset_ms() <= 45
    assert rms(listener.sound()[-9_600:]) > 500


def test_a_long_stall_is_no_new_sender() -> None:
    listener = Listener.new()
    for n in range(500):
        at = n * 0.02
        if 2.0 < at < 7.0:
            listener.now = at
        listener.listen(at)
        listener.playout.push(packet(n, at=at), at)
    assert listener.playout.stats.resyncs == 0
    assert rms(listener.sound()[-9_600:]) > 500


def test_a_card_that_catches_up_after_a_stall_does_not_look_like_a_late_network() -> None:
    listener = Listener.new()
    for n in range(200):
        at = n * 0.02
        if n == 104:
            for _ in range(8):  # its buffer held 80 ms, so nothing was lost: it only asked late
                listener.heard.append(listener.playout.pull(at))
            listener.now = at
        if not 100 < n < 104:
            listener.listen(at)
        listener.playout.push(packet(n, at=at), at)
    assert listener.playout.stats.target_samples <= PERIOD_SAMPLES


def test_clocks_that_drift_apart_are_absorbed() -> None:
    for drift in (-500e-6, 500e-6):
        arrivals = [(n * 0.02 * (1 + drift), packet(n, at=n * 0.02 * (1 + drift))) for n in range(3000)]
        listener = play(arrivals, 59.0)
        stats = listener.playout.stats
        assert stats.concealed_samples == 0
        assert stats.late == 0
        assert listener.offset_ms() <= 45


# --- any pattern ----------------------------------------------------------------------------------

steps = st.one_of(
    st.tuples(st.just("pull"), st.integers(1, 12)),
    st.tuples(st.just("next"), st.integers(1, 5)),
    st.tuples(st.just("skip"), st.integers(1, 40)),
    st.tuples(st.just("back"), st.integers(1, 40)),
    st.tuples(st.just("jump"), st.integers(0, 2**32 - 1)),
    st.tuples(st.just("ssrc"), st.integers(0, 3)),
    st.tuples(st.just("stall"), st.integers(1, 300)),
    st.tuples(st.just("junk"), st.integers(0, 255)),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(steps, max_size=60), st.booleans())
def test_any_arrival_pattern(script: list[tuple[str, int]], red: bool) -> None:
    listener = Listener.new()
    n, base, ssrc = 0, 0, 0
    payloads = RED if red else WITH_FEC
    for what, amount in script:
        if what == "pull":
            listener.listen(listener.now + amount * 0.01)
        elif what == "next":
            for _ in range(amount):
                received = packet(n, payloads, at=listener.now, red=red)
                received = received._replace(ssrc=ssrc, timestamp=(received.timestamp + base) & 0xFFFFFFFF)
                listener.playout.push(received, listener.now)
                n += 1
        elif what == "skip":
            n += amount
        elif what == "back":
            n = max(0, n - amount)
        elif what == "jump":
            base = amount
        elif what == "ssrc":
            ssrc = amount
        elif what == "stall":
            listener.now += amount * 0.01
        else:
            listener.playout.push(
                RtpAudio(n & 0xFFFF, n * amount, ssrc, bytes([amount]) * (amount % 9), listener.now, red),
                listener.now,
            )
        assert_bounded(listener)
    for period in listener.heard:
        assert period.dtype == np.int16
        assert len(period) == PERIOD_SAMPLES
    # And after all that a steady sender is heard again, close behind.
    start = listener.now
    for k in range(250):
        listener.listen(start + k * 0.02)
        received = packet(k, PLAIN, at=listener.now)._replace(ssrc=1000)
        listener.playout.push(received, listener.now)
    assert_bounded(listener)
    assert listener.offset_ms() <= 60
    assert listener.playout.stats.decoded > 0


RED = wrap(SendPlan(177, 0, (1, 2)))


def assert_bounded(listener: Listener) -> None:
    inside = listener.playout
    assert len(inside._inbox) <= playout.INBOX_PACKETS
    assert len(inside._store) <= jitter.MAX_FRAMES
    assert len(inside._sequences) <= playout.HISTORY
    assert len(inside._buffer) <= 3 * 5760


@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(0, 120), min_size=200, max_size=300), st.integers(0, 2**31))
def test_any_delays_give_continuous_sound_that_is_never_too_old(delays: list[int], seed: int) -> None:
    chance = np.random.default_rng(seed)
    arrivals = []
    for n, delay in enumerate(delays):
        if chance.random() > 0.1:
            at = n * 0.02 + delay / 1000
            arrivals.append((at, packet(n, WITH_FEC, at=at)))
    listener = play(arrivals, len(delays) * 0.02)
    bound = (jitter.LATEST + playout.JUMP) / MS
    assert listener.offset_ms() <= bound
    steep = np.abs(np.diff(listener.sound().astype(np.int32))).max()
    assert steep < 20_000
