"""Where updates are remembered, as small files that are there whole or not at all."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from pathlib import Path

from voicemeet_edge.errors import EnvironmentFault
from voicemeet_edge.update.history import MAX_HISTORY_BYTES, History

DATA = Path("/data")  # the data partition of the image
RUN = Path("/run/voicemeet")  # what this start made
TOLD = RUN / "update.json"  # what the running device tells of updates; anybody may read it


class NoImageError(EnvironmentFault):
    """This system does not come from our image, so its packages are updated as all others are."""

    code = "no_image"
    retryable = False


class Memory:
    """The history of one device, and the marks that shell scripts of the image look at.

    Args:
        data: the data partition; kept by updates, erased by a factory reset.
        run: forgotten when the power goes.
    """

    def __init__(self, data: Path = DATA, run: Path = RUN) -> None:
        self._folder = data / "lib/voicemeet-update"
        self._slots = data / "slots"
        self._run = run

    @property
    def folder(self) -> Path:
        """Where a bundle has room while it is fetched."""
        return self._folder

    def slot(self) -> str:
        """Return the slot that runs, "a" or "b".

        Raises:
            NoImageError: this is no system of ours.
        """
        with contextlib.suppress(OSError):
            slot = (self._run / "slot").read_text(encoding="utf-8").strip()
            if slot in ("a", "b"):
                return slot
        raise NoImageError(
            "only the image has two slots to update; on Debian `apt upgrade` updates the package"
        )

    def load(self) -> History:
        """Read the history; the first time a new one is begun and kept."""
        with contextlib.suppress(OSError), (self._folder / "history.json").open("rb") as file:
            return History.parse(file.read(MAX_HISTORY_BYTES + 1))
        history = History.new()
        self.save(history)
        return history

    def save(self, history: History) -> None:
        """Keep a history. The mark for the scripts comes first: a trial without one would have no limit."""
        self._folder.mkdir(parents=True, exist_ok=True)
        mark = self._folder / "on-trial"
        if history.trial is not None:
            _write(mark, f"{history.trial.slot}\n".encode())
        _write(self._folder / "history.json", history.serialize())
        if history.trial is None:
            mark.unlink(missing_ok=True)

    def forget_state_of(self, slot: str) -> None:
        """Take away what a slot kept of its own, so that its next start copies the other's."""
        shutil.rmtree(self._slots / slot, ignore_errors=True)

    def proved(self) -> None:
        """Tell the limit of the trial that it need not strike in this start: what runs is trusted."""
        _write(self._run / "proved", b"")

    def tell(self, history: History, *, slot: str, offered: str = "", refused: bool = False) -> None:
        """Say to the running device what its status shows of updates.

        That one was refused is shown until there is something else to tell: the next night at the latest.
        """
        told = {
            "slot": slot,
            "trial": history.trial is not None,
            "last": history.last,
            "failed": len(history.failed),
            "offered": offered,
            "refused": refused,
            "postponed_until": history.postponed_until,
        }
        path = self._run / TOLD.name
        _write(path, json.dumps(told).encode())
        path.chmod(0o644)


def _write(path: Path, content: bytes) -> None:
    """Write beside and rename: a power cut leaves the old file or the new one."""
    part = path.with_name(path.name + ".new")
    with part.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
