"""Cards that come muted, on doubles of pyalsaaudio's mixer."""

from __future__ import annotations

import alsaaudio
import pytest

from voicemeet_edge.audio.hardware_mixer import make_audible


class FakeMixer:
    """One control, as pyalsaaudio 0.11 shows it."""

    def __init__(
        self, *, playback: int | None = None, capture: int | None = None, on: bool | None = None
    ) -> None:
        self.playback, self.capture, self.on = playback, capture, on
        self.closed = False

    def switchcap(self) -> list[str]:
        return [] if self.on is None else ["Capture Mute" if self.capture is not None else "Playback Mute"]

    def volumecap(self) -> list[str]:
        caps = (("Playback Volume", self.playback), ("Capture Volume", self.capture))
        return [name for name, value in caps if value is not None]

    def getmute(self) -> list[int]:
        return [int(not self.on)]

    def setmute(self, mute: int) -> None:
        self.on = not mute

    def getrec(self) -> list[int]:
        return [int(bool(self.on))]

    def setrec(self, on: int) -> None:
        self.on = bool(on)

    def getvolume(self, kind: int) -> list[int]:
        return [(self.playback if kind == alsaaudio.PCM_PLAYBACK else self.capture) or 0]

    def setvolume(self, percent: int, pcmtype: int) -> None:
        if pcmtype == alsaaudio.PCM_PLAYBACK:
            self.playback = percent
        else:
            self.capture = percent

    def close(self) -> None:
        self.closed = True


class Card:
    """A card with these controls."""

    def __init__(self, **controls: FakeMixer) -> None:
        self.controls = controls

    def names(self, device: str) -> list[str]:
        assert device == "hw:CARD=Device"
        return list(self.controls)

    def open(self, control: str, device: str) -> FakeMixer:
        return self.controls[control]

    def make_audible(self, *, capture: bool) -> list[str]:
        name = "plughw:CARD=Device,DEV=0"
        return make_audible(name, capture=capture, names=self.names, open_mixer=self.open)


def test_a_muted_loudspeaker_is_raised_and_said_once(caplog: pytest.LogCaptureFixture) -> None:
    card = Card(Speaker=FakeMixer(playback=0, on=False), Mic=FakeMixer(playback=0, on=False))
    assert card.make_audible(capture=False) == ["Speaker"]
    assert (card.controls["Speaker"].playback, card.controls["Speaker"].on) == (80, True)
    assert not card.controls["Mic"].on, "a microphone's playback switch is its side tone: it would howl"
    assert caplog.text.count("muted or at zero") == 1
    assert card.make_audible(capture=False) == []


def test_a_muted_microphone_is_raised() -> None:
    card = Card(Mic=FakeMixer(capture=0, on=False), Speaker=FakeMixer(playback=0, on=False))
    assert card.make_audible(capture=True) == ["Mic"]
    assert (card.controls["Mic"].capture, card.controls["Mic"].on) == (80, True)
    assert not card.controls["Speaker"].on


def test_what_somebody_set_stays() -> None:
    card = Card(PCM=FakeMixer(playback=3, on=True), Mic=FakeMixer(capture=1, on=True))
    assert card.make_audible(capture=False) == card.make_audible(capture=True) == []
    assert card.controls["PCM"].playback == 3
    assert all(mixer.closed for mixer in card.controls.values())


def test_a_card_without_a_mixer_is_left_alone() -> None:
    def fail(device: str) -> list[str]:
        raise alsaaudio.ALSAAudioError("No such file or directory [hw:CARD=Device]")

    assert make_audible("plughw:CARD=Device", capture=True, names=fail) == []
    assert make_audible("default", capture=True, names=fail) == []
