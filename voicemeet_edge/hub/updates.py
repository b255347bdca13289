"""Updates that a hub hands to its devices: offers, bundles beside them, and how it went on the first ones.

One rule: a hub vouches for nothing here. Bundles are signed by their maker; the hub only decides how many
devices take one, and a report that stops it must come from a device with a pass, once for each.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Callable
from dataclasses import asdict, field, replace
from pathlib import Path

from voicemeet_edge.errors import LocalError
from voicemeet_edge.hub.passes import PassBook
from voicemeet_edge.hub.store import StoreError
from voicemeet_edge.records import dataclass
from voicemeet_edge.secret import Secret
from voicemeet_edge.update.offer import MAX_OFFER_BYTES, OfferError, UpdateOffer, offer_name
from voicemeet_edge.update.rollout import STAGES, Rollout, next_of

logger = logging.getLogger(__name__)

FOLDER = "updates"  # in the hub's state directory; the operator copies offer and bundle there
BOOK = "rollout.json"
MAX_BOOK_BYTES = 1 << 20  # bytes
MAX_ROLLOUTS = 8  # versions; the oldest is forgotten
MAX_TOLD = 10_000  # devices that are remembered to have told how one version went


@dataclass(frozen=True)
class Book:
    """All roll-outs of a hub."""

    rollouts: tuple[Rollout, ...] = ()
    told: dict[str, list[str]] = field(default_factory=dict)
    """Version: ids of the passes that reported it."""

    @classmethod
    def parse(cls, raw: bytes) -> Book:
        """Read it back; a spoiled one is empty, and every version begins anew with the fewest devices."""
        try:
            table = json.loads(raw)
            rollouts = tuple(_rollout(one) for one in table["rollouts"][-MAX_ROLLOUTS:])
            told = {
                str(version): [str(one) for one in ids][:MAX_TOLD] for version, ids in table["told"].items()
            }
            return cls(rollouts, told)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            return cls()

    def serialize(self) -> bytes:
        """Write it for the file."""
        table = {"rollouts": [asdict(one) for one in self.rollouts], "told": self.told}
        return json.dumps(table, indent=1).encode()

    def with_(self, rollout: Rollout) -> Book:
        """Return a book with this roll-out in the place of what it had of its version."""
        others = tuple(one for one in self.rollouts if one.version != rollout.version)
        kept = (*others, rollout)[-MAX_ROLLOUTS:]
        versions = {one.version for one in kept}
        return Book(kept, {version: ids for version, ids in self.told.items() if version in versions})


def _rollout(table: dict[str, object]) -> Rollout:
    rollout = Rollout(**table)  # type: ignore[arg-type]  # checked below
    numbers = (rollout.stage, rollout.good, rollout.bad)
    if any(isinstance(one, bool) or not isinstance(one, int) or one < 0 for one in numbers):
        raise ValueError
    if rollout.stage >= len(STAGES) or not isinstance(rollout.began_at, int | float):
        raise ValueError
    if not isinstance(rollout.version, str) or not isinstance(rollout.stopped, bool):
        raise ValueError
    return rollout


class Updates:
    """The folder of one hub.

    Args:
        folder: with offers and bundles; made when it is missing.
        passes: the pass book of now.
        now: seconds since 1970.
    """

    def __init__(
        self, folder: Path, passes: Callable[[], PassBook], now: Callable[[], float] = time.time
    ) -> None:
        self._folder = folder
        self._passes = passes
        self._now = now
        self._lock = asyncio.Lock()

    async def offer(self, board: str) -> UpdateOffer | None:
        """Return the offer for a board and the share of devices that take it; StoreError on a full disk."""
        async with self._lock:
            return await asyncio.to_thread(self._offer, board)

    async def bundle(self, name: str) -> Path | None:
        """Return the file of a bundle that is on offer."""
        return await asyncio.to_thread(self._bundle, name)

    def knows(self, shown_pass: Secret) -> bool:
        """Whether this is a pass that opens something here."""
        return self._passes().of_text(shown_pass) is not None

    async def told(self, board: str, version: str, shown_pass: Secret, *, good: bool) -> bool:
        """Count how an update went; False when it does not count. StoreError on a full disk."""
        entry = self._passes().of_text(shown_pass)
        if entry is None:
            return False
        async with self._lock:
            return await asyncio.to_thread(self._count, board, version, entry.id, good)

    def _read(self, name: str, most: int) -> bytes | None:
        path = self._folder / name
        try:
            with path.open("rb") as file:
                return file.read(most + 1)
        except (OSError, ValueError):  # a name with a zero in it is no name
            return None

    def _offer(self, board: str) -> UpdateOffer | None:
        raw = self._read(offer_name(board), MAX_OFFER_BYTES)
        if raw is None:
            return None
        try:
            offer = UpdateOffer.parse(raw)
        except OfferError as error:
            logger.warning("the update on offer cannot be read: %s", error)
            return None
        if self._bundle(offer.bundle) is None:
            return None
        book = self._book()
        before = next_of(book.rollouts, str(offer.version), self._now())
        rollout = before.at(self._now())
        if rollout not in book.rollouts:
            self._keep(book.with_(rollout))
        return replace(offer, percent=min(offer.percent, rollout.percent))

    def _bundle(self, name: str) -> Path | None:
        path = self._folder / name
        return path if path.parent == self._folder and path.suffix == ".raucb" and path.is_file() else None

    def _count(self, board: str, version: str, pass_id: str, good: bool) -> bool:
        offer = self._offer(board)
        book = self._book()
        told = book.told.get(version, [])
        if offer is None or str(offer.version) != version or pass_id in told or len(told) >= MAX_TOLD:
            return False
        before = next_of(book.rollouts, version, self._now())
        after = before.told(good=good)
        if after.stopped and not before.stopped:
            logger.error("the update to %s stopped by itself: it failed on too many devices", version)
        book = replace(book, told={**book.told, version: [*told, pass_id]})
        self._keep(book.with_(after))
        return True

    def _book(self) -> Book:
        return Book.parse(self._read(BOOK, MAX_BOOK_BYTES) or b"")

    def _keep(self, book: Book) -> None:
        part = self._folder / f"{BOOK}.new"
        try:
            part.write_bytes(book.serialize())
            part.replace(self._folder / BOOK)
        except OSError as error:
            said = f"how the update goes cannot be written down ({error.strerror})"
            logger.error("%s", said)
            raise StoreError(said) from None


def work_on_rollouts(folder: Path, *, resume: str = "", stop: str = "", now: float | None = None) -> str:
    """Say how the roll-outs of a hub stand, and begin or stop one; a running hub heeds it at once.

    Raises:
        LocalError: there is no such version.
    """
    path = folder / BOOK
    book = Book.parse(path.read_bytes() if path.exists() else b"")
    for version, change in ((resume, "resume"), (stop, "stop")):
        if not version:
            continue
        found = next((one for one in book.rollouts if one.version == version), None)
        if found is None:
            raise LocalError(f"version {version} was never offered here", code="no_version")
        when = time.time() if now is None else now
        new = found.resumed(when) if change == "resume" else replace(found, stopped=True)
        book = replace(
            book.with_(new), told={**book.told, version: [] if resume else book.told.get(version, [])}
        )
        path.write_bytes(book.serialize())
    return (
        "\n".join(one.sentence() for one in book.rollouts) or f"Nothing was offered yet: {folder} is empty."
    )
