from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
import pytest

from voicemeet_edge.audio.wav import read_wav, write_wav
from voicemeet_edge.errors import DeviceLostError, SoundFatalError, XrunError
from voicemeet_edge.testing import sound
from voicemeet_edge.testing.sound import CAPTURE_BUFFER, PLAYBACK_BUFFER, Echo, Recording, VirtualCard
from voicemeet_edge.voice.format import PERIOD_BYTES, PERIOD_SAMPLES

RAMP = (np.arange(4800) + 1).astype(np.int16)


def periods(card: VirtualCard, count: int) -> list[bytes]:
    """Read periods; an xrun of a machine that stood still is read over."""
    stream = card.open_capture()
    taken: list[bytes] = []
    while len(taken) < count:
        try:
            taken.append(stream.read())
        except XrunError:
            continue
    stream.close()
    return taken


def test_the_microphone_hears_the_source_again_and_again_or_once() -> None:
    source = RAMP[:4700]
    looped = [np.frombuffer(period, np.int16).astype(int) for period in periods(VirtualCard(source), 12)]
    steps = {int(step) for period in looped for step in np.diff(period)}
    assert steps == {1, 1 - len(source)}
    once = np.frombuffer(periods(VirtualCard(RAMP, loop=False), 12)[-1], np.int16)
    assert not once.any()


def test_reading_takes_the_time_it_takes() -> None:
    started = time.monotonic()
    periods(VirtualCard(None), 10)
    assert time.monotonic() - started >= 0.099


def test_a_slow_clock_takes_longer() -> None:
    card = VirtualCard(None, drift_ppm=-500_000)
    started = time.monotonic()
    periods(card, 5)
    assert time.monotonic() - started >= 0.099
    assert card.capture_rate == pytest.approx(24_000)
    assert VirtualCard(None, capture_drift_ppm=100).capture_rate == pytest.approx(48_004.8)


def test_microphone_not_read_in_time_overruns_once_and_time_goes_on() -> None:
    card = VirtualCard(RAMP, loop=False)
    stream = card.open_capture()
    time.sleep(0.3)
    with pytest.raises(XrunError):
        stream.read()
    assert card.capture_xruns == 1
    # 0.3 s later the 0.1 s of source are over.
    assert not np.frombuffer(stream.read(), np.int16).any()
    stream.close()


def test_what_is_written_is_recorded_after_the_silence_it_started_with(tmp_path: Path) -> None:
    path = tmp_path / "heard.wav"
    with VirtualCard(None, path) as card:
        stream = card.open_playback()
        for start in range(0, len(RAMP), PERIOD_SAMPLES):
            try:
                stream.write(RAMP[start : start + PERIOD_SAMPLES].tobytes())
            except XrunError:
                stream.write(RAMP[start : start + PERIOD_SAMPLES].tobytes())
        stream.close()
        heard = card.heard()
    assert set(RAMP) <= set(heard.tolist())
    assert not heard[:PLAYBACK_BUFFER].any()
    np.testing.assert_array_equal(read_wav(path), heard)
    marks = json.loads(path.with_suffix(".marks.json").read_text())
    assert marks["rate"] == 48_000
    assert marks["marks"][0]["sample"] == 0
    assert 0 < marks["marks"][0]["monotonic_s"] <= time.monotonic()


def test_loudspeaker_not_fed_in_time_records_the_gap_as_silence() -> None:
    card = VirtualCard(None)
    stream = card.open_playback()
    mark = card.recording.marks[0].monotonic_s
    time.sleep(0.2)
    loud = np.full(PERIOD_SAMPLES, 1000, np.int16).tobytes()
    with pytest.raises(XrunError):
        stream.write(loud)
    stream.write(loud)
    assert card.playback_xruns == 1
    first = int(np.argmax(card.heard() != 0))
    assert first >= 0.2 * 48_000
    # The time line is true: what was just written is heard within the card's buffer from now.
    assert mark + first / 48_000 <= time.monotonic() + PLAYBACK_BUFFER / 48_000
    stream.close()


def test_unplug_fails_open_streams_and_opening_until_replug() -> None:
    card = VirtualCard(None)
    capture, playback = card.open_capture(), card.open_playback()
    card.unplug()
    with pytest.raises(DeviceLostError):
        capture.read()
    with pytest.raises(DeviceLostError):
        playback.write(bytes(PERIOD_BYTES))
    with pytest.raises(DeviceLostError):
        card.open_capture()
    with pytest.raises(DeviceLostError):
        card.open_playback()
    capture.close()
    capture.close()
    playback.close()
    assert card.open_captures == card.open_playbacks == 0
    card.replug()
    card.open_capture().close()


def test_refusal_and_provoked_xruns() -> None:
    card = VirtualCard(None)
    card.refuse(SoundFatalError("no such rate"))
    with pytest.raises(SoundFatalError):
        card.open_capture()
    card.refuse(None)
    capture, playback = card.open_capture(), card.open_playback()
    card.provoke_xrun(capture=True, playback=True)
    with pytest.raises(XrunError):
        capture.read()
    with pytest.raises(XrunError):
        playback.write(bytes(PERIOD_BYTES))
    capture.close()
    playback.close()


def test_echo_comes_back_after_its_delay() -> None:
    card = VirtualCard(None, echo=Echo(delay_ms=20.0, gain=0.5, taps=(1.0,)))
    card.sound_out(card._air_start + 1.0, np.full(PERIOD_SAMPLES, 1000, np.int16).tobytes())
    np.testing.assert_array_equal(card.echo_at(card._air_start + 1.02), np.full(PERIOD_SAMPLES, 500.0))
    assert not card.echo_at(card._air_start + 1.04).any()


def test_wav_file_as_source(tmp_path: Path) -> None:
    write_wav(tmp_path / "said.wav", RAMP)
    np.testing.assert_array_equal(VirtualCard(tmp_path / "said.wav").source, RAMP)
    write_wav(tmp_path / "empty.wav", RAMP[:0])
    assert not VirtualCard(tmp_path / "empty.wav").source.any()


def test_a_period_has_one_size() -> None:
    stream = VirtualCard(None).open_playback()
    with pytest.raises(ValueError, match="period"):
        stream.write(b"12")
    stream.close()
    assert CAPTURE_BUFFER == 4 * PERIOD_SAMPLES


def test_memory_of_a_device_that_runs_for_days_does_not_grow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sound, "MAX_KEPT", 3 * PERIOD_SAMPLES)
    recording = Recording(None)
    for _ in range(10):
        recording.append(bytes(PERIOD_BYTES))
    assert len(recording.heard()) == recording.samples == 3 * PERIOD_SAMPLES


def test_the_echo_is_there_also_where_the_ring_begins_again() -> None:
    card = VirtualCard(echo=Echo(delay_ms=20.0, gain=1.0, taps=(1.0,)))
    said = np.random.default_rng(1).integers(-999, 999, PERIOD_SAMPLES * 500).astype(np.int16)
    began = card._air_start + 0.0033
    for period in range(500):
        first = period * PERIOD_SAMPLES
        card.sound_out(began + period * 0.01, said[first : first + PERIOD_SAMPLES].tobytes())
        if period >= 4:
            at = began + period * 0.01 - 0.00683
            expected = round((at - 0.02 - began) * 48_000)
            heard = card.echo_at(at)
            # Two roundings, so it may be the neighbouring sample.
            assert any(
                np.array_equal(heard, said[start : start + PERIOD_SAMPLES])
                for start in (expected - 1, expected, expected + 1)
            )
