"""Opus by ctypes: sizes, FEC that recovers, concealment that fades, and packets from strangers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz import fuzz_opus
from tests.voice.speech import frames, rms, voiced
from voicemeet_edge.voice import opus
from voicemeet_edge.voice.format import Samples
from voicemeet_edge.voice.opus import Mode, OpusDecoder, OpusEncoder, OpusError, parse_packet


def encode(bitrate: int = 32_000, *, fec: bool = False, loss: int = 0, seconds: float = 2.0) -> list[bytes]:
    encoder = OpusEncoder(bitrate, fec=fec, loss=loss)
    return [encoder.encode(frame) for frame in frames(voiced(seconds))]


def likeness(one: Samples, other: Samples) -> float:
    a, b = one.astype(np.float64), other.astype(np.float64)
    return float(np.dot(a, b) / np.sqrt(np.dot(a, a) * np.dot(b, b)))


def test_speech_silence_and_noise_have_one_size() -> None:
    encoder = OpusEncoder(44_800)
    noise = np.random.default_rng(1).integers(-9000, 9000, 48_000).astype(np.int16)
    sounds = [voiced(1.0), np.zeros(48_000, dtype=np.int16), noise]
    sizes = {len(encoder.encode(frame)) for sound in sounds for frame in frames(sound)}
    assert sizes == {112} == {encoder.payload_bytes}


def test_what_speech_does_not_need_is_padding() -> None:
    encoder = OpusEncoder(46_400)
    padded = 0
    decoder, sound = OpusDecoder(), voiced(2.0)
    heard = []
    for frame in frames(sound):
        payload = encoder.encode(frame)
        assert len(payload) == 116
        info = parse_packet(payload)
        assert (info.frames, info.samples, info.mode) == (1, 960, Mode.SILK)
        padded += payload[0] & 3 == 3  # RFC 6716 §3.2.5: only this code can be padded
        heard.append(decoder.decode(payload))
    assert padded > 50
    late = encoder.lookahead_samples
    assert likeness(np.concatenate(heard)[late:], sound[: 100 * 960 - late]) > 0.8


def test_a_small_frame_leaves_nothing_unused() -> None:
    # RFC 6716 §3.2.5: the third byte is the padding's length, when the second says that there is some.
    padded = [p[2] for p in encode(22_000) if p[0] & 3 == 3 and p[1] & 0x40]
    assert sum(padded) < 2 * 100


def test_fec_is_found_and_recovers_in_a_padded_packet() -> None:
    encoder, decoder = OpusEncoder(70_800, fec=True, loss=10), OpusDecoder()
    payloads = [encoder.encode(frame) for frame in frames(voiced(2.0))]
    whole = [OpusDecoder.decode(decoder, payload) for payload in payloads]
    usable = [
        n
        for n in range(20, len(payloads))
        if parse_packet(payloads[n]).has_fec and payloads[n][0] & 3 == 3 and whole[n - 1].any()
    ]
    assert len(usable) > 20
    again = OpusDecoder()
    for payload in payloads[: usable[0] - 1]:
        again.decode(payload)
    assert likeness(again.recover(payloads[usable[0]], 960), whole[usable[0] - 1]) > 0.7


def test_bit_rate_changes_the_size_at_once() -> None:
    encoder = OpusEncoder(44_800)
    frame = frames(voiced(0.1))[0]
    encoder.encode(frame)
    encoder.set_bitrate(72_000)
    assert len(encoder.encode(frame)) == 180


def test_decoded_speech_is_the_speech() -> None:
    sound = voiced(2.0)
    encoder, decoder = OpusEncoder(44_800), OpusDecoder()
    heard = np.concatenate([decoder.decode(encoder.encode(frame)) for frame in frames(sound)])
    # The codec's filters move the phase by a few samples beyond the declared delay.
    delays = range(encoder.lookahead_samples - 6, encoder.lookahead_samples + 7)
    assert max(likeness(heard[d + 4800 :], sound[4800 : len(heard) - d]) for d in delays) > 0.9


def test_fec_recovers_the_lost_frame() -> None:
    packets = encode(72_000, fec=True, loss=10)
    recovered, concealed = [], []
    # libopus adds FEC to frames that hold speech, and only those are worth it.
    for lost in [n for n in range(40, 90) if parse_packet(packets[n + 1]).has_fec][::4]:
        whole, with_fec, without = OpusDecoder(), OpusDecoder(), OpusDecoder()
        for packet in packets[:lost]:
            for decoder in (whole, with_fec, without):
                decoder.decode(packet)
        truth = whole.decode(packets[lost])
        recovered.append(likeness(truth, with_fec.decode(packets[lost + 1], fec=True)))
        concealed.append(likeness(truth, without.decode(None)))
    assert np.median(recovered) > 0.97
    assert np.median(recovered) > np.median(concealed)


def test_without_fec_no_packet_claims_it() -> None:
    assert not any(parse_packet(packet).has_fec for packet in encode(44_800))


def test_concealment_continues_the_sound() -> None:
    decoder = OpusDecoder()
    for packet in encode():
        last = decoder.decode(packet)
    levels = [rms(decoder.conceal(960)) for _ in range(25)]
    assert levels[0] > rms(last) / 4
    # libopus goes on at half the level for ever: that is why the playout fades to comfort noise itself.
    assert levels[-1] < levels[0] * 0.7


def test_reset_forgets() -> None:
    decoder = OpusDecoder()
    for packet in encode():
        decoder.decode(packet)
    decoder.reset()
    assert not decoder.conceal(960).any()


@pytest.mark.parametrize(
    ("toc", "mode", "samples", "stereo"),
    [
        (0 << 3, Mode.SILK, 480, False),
        (11 << 3 | 4, Mode.SILK, 2880, True),
        (12 << 3, Mode.HYBRID, 480, False),
        (15 << 3, Mode.HYBRID, 960, False),
        (16 << 3, Mode.CELT, 120, False),
        (31 << 3, Mode.CELT, 960, False),
    ],
)
def test_table_of_contents(toc: int, mode: Mode, samples: int, stereo: bool) -> None:
    info = parse_packet(bytes([toc, 0, 0]))
    assert (info.mode, info.frame_samples, info.frames, info.stereo) == (mode, samples, 1, stereo)


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        bytes(1501),
        bytes([1, 0]),  # code 1: two frames that cannot be of one size
        bytes([2]),  # code 2 without a length
        bytes([3]),  # code 3 without a count
        bytes([3, 0]),  # no frames
        bytes([11 << 3 | 3, 3, 0, 0]),  # three times 60 ms
        bytes([3, 0x41, 255, 255]),  # padding without an end
        bytes([3, 0x82]),  # a variable frame without a length
    ],
)
def test_what_is_no_packet(payload: bytes) -> None:
    with pytest.raises(OpusError):
        parse_packet(payload)
    with pytest.raises(OpusError):
        OpusDecoder().decode(payload)


def test_wrong_use_is_refused() -> None:
    with pytest.raises(OpusError):
        OpusEncoder(1_000)
    with pytest.raises(OpusError):
        OpusEncoder().encode(bytes(1919))
    with pytest.raises(OpusError):
        OpusDecoder().conceal(100)
    with pytest.raises(OpusError):
        OpusDecoder().conceal(6000)


def test_gain_is_kept_over_a_reset_and_holds_for_concealment() -> None:
    packets = encode()
    loud, soft = OpusDecoder(), OpusDecoder()
    soft.set_gain(0.25)
    soft.reset()
    for packet in packets:
        whole, quarter = loud.decode(packet), soft.decode(packet)
    assert rms(quarter) == pytest.approx(rms(whole) / 4, rel=0.01)
    assert rms(soft.conceal(480)) == pytest.approx(rms(loud.conceal(480)) / 4, rel=0.01)


def test_gain_has_ends() -> None:
    decoder = OpusDecoder()
    for gain, sounds in ((0.0, False), (1e-9, False), (1e9, True), (1.0, True)):
        decoder.set_gain(gain)
        assert np.concatenate([decoder.decode(packet) for packet in encode()[50:60]]).any() == sounds


def test_closing_twice_is_fine() -> None:
    encoder, decoder = OpusEncoder(), OpusDecoder()
    for _ in range(2):
        encoder.close()
        decoder.close()


def test_a_system_library_serves_when_the_wheel_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert opus.library_path() == "libopus.so.0"


@settings(max_examples=80, deadline=None)
@given(st.binary(max_size=1600))
def test_any_bytes(data: bytes) -> None:
    fuzz_opus.fuzz_one(data)


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 99), st.lists(st.tuples(st.integers(0, 79), st.integers(0, 255)), max_size=8))
def test_damaged_packets(index: int, damage: list[tuple[int, int]]) -> None:
    packet = bytearray(PACKETS[index])
    for place, value in damage:
        packet[place] = value
    fuzz_opus.fuzz_one(bytes(packet))


PACKETS = encode(32_000, fec=True, loss=10)


@pytest.mark.parametrize("library", ["libopus.so.none", opus.library_path()])
def test_deep_concealment_is_used_only_where_it_can_be_had(
    library: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The wheel's library is new enough and has no network in it: only a try tells."""
    monkeypatch.setattr(opus, "SYSTEM_LIBRARY", library)
    opus.deep_library.cache_clear()
    try:
        assert opus.deep_library() is None
        assert len(OpusDecoder().conceal(960)) == 960
    finally:
        opus.deep_library.cache_clear()


def test_whatever_the_system_has_conceals() -> None:
    found = opus.deep_library()
    decoder = OpusDecoder(found, deep=True) if found is not None else OpusDecoder()
    encoder = OpusEncoder()
    for _ in range(5):
        decoder.decode(encoder.encode(bytes(1920)))
    assert len(decoder.conceal(960)) == 960
