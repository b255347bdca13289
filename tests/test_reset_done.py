from __future__ import annotations

import numpy as np
import pytest
from typing_extensions import override

from voicemeet_edge import reset_done
from voicemeet_edge.audio.card import CaptureStream, PlaybackStream, SoundCard
from voicemeet_edge.audio.tones import render
from voicemeet_edge.call.signs import Tone
from voicemeet_edge.errors import DeviceLostError
from voicemeet_edge.settings import PanelSettings
from voicemeet_edge.testing.sound import VirtualCard


def test_the_tone_is_played_to_its_end() -> None:
    card = VirtualCard()
    reset_done.play_once(card, Tone.RESET_DONE)
    wanted, heard = (samples.astype(np.float64) for samples in (render(Tone.RESET_DONE), card.heard()))
    assert np.sum(heard**2) > 0.9 * np.sum(wanted**2), "a busy machine may lose a period, and no more"


class NoCard(SoundCard):
    @override
    def open_capture(self) -> CaptureStream:
        raise DeviceLostError

    @override
    def open_playback(self) -> PlaybackStream:
        raise DeviceLostError


async def test_without_sound_and_lamp_it_ends_without_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reset_done, "sound_card", lambda _settings: NoCard())
    monkeypatch.setattr(reset_done, "PanelSettings", lambda: PanelSettings(factory="none"))
    await reset_done.tell_reset_done(show_s=0.1)
