"""What either sender makes is what the playout at the other end was told to expect."""

from __future__ import annotations

import numpy as np
import pytest

from voicemeet_edge.audio.codec import FixedRateSender, OpusCodec
from voicemeet_edge.settings import AudioSettings
from voicemeet_edge.testing.room import at_voice_rate
from voicemeet_edge.testing.signals import speech_like
from voicemeet_edge.voice.control import SendControl
from voicemeet_edge.voice.format import FRAME_SAMPLES, SAMPLE_RATE, VOICE_RATE
from voicemeet_edge.voice.opus import CLEAN_BITRATE
from voicemeet_edge.voice.packet import RtpAudio


@pytest.mark.parametrize("rate", [VOICE_RATE, SAMPLE_RATE])
@pytest.mark.parametrize("red_payload_type", [None, 111])
@pytest.mark.parametrize("bitrate", [CLEAN_BITRATE, 24_000])
def test_what_is_sent_is_heard(bitrate: int, red_payload_type: int | None, rate: int) -> None:
    codec = OpusCodec(AudioSettings(bitrate=bitrate))
    sender, playout = codec.encoder(red_payload_type, SendControl(0.0), rate), codec.playout()
    assert isinstance(sender, FixedRateSender) == (bitrate == 24_000)
    said = speech_like(2)
    given, length = (said if rate == SAMPLE_RATE else at_voice_rate(said)), rate // 50
    heard: list[bytes] = []
    for n in range(len(said) // FRAME_SAMPLES):
        now, timestamp = n * 0.02, n * FRAME_SAMPLES
        packet = sender.encode(given[n * length :][:length].tobytes(), timestamp)
        assert packet is not None
        payload, timestamp = packet
        playout.push(RtpAudio(n, timestamp, 1, payload, now, red_payload_type is not None), now)
        heard += [playout.pull_pcm(now, 1.0), playout.pull_pcm(now + 0.01, 1.0)]
    stats = playout.stats
    assert (stats.broken, stats.concealed_samples) == (0, 0)
    assert stats.decoded > 95
    # The spectrum says that it is the same sound, wherever in time it lies.
    spectra = [
        np.abs(np.fft.rfft(sound[24_000:72_000]))
        for sound in (said, np.frombuffer(b"".join(heard), np.int16))
    ]
    smooth = [np.convolve(spectrum[100:3000], np.ones(50), "valid") for spectrum in spectra]
    assert np.corrcoef(smooth[0], smooth[1])[0, 1] > 0.9
    sender.close()
