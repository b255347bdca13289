"""The playback side wakes once for each frame, decides no earlier for it, and loses nothing."""

from __future__ import annotations

import asyncio

import pytest

from tests.audio.doubles import Wire
from tests.audio.told_time import ToldTime
from voicemeet_edge.audio import playback
from voicemeet_edge.audio.call_audio import CallAudio
from voicemeet_edge.audio.card import PlaybackStream
from voicemeet_edge.audio.codec import OpusCodec
from voicemeet_edge.audio.echo_reference import EchoReference
from voicemeet_edge.audio.playback import PlaybackThread
from voicemeet_edge.settings import AudioSettings
from voicemeet_edge.testing.signals import speech_like
from voicemeet_edge.testing.sound import VirtualCard
from voicemeet_edge.voice.control import SendControl
from voicemeet_edge.voice.format import FRAME_S, FRAME_SAMPLES, MS, PERIOD_BYTES, PERIOD_S, SAMPLE_RATE
from voicemeet_edge.voice.packet import RtpAudio
from voicemeet_edge.voice.playout import Playout

FRAMES = 200


class Loudspeaker(PlaybackStream):
    """Takes a period each 10 ms of the told time, full from the start."""

    def __init__(self, told: ToldTime, periods: int) -> None:
        self.periods = periods
        self.written: list[tuple[float, bytes]] = []
        """When each was written, and what."""
        self.least_left_s = 1.0
        self._told = told
        self._began = told.now
        self._until_s = periods * PERIOD_S

    def write(self, pcm: bytes) -> None:
        left = self._began + self._until_s - self._told.now
        self.least_left_s = min(self.least_left_s, left)
        self._told.now += max(left - (self.periods - 1) * PERIOD_S, 0.0) + 0.00002
        self._until_s += PERIOD_S
        self.written.append((self._told.now, pcm))

    @property
    def heard_at(self) -> float:
        """When the last period that was written is heard."""
        return self._began + self._until_s - PERIOD_S

    def close(self) -> None:
        """Nothing."""


class Talking(Wire):
    """A wire from which a frame comes each 20 ms of the told time."""

    def __init__(self, told: ToldTime) -> None:
        super().__init__()
        self._told = told
        self._next = told.now
        encoder = OpusCodec(AudioSettings()).encoder(None, SendControl(0.0), SAMPLE_RATE)
        said = speech_like(FRAMES * FRAME_S)
        self.waiting = []
        for number in range(FRAMES):
            pcm = said[number * FRAME_SAMPLES :][:FRAME_SAMPLES].tobytes()
            packet = encoder.encode(pcm, number * FRAME_SAMPLES)
            assert packet is not None
            self.waiting.append(packet[0])
        self.asked = 0
        self.number = 0

    def begin(self, arrives_at: float) -> float:
        """Start anew, the first packet arriving then; returns when its first sample was said."""
        self._next, self.number = arrives_at, 0
        return arrives_at - FRAME_S

    def receive(self) -> list[RtpAudio]:
        self.asked += 1
        packets = []
        while self._next <= self._told.now and self.number < FRAMES:
            payload, number = self.waiting[self.number], self.number
            packets.append(RtpAudio(number, number * FRAME_SAMPLES, 7, payload, self._next))
            self._next += FRAME_S
            self.number += 1
        return packets


@pytest.mark.parametrize(("periods", "in_a_wake"), [(4, 2), (3, 2), (2, 1)])
async def test_a_frame_takes_one_wake_where_the_card_has_room_for_both_of_its_periods(
    periods: int, in_a_wake: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = ToldTime()
    monkeypatch.setattr(playback, "time", told)
    reference = EchoReference()
    side = PlaybackThread(VirtualCard(None), reference, lambda _event: None, real_time=False)
    wire = Talking(told)
    side.call = call = CallAudio(wire, OpusCodec(AudioSettings()), asyncio.get_running_loop())
    stream = Loudspeaker(told, periods)
    steps = 0
    while told.now < 1000.0 + (FRAMES - 10) * FRAME_S:
        side._step(stream)
        steps += 1
    call.sender.stop()
    assert len(stream.written) / steps == pytest.approx(in_a_wake, rel=0.1)
    stats = call.playout.stats
    assert (stats.late, stats.broken, stats.resyncs) == (0, 0, 0)
    assert stats.concealed_samples == 0
    assert all(len(pcm) == PERIOD_BYTES for _, pcm in stream.written)
    # It never runs dry, and by now the card holds no more than it needs to.
    assert stream.least_left_s > (periods - in_a_wake) * PERIOD_S - 0.002


@pytest.mark.parametrize(("periods", "most_ms"), [(4, 57), (3, 47), (2, 47)])
async def test_a_call_begins_with_the_delay_it_keeps_however_long_its_first_packets_waited(
    periods: int, most_ms: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They lay in the socket until this thread knew of the call, and that is no delay of the path.

    Taken for one it held the playout up by 20 to 30 ms for eight seconds.
    """
    told = ToldTime()
    monkeypatch.setattr(playback, "time", told)
    wire = Talking(told)
    for waited_ms in (*range(0, 60, 3), 300, 700):
        side = PlaybackThread(VirtualCard(None), EchoReference(), lambda _event: None, real_time=False)
        stream = Loudspeaker(told, periods)
        connected_at = told.now + 0.5
        while told.now < connected_at:
            side._step(stream)
        said_at = wire.begin(told.now - waited_ms / 1000)
        side.call = call = CallAudio(wire, OpusCodec(AudioSettings()), asyncio.get_running_loop())
        delays_ms = []
        while told.now < connected_at + 3.0:
            side._step(stream)
            delays_ms.append((stream.heard_at - said_at) * 1000 - at_ms(call))
        call.sender.stop()
        settled = delays_ms[len(delays_ms) // 6 :]  # half a second
        assert max(settled) <= most_ms, waited_ms
        assert max(settled) - min(settled) <= 10, waited_ms
        assert call.playout.stats.resyncs == 0


def at_ms(call: CallAudio) -> float:
    """Return where in what was said the last period lies that was played."""
    assert isinstance(call.playout, Playout)
    return (call.playout._played - call.playout._offset) / MS - PERIOD_S * 1000
