"""Sentences that somebody recorded for this box, in place of the synthesiser's.

One rule: a file that is not there or is no sound is none; nobody goes without a sentence because of it.
"""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import numpy.typing as npt

from voicemeet_edge.audio.wav import read_wav
from voicemeet_edge.choices import Language

logger = logging.getLogger(__name__)

FOLDER = Path("/etc/voicemeet/prompts")  # <language>/<sentence>.wav, such as de/no_answer.wav
MAX_BYTES = 3_000_000  # bytes; half a minute at 48 kHz, which is more than the engine takes


def recorded(name: str, language: Language, folder: Path = FOLDER) -> npt.NDArray[np.int16] | None:
    """Return a recorded sentence as 48 kHz samples; None when there is none. Reads the disk."""
    path = folder / language.value / f"{name}.wav"
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ValueError("too long")
        return np.asarray(read_wav(path))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        logger.warning("a recorded sentence (%s) cannot be used: %s", name, error)
        return None
