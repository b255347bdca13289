from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from voicemeet_edge.backend.admission import new_pass, pass_hash
from voicemeet_edge.backend.verbs import Role
from voicemeet_edge.errors import LocalError
from voicemeet_edge.hub.passes import Pass, PassBook
from voicemeet_edge.hub.updates import BOOK, MAX_ROLLOUTS, Book, Updates, work_on_rollouts
from voicemeet_edge.secret import Secret
from voicemeet_edge.update.offer import UpdateOffer
from voicemeet_edge.update.rollout import STAGE_S, Rollout
from voicemeet_edge.update.version import SystemVersion

BOARD = "voicemeet-edge-device-arm64"
OFFER = UpdateOffer(BOARD, SystemVersion(0, 2, 0), "x.raucb", 6, "ab" * 32)
NOW = 1_800_000_000.0


class Hub:
    def __init__(self, folder: Path, passes: int = 3) -> None:
        self.folder = folder
        self.now = NOW
        self.shown = [new_pass() for _ in range(passes)]
        book = PassBook([Pass(pass_hash(one), "p", Role.CALLER, "", 0) for one in self.shown])
        self.updates = Updates(folder, lambda: book, lambda: self.now)
        (folder / "x.raucb").write_bytes(b"bundle")
        (folder / f"offer-{BOARD}.json").write_bytes(OFFER.serialize())

    async def desk(self, *, resume: str = "", stop: str = "") -> str:
        return await asyncio.to_thread(
            lambda: work_on_rollouts(self.folder, resume=resume, stop=stop, now=NOW)
        )

    async def percent(self) -> int:
        offer = await self.updates.offer(BOARD)
        assert offer is not None
        return offer.percent


@pytest.fixture
def hub(tmp_path: Path) -> Hub:
    return Hub(tmp_path)


async def test_a_version_begins_small_grows_and_is_remembered(hub: Hub) -> None:
    assert await hub.percent() == 1
    assert await hub.updates.told(BOARD, "0.2.0", hub.shown[0], good=True)
    hub.now += STAGE_S
    assert await hub.percent() == 5
    assert json.loads((hub.folder / BOOK).read_text())["rollouts"][0]["stage"] == 1


async def test_the_operators_share_is_a_limit(tmp_path: Path) -> None:
    hub = Hub(tmp_path)
    (hub.folder / f"offer-{BOARD}.json").write_bytes(OFFER.serialize().replace(b"100", b"0"))
    assert await hub.percent() == 0


async def test_without_its_bundle_nothing_is_offered(hub: Hub) -> None:
    (hub.folder / "x.raucb").unlink()
    assert await hub.updates.offer(BOARD) is None
    (hub.folder / f"offer-{BOARD}.json").write_bytes(b"{}")
    assert await hub.updates.offer(BOARD) is None


async def test_only_bundles_of_the_folder_are_files(hub: Hub) -> None:
    (hub.folder.parent / "y.raucb").write_bytes(b"")
    for name in ("../y.raucb", BOOK, "nothing.raucb"):
        assert await hub.updates.bundle(name) is None
    assert await hub.updates.bundle("x.raucb") is not None


async def test_it_stops_by_itself_and_a_person_begins_it_again(hub: Hub) -> None:
    for one in hub.shown[:2]:
        assert await hub.updates.told(BOARD, "0.2.0", one, good=False)
    assert await hub.percent() == 0
    assert "stopped by itself" in await hub.desk()
    await hub.desk(resume="0.2.0")
    assert await hub.percent() == 1
    assert await hub.updates.told(BOARD, "0.2.0", hub.shown[0], good=True), "who told before may tell again"
    await hub.desk(stop="0.2.0")
    assert await hub.percent() == 0


async def test_nobody_counts_twice_or_for_what_is_not_offered(hub: Hub) -> None:
    assert not await hub.updates.told(BOARD, "0.2.0", Secret("nothing"), good=False)
    assert not await hub.updates.told(BOARD, "0.9.0", hub.shown[0], good=False)
    assert not await hub.updates.told("other", "0.2.0", hub.shown[0], good=False)
    assert await hub.updates.told(BOARD, "0.2.0", hub.shown[0], good=False)
    assert not await hub.updates.told(BOARD, "0.2.0", hub.shown[0], good=False)


def test_an_unknown_version_is_said(tmp_path: Path) -> None:
    assert "Nothing was offered" in work_on_rollouts(tmp_path)
    with pytest.raises(LocalError, match="never offered"):
        work_on_rollouts(tmp_path, stop="0.2.0")


def test_a_book_is_read_as_written_and_is_bounded() -> None:
    book = Book()
    for number in range(3 * MAX_ROLLOUTS):
        book = book.with_(Rollout(f"0.1.{number}", NOW, stage=1, good=3))
    assert len(book.rollouts) == MAX_ROLLOUTS
    assert Book.parse(book.serialize()) == book


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"[]",
        b"{}",
        b'{"rollouts": [5], "told": {}}',
        b'{"rollouts": [{"version": "1", "began_at": 0, "stage": 9}], "told": {}}',
        b'{"rollouts": [{"version": "1", "began_at": 0, "good": -1}], "told": {}}',
        b'{"rollouts": [{"version": "1", "began_at": "x"}], "told": {}}',
        b'{"rollouts": [{"version": 1, "began_at": 0}], "told": {}}',
    ],
)
def test_a_spoiled_book_is_an_empty_one(raw: bytes) -> None:
    assert Book.parse(raw) == Book()
