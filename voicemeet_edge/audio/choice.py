"""Which microphone and which loudspeaker are taken, and why; pure.

One rule: the same cards give the same choice, whatever their numbers and the order they were found in, and
the choice comes with a sentence that a person can argue with.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from voicemeet_edge.records import dataclass

AUTO = "auto"
BY_USB_ID = "usb:"
BY_PLACE = "port:"
# What nobody means when they say nothing: cards that make no sound.
SOUNDLESS = ("Loopback", "Dummy", "snd_aloop", "snd_dummy")


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
    usb_id: str = ""
    """Vendor and product, such as `0d8c:0014`; empty when it is not USB."""
    place: str = ""
    """USB port, such as `1-1.2`; stays when another device is plugged into it."""
    driver: str = ""
    """The kernel's driver, such as `USB-Audio` or `vc4-hdmi`."""

    def sentence(self) -> str:
        """Say for a person what this is and what it can be used for."""
        uses = " and ".join(
            word for word, can in (("microphone", self.capture), ("loudspeaker", self.playback)) if can
        )
        where = "built in"
        if self.usb:
            parts = ("USB", self.usb_id and f"usb:{self.usb_id}", self.place and f"port:{self.place}")
            where = ", ".join(part for part in parts if part)
        return f'{self.name}: "{self.description}", {where}, {uses or "unusable"}'


@dataclass(frozen=True, slots=True)
class Choice:
    """Names for ALSA; None where there is nothing to take."""

    capture: str | None
    playback: str | None
    why: str


def choose(devices: Sequence[SoundDevice], capture: str = AUTO, playback: str = AUTO) -> Choice:
    """Choose among the devices there are.

    Args:
        devices: what the machine has.
        capture: the setting: "auto", "usb:vendor:product", "port:1-1.2", or a name for ALSA, taken as it is.
        playback: the same for the loudspeaker.
    """
    if capture == playback == AUTO:
        return _choose_both(devices)
    microphone, why_microphone = _named(devices, capture, _can_record, "microphone")
    loudspeaker, why_loudspeaker = _named(devices, playback, _can_play, "loudspeaker")
    return Choice(microphone, loudspeaker, f"{why_microphone}; {why_loudspeaker}")


def _can_record(device: SoundDevice) -> bool:
    return device.capture


def _can_play(device: SoundDevice) -> bool:
    return device.playback


def _rank(device: SoundDevice) -> int:
    """0 is best: what was plugged in, then what is on the board, then screens, then what makes no sound."""
    if device.driver in SOUNDLESS:
        return 3
    if device.usb:
        return 0
    return 2 if "hdmi" in f"{device.driver} {device.name}".lower() else 1


def _best(devices: Sequence[SoundDevice]) -> SoundDevice | None:
    return min(devices, key=lambda device: (_rank(device), device.place, device.name), default=None)


def _choose_both(devices: Sequence[SoundDevice]) -> Choice:
    both = [device for device in devices if device.capture and device.playback and _rank(device) < 2]
    one = _best(both)
    if one is not None:
        others = len({device.name for device in both if _rank(device) == _rank(one)}) - 1
        kind = "the USB device" if one.usb else "the card"
        why = f'{one.name} ("{one.description}"), {kind} with both microphone and loudspeaker'
        if others:
            why += (
                f" (of {others + 1}, the first by its place; audio.capture and audio.playback name another)"
            )
        return Choice(one.name, one.name, why)
    microphone, why_microphone = _named(devices, AUTO, _can_record, "microphone")
    loudspeaker, why_loudspeaker = _named(devices, AUTO, _can_play, "loudspeaker")
    return Choice(microphone, loudspeaker, f"{why_microphone}; {why_loudspeaker}")


def _named(
    devices: Sequence[SoundDevice], setting: str, can: Callable[[SoundDevice], bool], what: str
) -> tuple[str | None, str]:
    able = [device for device in devices if can(device)]
    if setting == AUTO:
        found = _best(able)
        reason = "the best there is"
    elif setting.startswith(BY_USB_ID):
        found = _best([device for device in able if device.usb_id == setting.removeprefix(BY_USB_ID).lower()])
        reason = f"as set by {setting}"
    elif setting.startswith(BY_PLACE):
        found = _best([device for device in able if device.place == setting.removeprefix(BY_PLACE)])
        reason = f"as set by {setting}"
    else:
        return setting, f"{what} {setting}, as set"
    if found is None:
        return None, f"no {what}" + ("" if setting == AUTO else f" {reason}")
    return found.name, f'{what} {found.name} ("{found.description}"), {reason}'


def advice(devices: Sequence[SoundDevice]) -> str:
    """Return what `voicemeet-edge devices` prints: the list, what "auto" takes, and how to say otherwise."""
    if not devices:
        return 'No sound card. Plug in a USB microphone and loudspeaker, or set card = "virtual" in [audio].'
    choice = choose(devices)
    lines = [device.sentence() for device in devices]
    lines.append(f'"auto", the default, takes: {choice.why}.')
    if choice.capture is not None and choice.playback is not None:
        lines.append(f'To fix that: capture = "{choice.capture}", playback = "{choice.playback}"')
    return "\n".join(lines)
