"""The volume a person chose at the buttons, over restarts.

One rule: it counts as long as the settings say what they said then; who changes `audio.volume` means it.
"""

from __future__ import annotations

import contextlib
import logging
from pathlib import Path

logger = logging.getLogger(__name__)

FILE = Path("/var/lib/voicemeet-edge/volume")  # systemd/tmpfiles.conf makes room for it
MAX_TEXT = 40  # characters


def remembered(setting: int, file: Path = FILE) -> int | None:
    """Return the volume chosen while `audio.volume` was this; None when there is none."""
    try:
        with file.open() as stream:
            base, chosen = (int(word) for word in stream.read(MAX_TEXT).split())
    except (OSError, ValueError):
        return None
    return chosen if base == setting and 0 <= chosen <= 100 else None


def remember(setting: int, chosen: int, file: Path = FILE) -> None:
    """Keep it; where there is no place for it, it is forgotten at the next start."""
    part = file.with_name(file.name + ".new")
    try:
        part.write_text(f"{setting} {chosen}\n")
        part.rename(file)
    except OSError as error:
        logger.info("the volume is not remembered: %s", error.strerror)
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
