"""Sentences and check words, spoken by a synthesiser on the device (Debian's espeak-ng).

One rule: it says what it was given or nothing. The words go in by a pipe, not on a command line:
nobody who lists processes learns them.
"""

from __future__ import annotations

import asyncio
import io
import logging
import os
import shutil
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from voicemeet_edge.audio.wav import read_wav
from voicemeet_edge.call.words import as_numbers
from voicemeet_edge.choices import Language
from voicemeet_edge.languages.catalogue import text
from voicemeet_edge.timeouts import timeout

logger = logging.getLogger(__name__)

TIMEOUT_S = 5.0  # s; three words take 0.05 s on a PC and well under a second on a small board
WORDS_PER_MINUTE = 120  # slow enough for a street
PAUSE = " ... "  # between words, so that each can be compared
VOICES = {Language.EN: "en-us", Language.FR: "fr-fr"}  # where the voice is named otherwise than the language
# It writes to a pipe, but its sound library makes a cookie and a folder all the same: a trace on the disk.
NO_PULSE = {"HOME": "/nonexistent", "PULSE_RUNTIME_PATH": "/nonexistent"}
PEAK = 20_000  # of 32767; as loud as a voice, without clipping
MAX_WAV_BYTES = 2_000_000  # bytes; half a minute at the synthesiser's 22,050 Hz


async def speak(words: Sequence[str], language: Language) -> npt.NDArray[np.int16] | None:
    """Return the check words as 48 kHz samples; None when there is no synthesiser or it failed.

    The list is an English one. Who speaks another language says the words' numbers,
    which every desk shows too.
    """
    if not words:
        return None
    shown = words if language is Language.EN else [str(number) for number in as_numbers(words)]
    opening = await asyncio.to_thread(text, language, "spoken.words")  # reads a file
    return await say(PAUSE.join([opening, *shown]), language)


async def say(sentence: str, language: Language) -> npt.NDArray[np.int16] | None:
    """Return a sentence as 48 kHz samples; None when there is no synthesiser or it failed."""
    espeak = await asyncio.to_thread(shutil.which, "espeak-ng")  # looks at the disk, in the middle of a call
    if espeak is None:
        return None
    voice = VOICES.get(language, language.value)
    process = await asyncio.create_subprocess_exec(
        espeak,
        *("-v", voice, "-s", str(WORDS_PER_MINUTE), "--stdin", "--stdout"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env={**os.environ, **NO_PULSE},
    )
    try:
        async with timeout(TIMEOUT_S):
            wav, _ = await process.communicate(sentence.encode())
    except TimeoutError:
        logger.warning("the synthesiser did not answer")
        return None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode != 0 or len(wav) > MAX_WAV_BYTES:
        return None
    return await asyncio.to_thread(_samples, wav)


def _samples(wav: bytes) -> npt.NDArray[np.int16] | None:
    try:
        samples = read_wav(io.BytesIO(wav))
    except ValueError:
        return None
    peak = int(np.abs(samples.astype(np.int32)).max(initial=0))
    return None if peak == 0 else np.asarray(samples * (PEAK / peak)).astype(np.int16)
