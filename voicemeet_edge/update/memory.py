"""Where updates are remembered, as small files that are there whole or not at all."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from voicemeet_edge.errors import EnvironmentFault
from voicemeet_edge.update.history import MAX_HISTORY_BYTES, History
from voicemeet_edge.update.note import read_note, write_note

DATA = Path("/data")  # the data partition of the image
RUN = Path("/run/voicemeet")  # what this start made
TOLD = RUN / "update.json"  # what the running device tells of updates; anybody may read it


class NoImageError(EnvironmentFault):
    """This system does not come from our image, so its packages are updated as all others are."""

    code = "no_image"
    retryable = False


class OtherRunsError(EnvironmentFault):
    """Somebody else updates this system just now."""

    code = "other_update"


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
        self._state = run / "bootstate"

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
        """Read the history; the first time, and after all was lost, a new one is begun and kept."""
        noted = read_note(self._state)
        with contextlib.suppress(OSError), (self._folder / "history.json").open("rb") as file:
            return History.parse(file.read(MAX_HISTORY_BYTES + 1), noted)
        history = History.new(noted)
        self.save(history)
        return history

    def save(self, history: History) -> None:
        """Keep a history. The mark for the scripts comes first: a trial without one would have no limit."""
        self._folder.mkdir(parents=True, exist_ok=True)
        mark = self._folder / "on-trial"
        if history.trial is not None:
            _write(mark, f"{history.trial.slot}\n".encode())
            self._note(history)
        _write(self._folder / "history.json", history.serialize())
        if history.trial is None:
            self._note(history)
            mark.unlink(missing_ok=True)

    def _note(self, history: History) -> None:
        with contextlib.suppress(OSError):  # it is the second place, and needed only when the first is lost
            write_note(self._state, history.trial)

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """While it lasts, nobody else updates.

        Raises:
            OtherRunsError: somebody does already.
        """
        with (self._run / "update.lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise OtherRunsError("another update is under way here") from None
            yield

    @property
    def is_proved(self) -> bool:
        """Whether this start's look at the slot's trust is over, and it is trusted."""
        return (self._run / "proved").exists()

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
