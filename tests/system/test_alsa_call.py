"""pyalsaaudio itself carries a call: a device on ALSA's pulse plugin, another with a virtual card."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.lab import Lab, LabCall, ended, meet
from voicemeet_edge.audio.wav import read_wav, write_wav
from voicemeet_edge.testing.pulse import PulseServer, missing
from voicemeet_edge.testing.signals import likeness, speech_like
from voicemeet_edge.voice.format import Samples

pytestmark = [pytest.mark.system, pytest.mark.timeout(180)]

DIRECT = LabCall(policy="direct")
SAID_S = 6.0
HEARD = 0.5  # of `likeness`: another voice stays under 0.2
TRIES = 4  # a machine that stalls spoils one or two


@pytest.fixture
def pulse() -> Iterator[PulseServer]:
    if reason := missing():
        pytest.skip(reason)
    with PulseServer() as server:
        yield server


async def test_a_call_through_alsa(pulse: PulseServer, lab: Lab, tmp_path: Path) -> None:
    alsa = {"card": "alsa", "capture": "boxA", "playback": "boxA"}
    one, other = await asyncio.gather(
        lab.device("a", DIRECT, audio=alsa, environment=pulse.environment), lab.device("b", DIRECT)
    )
    said = speech_like(SAID_S, seed=11, pitch_hz=150.0)
    await asyncio.to_thread(write_wav, tmp_path / "said.wav", said)
    await meet(one, other)
    found = (0.0, 0.0)
    for number in range(TRIES):
        played = tmp_path / f"played-{number}.wav"
        await asyncio.to_thread(pulse.record, "boxA", played)
        await asyncio.to_thread(pulse.say, "boxA", tmp_path / "said.wav")
        await asyncio.sleep(SAID_S + 2.0)
        await asyncio.to_thread(pulse.finish_recordings)
        found = await asyncio.to_thread(compare, lab, played, said)
        if min(found) > HEARD:
            break
    assert min(found) > HEARD, f"heard from ALSA and by ALSA: {found}"
    stats = await one.stats()
    assert stats["engine"]["sound_losses"] == 0
    assert stats["engine"]["thread_errors"] == 0
    other.mark()
    await one.press()
    await ended(one, "hung_up")
    await ended(other, "peer_hung_up")
    # Again: a real card must open a second time.
    await meet(one, other)


def compare(lab: Lab, played: Path, said: Samples) -> tuple[float, float]:
    """How much of each speech came out at the other end."""
    from_alsa = likeness(read_wav(lab.heard("b")), said)
    # What was recorded is a part of what the virtual card says over and over.
    to_alsa = likeness(read_wav(lab.said("b")), read_wav(played))
    return from_alsa, to_alsa
