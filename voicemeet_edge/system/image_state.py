"""What the image says of itself: which slot runs, how updates went, whether what it reads is what was built.

One rule: root makes these files at start, and the updater; a device that is no image has none of them.
"""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

from voicemeet_edge.records import dataclass

RUN = Path("/run/voicemeet")
RELEASE = Path("/usr/lib/voicemeet/release")
MAX_FILE_BYTES = 4_096  # bytes of any of these files
MAX_TEXT = 300  # characters of a sentence


@dataclass(frozen=True)
class ImageState:
    """Values for status and metrics; no identifier of anybody."""

    slot: str
    board: str = ""
    support_until: str = ""
    """Last day of security updates."""
    on_trial: bool = False
    last_update: str = ""
    offered: str = ""
    update_refused: bool = False
    """A bundle that is not for us, or of nobody we trust, was brought here lately."""
    updates_failed: int = 0
    """Versions that did not prove themselves here."""
    integrity_lost: bool = False
    """The running system's hashes did not fit."""
    data_remade: str = ""
    """Why the data partition had to be made anew at this start."""


def read_image_state(run: Path = RUN, release: Path = RELEASE) -> ImageState | None:
    """Read it; None where the system is no image of ours."""
    slot = _read(run / "slot")
    if not slot:
        return None
    lines = dict(line.split("=", 1) for line in _read(release).splitlines() if "=" in line)
    told: dict[str, object] = {}
    with contextlib.suppress(ValueError, RecursionError):
        table = json.loads(_read(run / "update.json"))
        told = table if isinstance(table, dict) else {}
    failed = told.get("failed")
    return ImageState(
        slot=slot[:1],
        board=lines.get("BOARD", "").strip('"'),
        support_until=lines.get("SUPPORT_UNTIL", "").strip('"'),
        on_trial=told.get("trial") is True,
        last_update=str(told.get("last", ""))[:MAX_TEXT],
        offered=str(told.get("offered", ""))[:MAX_TEXT],
        update_refused=told.get("refused") is True,
        updates_failed=failed if isinstance(failed, int) else 0,
        integrity_lost=(run / "integrity-lost").exists(),
        data_remade=_read(run / "data-remade")[:MAX_TEXT],
    )


def fault_of(state: ImageState) -> str | None:
    """Return the code of what the lamp has to say of the system, the worst first; None: all is well."""
    if state.integrity_lost:
        return "integrity_lost"
    return "update_refused" if state.update_refused else None


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(MAX_FILE_BYTES).decode("utf-8", "replace").strip()
    except OSError:
        return ""
