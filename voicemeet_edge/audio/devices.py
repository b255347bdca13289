"""Which microphones and loudspeakers this machine has, by names that stay when plugs change places.

One rule: a device is named by its card's id (`plughw:CARD=Device`), never by a number. What is here is
read from the kernel's own list under /proc/asound, so nothing is opened and nothing is disturbed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc/asound")
CARD_LINE = re.compile(r"^\s*(\d+)\s+\[(\S+)\s*\]: (\S+) - (.*)$")
PCM_LINE = re.compile(r"^(\d+)-(\d+): (.*?) : (.*?) : (.*)$")
MAX_LINES = 500  # lines read of each list; the kernel knows at most 32 cards


@dataclass(frozen=True, slots=True)
class SoundDevice:
    """One PCM device of a card."""

    name: str
    """What goes into the settings."""
    description: str
    """What is printed on the box, more or less."""
    usb: bool
    capture: bool
    playback: bool

    def sentence(self) -> str:
        """Say for a person what this is and what it can be used for."""
        uses = " and ".join(
            word for word, can in (("microphone", self.capture), ("loudspeaker", self.playback)) if can
        )
        return f'{self.name}: "{self.description}", {"USB" if self.usb else "built in"}, {uses or "unusable"}'


@dataclass(frozen=True, slots=True)
class _Card:
    ident: str
    usb: bool
    description: str


def _lines(path: Path) -> Iterator[str]:
    try:
        yield from path.read_text(errors="replace").splitlines()[:MAX_LINES]
    except OSError:
        return  # no sound in this kernel, or no card: an empty list says that


def _cards(proc: Path) -> dict[int, _Card]:
    """Return the cards by number, for the other list speaks in numbers."""
    found = (CARD_LINE.match(line) for line in _lines(proc / "cards"))
    return {
        int(match[1]): _Card(match[2], (proc / f"card{match[1]}" / "usbid").exists(), match[4].strip())
        for match in found
        if match is not None
    }


def list_devices(proc: Path = PROC) -> list[SoundDevice]:
    """Return every device that can record or play, USB first; empty without a sound card."""
    cards = _cards(proc)
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
            )
        )
    return sorted(devices, key=lambda device: (not device.usb, device.name))


def advice(devices: list[SoundDevice]) -> str:
    """Return what `voicemeet-edge devices` prints: the list, and what to put into the settings."""
    if not devices:
        return 'No sound card. Plug in a USB microphone and loudspeaker, or set card = "virtual" in [audio].'
    lines = [device.sentence() for device in devices]
    microphone = next((device.name for device in devices if device.capture), None)
    loudspeaker = next((device.name for device in devices if device.playback), None)
    if microphone is None or loudspeaker is None:
        lines.append(f"There is no {'microphone' if microphone is None else 'loudspeaker'} among them.")
    else:
        lines.append(f'For the settings: capture = "{microphone}", playback = "{loudspeaker}"')
    return "\n".join(lines)


if __name__ == "__main__":
    print(advice(list_devices()))  # noqa: T201 - a person asked
