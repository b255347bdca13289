"""Where a test of updates leaves the card, in its machine; the next one of its file takes it."""

from __future__ import annotations

from itertools import count
from pathlib import Path

from tests.machine.qemu import MachineError, System
from tests.machine.station import PROVED, READY, Station


class Shelf:
    """One card after the other: a new one only when a test left the last one in no good state."""

    def __init__(self, built: System, folder: Path) -> None:
        self._built = built
        self._folder = folder
        self._cards = count(1)
        self._versions = count(1)
        self._station: Station | None = None

    def take(self) -> Station:
        """Return a station whose system is trusted and calls: the last one, if it is so."""
        if self._station is not None:
            try:
                self._station.ask(f"test -e /run/voicemeet/proved || exit 1\n{READY}")
                return self._station
            except MachineError as error:
                print(f"a new card: {str(error)[:400]}", flush=True)
                self._station.close()
        folder = self._folder / str(next(self._cards))
        folder.mkdir()
        self._station = station = Station(self._built, folder)
        station.set_up()
        station.ask(PROVED)
        return station

    def close(self) -> None:
        if self._station is not None:
            self._station.close()

    def version(self) -> str:
        """A version that no bundle had yet, newer than all of them."""
        return f"0.2.{next(self._versions)}"
