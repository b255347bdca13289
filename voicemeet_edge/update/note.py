"""Which slot is on trial, a second time: beside the loader's own state, which outlives data that is lost.

One rule: the history says what is on trial; this is read only where there is none.
"""

from __future__ import annotations

import os
from pathlib import Path

from voicemeet_edge.update.history import OnTrial
from voicemeet_edge.update.version import SystemVersion, VersionError

NOTE_AT = 0x8000  # behind the two copies of 0x4000 bytes that firmware/boot.cmd reads and writes
NOTE_BYTES = 512  # one sector: written whole or not at all
_WORD = "voicemeet-trial"
_SLOTS = ("a", "b")


def read_note(state: Path) -> OnTrial | None:
    """Read it from the partition with the boot state; None when nothing can be read, or is on trial."""
    try:
        with state.open("rb") as file:
            file.seek(NOTE_AT)
            return parse_note(file.read(NOTE_BYTES))
    except OSError:
        return None


def write_note(state: Path, trial: OnTrial | None) -> None:
    """Write what is on trial, or that nothing is.

    Raises:
        OSError: it could not be written.
    """
    line = "" if trial is None else f"{_WORD} {trial.version} {trial.slot} {trial.came_from}\n"
    with state.open("r+b") as file:
        file.seek(NOTE_AT)
        before = file.read(NOTE_BYTES)
        now = line.encode().ljust(NOTE_BYTES, b"\0")
        if before == now:
            return  # each start says so; a card need not write each time
        file.seek(NOTE_AT)
        file.write(now)
        file.flush()
        os.fsync(file.fileno())


def parse_note(raw: bytes) -> OnTrial | None:
    """Read a note; what makes no sense is none."""
    words = raw.split(b"\0")[0].decode("ascii", "replace").split()
    if len(words) != 4 or words[0] != _WORD or set(words[2:]) != set(_SLOTS):
        return None
    try:
        return OnTrial(str(SystemVersion.parse(words[1])), words[2], words[3])
    except VersionError:
        return None
