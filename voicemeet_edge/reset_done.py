"""Say that a factory reset is done, by lamp and tone: no settings are left that a device could run with.

One rule: it uses panel and sound as they are without a setting; what of them is missing stays silent.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging

from voicemeet_edge.audio.card import SoundCard
from voicemeet_edge.audio.tones import render
from voicemeet_edge.build import sound_card
from voicemeet_edge.call.signs import Lamp, Tone
from voicemeet_edge.errors import VoiceMeetError, XrunError
from voicemeet_edge.panel.alone import show_lamp
from voicemeet_edge.settings import PanelSettings, Settings
from voicemeet_edge.timeouts import timeout
from voicemeet_edge.voice.format import PERIOD_SAMPLES

logger = logging.getLogger(__name__)

SHOW_S = 600.0  # s the lamp says so: whoever pressed the buttons is back from the fuse box by then
SENTENCE = "Factory reset done: settings, keys, passes, reports and logs of this device are erased."


async def tell_reset_done(show_s: float = SHOW_S) -> None:
    """Play the tone once and show the lamp for a while."""
    try:
        await asyncio.to_thread(play_once, sound_card(Settings()), Tone.RESET_DONE)
    except VoiceMeetError as error:
        logger.info("no tone: %s", error)
    try:
        async with timeout(show_s):
            await show_lamp(PanelSettings(), Lamp.RESET_DONE)
    except TimeoutError:
        pass
    except VoiceMeetError as error:
        logger.info("no lamp: %s", error)


def play_once(card: SoundCard, tone: Tone) -> None:
    """Play a tone to its end; blocks."""
    data, size = render(tone).tobytes(), 2 * PERIOD_SAMPLES
    playback = card.open_playback()
    try:
        for at in range(0, len(data) + 20 * size, size):  # with silence behind, until the card has played all
            with contextlib.suppress(XrunError):
                playback.write(data[at : at + size].ljust(size, b"\0"))
    finally:
        playback.close()
