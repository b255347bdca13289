from __future__ import annotations

from pathlib import Path

import pytest

from voicemeet_edge.audio.devices import list_devices

CARDS = """\
 0 [vc4hdmi        ]: vc4-hdmi - vc4-hdmi
                      vc4-hdmi
 2 [Device         ]: USB-Audio - USB PnP Sound Device
                      C-Media Electronics Inc. USB PnP Sound Device at usb-3f980000.usb-1.2, full speed
 3 [Mic            ]: USB-Audio - Desk Mic
                      Desk Mic at usb-1
"""
PCMS = """\
00-00: MAI PCM i2s-hifi-0 : MAI PCM i2s-hifi-0 : playback 1
02-00: USB Audio : USB Audio : playback 1 : capture 1
03-00: USB Audio : USB Audio : capture 1
03-01: USB Audio : USB Audio #1 : capture 1
"""


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    (tmp_path / "cards").write_text(CARDS)
    (tmp_path / "pcm").write_text(PCMS)
    for number in (2, 3):
        (tmp_path / f"card{number}").mkdir()
        (tmp_path / f"card{number}" / "usbid").write_text("0d8c:0014\n")
    return tmp_path


def test_devices_are_named_by_card_id_usb_first(proc: Path) -> None:
    devices = list_devices(proc)
    assert [device.name for device in devices] == [
        "plughw:CARD=Device",
        "plughw:CARD=Mic",
        "plughw:CARD=Mic,DEV=1",
        "plughw:CARD=vc4hdmi",
    ]
    assert [device.usb for device in devices] == [True, True, True, False]
    assert [(device.capture, device.playback) for device in devices] == [
        (True, True),
        (True, False),
        (True, False),
        (False, True),
    ]


def test_sentence_is_for_people(proc: Path) -> None:
    assert list_devices(proc)[0].sentence() == (
        'plughw:CARD=Device: "USB PnP Sound Device", USB, usb:0d8c:0014, microphone and loudspeaker'
    )


def test_usb_devices_have_vendor_product_and_place(proc: Path, tmp_path: Path) -> None:
    target = tmp_path / "devices/platform/soc/3f980000.usb/usb1/1-1/1-1.2/1-1.2:1.0"
    target.mkdir(parents=True)
    (tmp_path / "sys/card2").mkdir(parents=True)
    (tmp_path / "sys/card2/device").symlink_to(target)
    one = list_devices(proc, tmp_path / "sys")[-2]
    assert (one.usb_id, one.place, one.driver) == ("0d8c:0014", "1-1.2", "USB-Audio")
    assert "USB, usb:0d8c:0014, port:1-1.2" in one.sentence()


def test_no_sound_card_at_all(tmp_path: Path) -> None:
    assert list_devices(tmp_path / "nothing") == []


def test_garbage_is_skipped(proc: Path) -> None:
    (proc / "pcm").write_text("what\n99-00: a : b : playback 1\n\x00\n")
    assert list_devices(proc) == []
