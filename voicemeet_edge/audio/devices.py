"""Which microphones and loudspeakers this machine has, by names that stay when plugs change places.

One rule: a device is named by its card's id (`plughw:CARD=Device`), never by a number. What is here is
read from the kernel's own lists under /proc/asound and /sys, so nothing is opened and nothing is disturbed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from voicemeet_edge.audio.choice import SoundDevice
from voicemeet_edge.records import dataclass

PROC = Path("/proc/asound")
SYS = Path("/sys/class/sound")
CARD_LINE = re.compile(r"^\s*(\d+)\s+\[(\S+)\s*\]: (\S+) - (.*)$")
PCM_LINE = re.compile(r"^(\d+)-(\d+): (.*?) : (.*?) : (.*)$")
USB_ID = re.compile(r"[0-9a-f]{4}:[0-9a-f]{4}")
USB_PLACE = re.compile(r"/(\d+-\d+(?:\.\d+)*)(?::\d+\.\d+)?(?:/|$)")  # 1-1.2: bus 1, hub port 1, its port 2
MAX_LINES = 500  # lines read of each list; the kernel knows at most 32 cards


@dataclass(frozen=True, slots=True)
class _Card:
    ident: str
    driver: str
    usb: bool
    usb_id: str
    place: str
    description: str


def _lines(path: Path) -> Iterator[str]:
    try:
        yield from path.read_text(errors="replace").splitlines()[:MAX_LINES]
    except OSError:
        return  # no sound in this kernel, or no card: an empty list says that


def _cards(proc: Path, sys: Path) -> dict[int, _Card]:
    """Return the cards by number, for the other list speaks in numbers."""
    cards = {}
    for line in _lines(proc / "cards"):
        match = CARD_LINE.match(line)
        if match is None:
            continue
        number = int(match[1])
        usb_id = next(_lines(proc / f"card{number}" / "usbid"), None)
        cards[number] = _Card(
            ident=match[2],
            driver=match[3],
            usb=usb_id is not None,
            usb_id=usb_id.strip() if usb_id is not None and USB_ID.fullmatch(usb_id.strip()) else "",
            place=_place(sys / f"card{number}" / "device") if usb_id is not None else "",
            description=match[4].strip(),
        )
    return cards


def _place(link: Path) -> str:
    """Return the USB port a card hangs on, from the path of its device."""
    try:
        found = USB_PLACE.findall(str(link.resolve()))
    except OSError:
        return ""
    return found[-1] if found else ""


def list_devices(proc: Path = PROC, sys: Path = SYS) -> list[SoundDevice]:
    """Return every device that can record or play, USB first; empty without a sound card."""
    cards = _cards(proc, sys)
    devices = []
    for line in _lines(proc / "pcm"):
        match = PCM_LINE.match(line)
        if match is None or int(match[1]) not in cards:
            continue
        card, number = cards[int(match[1])], int(match[2])
        suffix = f",DEV={number}" if number else ""
        devices.append(
            SoundDevice(
                name=f"plughw:CARD={card.ident}{suffix}",
                description=card.description,
                usb=card.usb,
                capture="capture" in match[5],
                playback="playback" in match[5],
                usb_id=card.usb_id,
                place=card.place,
                driver=card.driver,
            )
        )
    return sorted(devices, key=lambda device: (not device.usb, device.place, device.name))
