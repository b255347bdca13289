"""The card's own mixer: nobody hears a loudspeaker that is muted in hardware.

One rule: only what is muted or at zero is touched; a level that somebody set stays.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from typing import Any

import alsaaudio

logger = logging.getLogger(__name__)

AUDIBLE_PERCENT = 80  # where most cards are neither faint nor distorted; loudness itself is audio.volume
CARD_NAME = re.compile(r"CARD=([^,]+)")
# A microphone's *playback* switch is its side tone: unmuting that one would make a howl.
LOUDSPEAKERS = re.compile(r"^(master|pcm|speaker|headphones?|headset|line ?out|digital|playback|hdmi)", re.I)

OpenMixer = Callable[..., Any]


def make_audible(
    device: str,
    *,
    capture: bool,
    names: Callable[..., list[str]] = alsaaudio.mixers,
    open_mixer: OpenMixer = alsaaudio.Mixer,
) -> list[str]:
    """Unmute and raise what would keep a device silent; return the controls that were changed.

    Args:
        device: name for ALSA with `CARD=` in it; others have no mixer we could find.
        capture: the microphone's controls, else the loudspeaker's.
        names: pyalsaaudio's list of a card's controls; a double in tests.
        open_mixer: pyalsaaudio's Mixer; a double in tests.
    """
    match = CARD_NAME.search(device)
    if match is None:
        return []
    card = f"hw:CARD={match[1]}"
    changed = []
    try:
        for name in names(device=card):
            mixer = open_mixer(control=name, device=card)
            try:
                if _raise_capture(mixer) if capture else _raise_playback(mixer, name):
                    changed.append(name)
            finally:
                mixer.close()
    except (alsaaudio.ALSAAudioError, OSError) as error:  # no mixer, or a control of an odd kind
        logger.debug("the mixer of the card cannot be used: %s", error)
    if changed:
        logger.warning(
            "the %s was muted or at zero in the card's own mixer: raised %s",
            "microphone" if capture else "loudspeaker",
            ", ".join(changed),
        )
    return changed


def _raise_playback(mixer: Any, name: str) -> bool:
    if not LOUDSPEAKERS.match(name):
        return False
    changed = False
    if "Playback Mute" in mixer.switchcap() and any(mixer.getmute()):
        mixer.setmute(0)
        changed = True
    if "Playback Volume" in mixer.volumecap() and not any(mixer.getvolume(alsaaudio.PCM_PLAYBACK)):
        mixer.setvolume(AUDIBLE_PERCENT, pcmtype=alsaaudio.PCM_PLAYBACK)
        changed = True
    return changed


def _raise_capture(mixer: Any) -> bool:
    changed = False
    if "Capture Mute" in mixer.switchcap() and not any(mixer.getrec()):
        mixer.setrec(1)
        changed = True
    if "Capture Volume" in mixer.volumecap() and not any(mixer.getvolume(alsaaudio.PCM_CAPTURE)):
        mixer.setvolume(AUDIBLE_PERCENT, pcmtype=alsaaudio.PCM_CAPTURE)
        changed = True
    return changed
