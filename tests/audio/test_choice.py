"""Which card is taken, and what a person is told about it."""

from __future__ import annotations

import itertools

import pytest

from voicemeet_edge.audio.choice import Choice, SoundDevice, advice, choose

HEADSET = SoundDevice("plughw:CARD=Device", "USB PnP", True, True, True, "0d8c:0014", "1-1.2", "USB-Audio")
SECOND = SoundDevice("plughw:CARD=Device_1", "USB PnP", True, True, True, "0d8c:0014", "1-1.3", "USB-Audio")
WEBCAM = SoundDevice("plughw:CARD=Webcam", "HD Webcam", True, True, False, "046d:0825", "1-1.1", "USB-Audio")
HAT = SoundDevice("plughw:CARD=seeed", "2-mic HAT", False, True, True, driver="simple-card")
JACK = SoundDevice("plughw:CARD=Headphones", "bcm2835", False, False, True, driver="bcm2835_headpho")
SCREEN = SoundDevice("plughw:CARD=vc4hdmi", "vc4-hdmi", False, False, True, driver="vc4-hdmi")
LOOPBACK = SoundDevice("plughw:CARD=Loopback", "Loopback 1", False, True, True, driver="Loopback")


@pytest.mark.parametrize(
    ("devices", "capture", "playback"),
    [
        ([HEADSET], HEADSET, HEADSET),
        ([HEADSET, SCREEN, JACK, WEBCAM, HAT], HEADSET, HEADSET),
        ([SECOND, HEADSET], HEADSET, HEADSET),
        ([HAT, SCREEN], HAT, HAT),
        ([HAT, WEBCAM, SCREEN], HAT, HAT),
        ([WEBCAM, JACK, SCREEN], WEBCAM, JACK),
        ([WEBCAM, SCREEN], WEBCAM, SCREEN),
        ([WEBCAM, JACK, LOOPBACK], WEBCAM, JACK),
        ([LOOPBACK], LOOPBACK, LOOPBACK),
        ([SCREEN], None, SCREEN),
        ([], None, None),
    ],
)
def test_auto(devices: list[SoundDevice], capture: SoundDevice | None, playback: SoundDevice | None) -> None:
    expected = tuple(None if one is None else one.name for one in (capture, playback))
    for order in itertools.permutations(devices):
        choice = choose(order)
        assert (choice.capture, choice.playback) == expected
    assert ("of 2, the first by its place" in choice.why) == (SECOND in devices)


@pytest.mark.parametrize(
    ("capture", "playback", "expected"),
    [
        ("usb:046D:0825", "auto", (WEBCAM.name, HEADSET.name)),
        ("port:1-1.3", "port:1-1.3", (SECOND.name, SECOND.name)),
        ("port:1-1.9", "auto", (None, HEADSET.name)),
        ("plughw:CARD=Gone", "default", ("plughw:CARD=Gone", "default")),
        ("auto", "plughw:CARD=vc4hdmi", (WEBCAM.name, SCREEN.name)),
    ],
)
def test_settings(capture: str, playback: str, expected: tuple[str | None, str | None]) -> None:
    choice = choose([WEBCAM, SECOND, HEADSET, SCREEN], capture, playback)
    assert (choice.capture, choice.playback) == expected
    if expected[0] is None:
        assert "no microphone as set by port:1-1.9" in choice.why


def test_a_second_card_of_a_kind_gets_in_nobodys_way() -> None:
    choice = choose([SECOND, HEADSET], "usb:0d8c:0014", "usb:0d8c:0014")
    assert choice == Choice(HEADSET.name, HEADSET.name, choice.why)


def test_advice_says_what_auto_takes_and_how_to_fix_it() -> None:
    text = advice([HEADSET, SCREEN])
    assert text.splitlines()[-2:] == [
        '"auto", the default, takes: plughw:CARD=Device ("USB PnP"), the USB device with both microphone and '
        "loudspeaker.",
        'To fix that: capture = "plughw:CARD=Device", playback = "plughw:CARD=Device"',
    ]


def test_advice_says_what_is_missing() -> None:
    assert advice([WEBCAM]).endswith("no loudspeaker.")
    assert advice([]).startswith("No sound card.")
