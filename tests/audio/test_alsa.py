from __future__ import annotations

import asyncio
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import alsaaudio
import numpy as np
import pytest

from tests.audio.doubles import Events, Wire
from voicemeet_edge.audio import alsa
from voicemeet_edge.audio.alsa import AlsaCard
from voicemeet_edge.audio.choice import SoundDevice
from voicemeet_edge.audio.engine import VoiceEngine
from voicemeet_edge.audio.events import FirstAudioPlayed, SoundFailed
from voicemeet_edge.audio.wav import read_wav, write_wav
from voicemeet_edge.errors import DeviceLostError, SoundError, SoundFatalError, XrunError
from voicemeet_edge.settings import AudioSettings
from voicemeet_edge.testing import pulse
from voicemeet_edge.testing.signals import correlation, likeness, speech_like
from voicemeet_edge.testing.waiting import until
from voicemeet_edge.voice.format import PERIOD_BYTES

PERIOD = bytes(range(240)) * 4
Answer = tuple[int, bytes] | int | Exception


class FakePcm:
    """Stands in for alsaaudio.PCM and says what pyalsaaudio 0.11 was seen or read to say."""

    def __init__(self, answers: list[Answer], **given: object) -> None:
        self.answers = answers
        self.given: dict[str, object] = {
            "rate": 48000,
            "channels": 1,
            "period_size": 480,
            "buffer_size": 1920,
        }
        self.given.update(given)
        self.status: int = alsaaudio.PCM_STATE_RUNNING
        self.written: list[bytes] = []
        self.calls: list[str] = []
        self.options: dict[str, object] = {}
        self.hang = threading.Event()
        self.hang.set()
        self._ours, self._theirs = socket.socketpair()
        self._theirs.send(b"x")  # always readable: never waits

    def __call__(self, **options: object) -> FakePcm:
        self.options = options
        return self

    def info(self) -> dict[str, object]:
        return self.given

    def _next(self) -> tuple[int, bytes] | int:
        answer = self.answers.pop(0) if self.answers else 0
        if isinstance(answer, Exception):
            raise answer
        return answer

    def read(self) -> tuple[int, bytes]:
        answer = self._next()
        return answer if isinstance(answer, tuple) else (answer, b"")

    def write(self, data: bytes) -> int:
        if not self.calls:  # the silence a stream begins with
            self.calls.append("fill")
            return len(data) // 2
        answer = self._next()
        assert isinstance(answer, int)
        self.written.append(data[: max(answer, 0) * 2])
        return answer

    def polldescriptors(self) -> list[tuple[int, int]]:
        return [(self._ours.fileno(), select.POLLIN)]

    def polldescriptors_revents(self, events: list[tuple[int, int]]) -> int:
        return select.POLLIN

    def state(self) -> int:
        return self.status

    def avail(self) -> int:
        return 480

    def drop(self) -> None:
        self.calls.append("drop")
        self.hang.wait(10)

    def close(self) -> None:
        self.calls.append("close")
        self._ours.close()
        self._theirs.close()


def error(text: str) -> Exception:
    made: Exception = alsaaudio.ALSAAudioError(f"{text} [plughw:CARD=Device]")
    return made


def card(pcm: FakePcm) -> AlsaCard:
    return AlsaCard("plughw:CARD=Device", "plughw:CARD=Device", open_pcm=pcm)


def test_opened_as_the_voice_path_needs_it() -> None:
    pcm = FakePcm([])
    card(pcm).open_capture().close()
    assert pcm.options == {
        "type": alsaaudio.PCM_CAPTURE,
        "mode": alsaaudio.PCM_NONBLOCK,
        "rate": 48000,
        "channels": 1,
        "format": alsaaudio.PCM_FORMAT_S16_LE,
        "periodsize": 480,
        "periods": 4,
        "device": "plughw:CARD=Device",
    }


@pytest.mark.parametrize("given", [{"rate": 44100}, {"channels": 2}, {"period_size": 512}])
def test_a_card_that_gives_something_else_is_unusable(given: dict[str, int]) -> None:
    pcm = FakePcm([], **given)
    with pytest.raises(SoundFatalError, match="48 kHz mono"):
        card(pcm).open_playback()
    assert pcm.calls[-2:] == ["drop", "close"]


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("No such device", DeviceLostError),
        ("No such file or directory", DeviceLostError),
        ("Device or resource busy", DeviceLostError),
        ("Connection refused", DeviceLostError),
        ("Input/output error", DeviceLostError),
        ("something never seen", DeviceLostError),
        ("Invalid argument", SoundFatalError),
        ("Permission denied", SoundFatalError),
    ],
)
def test_errors_are_told_apart_by_their_text(text: str, kind: type[SoundError]) -> None:
    def refuse(**_: object) -> object:
        raise error(text)

    with pytest.raises(kind):
        AlsaCard("a", "b", open_pcm=refuse).open_capture()
    # A stream that worked is never beyond mending, whatever it says.
    reading = card(FakePcm([error(text)])).open_capture()
    with pytest.raises(DeviceLostError):
        reading.read()
    reading.close()
    writing = card(FakePcm([error(text)])).open_playback()
    with pytest.raises(DeviceLostError):
        writing.write(PERIOD)
    writing.close()


def test_read_waits_and_returns_one_period() -> None:
    stream = card(FakePcm([0, (480, PERIOD), (480, PERIOD[::-1])])).open_capture()
    assert stream.read() == PERIOD
    assert stream.read() == PERIOD[::-1]
    stream.close()


def test_capture_overrun_is_an_xrun_and_the_stream_goes_on() -> None:
    stream = card(FakePcm([(-32, b""), (480, PERIOD)])).open_capture()
    with pytest.raises(XrunError):
        stream.read()
    assert stream.read() == PERIOD
    stream.close()


def test_other_negative_returns_are_a_lost_device() -> None:
    stream = card(FakePcm([(-19, b"")])).open_capture()
    with pytest.raises(DeviceLostError):
        stream.read()
    stream.close()
    playback = card(FakePcm([-19])).open_playback()
    with pytest.raises(DeviceLostError):
        playback.write(PERIOD)
    playback.close()


def test_playback_underrun_is_an_xrun_and_the_period_may_be_written_again() -> None:
    pcm = FakePcm([-32, 1440, 480])
    stream = card(pcm).open_playback()
    with pytest.raises(XrunError):
        stream.write(PERIOD)
    stream.write(PERIOD)
    # Started with silence again: one period alone would run dry at once.
    assert pcm.written == [b"", bytes(2 * 1440), PERIOD]
    stream.close()


def test_a_period_written_in_pieces_arrives_whole() -> None:
    pcm = FakePcm([100, 0, 380])
    stream = card(pcm).open_playback()
    stream.write(PERIOD)
    assert b"".join(pcm.written) == PERIOD
    stream.close()


@pytest.mark.parametrize("state", [alsaaudio.PCM_STATE_DISCONNECTED, alsaaudio.PCM_STATE_SUSPENDED])
def test_states_that_mean_the_card_is_gone(state: int) -> None:
    pcm = FakePcm([])
    stream = card(pcm).open_capture()
    pcm.status = state
    with pytest.raises(DeviceLostError, match="unplugged"):
        stream.read()
    stream.close()


def test_a_card_that_stops_without_a_word_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alsa, "STUCK_S", 0.05)
    stream = card(FakePcm([])).open_capture()
    with pytest.raises(DeviceLostError, match="stopped"):
        stream.read()
    stream.close()


def test_close_drops_first_is_idempotent_and_does_not_raise() -> None:
    pcm = FakePcm([])
    stream = card(pcm).open_capture()
    stream.close()
    stream.close()
    assert pcm.calls == ["drop", "close"]
    with pytest.raises(DeviceLostError, match="closed"):
        stream.read()


def test_close_of_a_hanging_driver_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alsa, "CLOSE_S", 0.05)
    pcm = FakePcm([])
    stream = card(pcm).open_capture()
    pcm.hang.clear()
    stream.close()
    assert "close" not in pcm.calls
    pcm.hang.set()


# Through the real ALSA, with PulseAudio as the card -----------------------------------------------


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[pulse.PulseServer]:
    if (reason := pulse.missing()) is not None:
        pytest.skip(reason)
    with pulse.PulseServer() as running:
        for key, value in running.environment.items():
            monkeypatch.setenv(key, value)
        yield running


@pytest.mark.system
def test_what_one_box_plays_the_other_captures(server: pulse.PulseServer) -> None:
    playback = AlsaCard("boxA", "boxA").open_playback()
    capture = AlsaCard("boxB", "boxB").open_capture()
    said = speech_like(3)
    heard: list[bytes] = []
    done = threading.Event()

    def listen() -> None:
        while not done.is_set():
            try:
                heard.append(capture.read())
            except XrunError:
                continue

    listener = threading.Thread(target=listen)
    listener.start()
    for start in range(0, len(said), 480):
        try:
            playback.write(said[start : start + 480].tobytes())
        except XrunError:
            continue
    done.set()
    listener.join(10)
    playback.close()
    capture.close()
    assert all(len(period) == PERIOD_BYTES for period in heard)
    score, _ = correlation(np.frombuffer(b"".join(heard), np.int16), said[24_000:48_000])
    assert score > 0.95


def for_ever(use: Callable[[], object]) -> None:
    while True:
        use()


@pytest.mark.system
def test_a_dead_server_is_a_lost_device(server: pulse.PulseServer) -> None:
    box = AlsaCard("boxA", "boxA")
    playback, capture = box.open_playback(), box.open_capture()
    server.kill()
    for use in (lambda: playback.write(bytes(PERIOD_BYTES)), capture.read):
        with pytest.raises(DeviceLostError):
            for_ever(use)
    with pytest.raises(DeviceLostError):
        box.open_capture()
    playback.close()
    capture.close()


@pytest.mark.system
async def test_a_call_over_real_alsa_and_the_server_killed_under_it(
    server: pulse.PulseServer, tmp_path: Path
) -> None:
    """One engine sends to itself: what boxA hears, boxA plays; the test speaks and records."""
    events, wire = Events(), Wire()
    said = speech_like(4)
    write_wav(tmp_path / "said.wav", said)
    engine = VoiceEngine(
        AlsaCard("boxA", "boxA"),
        AudioSettings(volume=100, echo="off"),
        loop=asyncio.get_running_loop(),
        on_event=events,
    )
    wire.to = engine
    engine.start_call(wire)
    await events.wait_for(FirstAudioPlayed)
    await asyncio.to_thread(server.record, "boxA", tmp_path / "heard.wav")
    await asyncio.to_thread(server.say, "boxA", tmp_path / "said.wav")
    recorded = tmp_path / "heard.wav"
    await until(lambda: recorded.exists() and recorded.stat().st_size > 5 * 96_000)
    await asyncio.to_thread(server.finish_recordings)
    heard = await asyncio.to_thread(read_wav, recorded)
    assert likeness(heard, said[48_000:144_000]) > 0.35
    await asyncio.to_thread(server.kill)
    await events.wait_for(SoundFailed, 2)
    assert not engine.capture_open
    sent = len(wire.packets)
    await until(lambda: len(wire.packets) > sent + 5)
    started = time.monotonic()
    await engine.close()
    assert time.monotonic() - started < 10


def test_a_card_is_looked_for_each_time_it_is_opened(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    here = [SoundDevice("plughw:CARD=Device", "USB PnP", True, True, True, driver="USB-Audio")]
    opened: list[object] = []

    def open_pcm(**options: object) -> object:
        opened.append(options["device"])
        return FakePcm([])(**options)

    card = AlsaCard(open_pcm=open_pcm, devices=lambda: here)
    card.open_playback().close()
    here.clear()
    with pytest.raises(DeviceLostError, match="no microphone"):
        card.open_capture()
    here[:] = [SoundDevice("plughw:CARD=Device_1", "USB PnP", True, True, True, driver="USB-Audio")]
    card.open_capture().close()
    assert opened == ["plughw:CARD=Device", "plughw:CARD=Device_1"]
    assert caplog.text.count("the USB device with both microphone and loudspeaker") == 2


def test_a_card_that_another_program_holds_says_so() -> None:
    def busy(**_options: object) -> object:
        raise alsaaudio.ALSAAudioError("Device or resource busy [plughw:CARD=Device]")

    with pytest.raises(DeviceLostError, match="another program") as raised:
        AlsaCard("plughw:CARD=Device", "plughw:CARD=Device", open_pcm=busy).open_playback()
    assert raised.value.code == "sound_device_busy"
    assert raised.value.retryable


def test_alsas_library_writes_nothing_past_our_log(capfd: pytest.CaptureFixture[str]) -> None:
    card = AlsaCard("plughw:CARD=NoSuchCard", "plughw:CARD=NoSuchCard")
    with pytest.raises(SoundError):
        card.open_playback()
    assert capfd.readouterr().err == ""
