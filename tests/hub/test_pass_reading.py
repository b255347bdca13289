"""What the command line writes beside a running hub: what it gives counts at the first request."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.hub.running import RunningHub, loopback, new_ticket, run
from tests.hub.test_verbs import refused
from voicemeet_edge.backend.admission import admission_key, admission_key_text, make_proof, new_pass
from voicemeet_edge.backend.verbs import Role, WaitingReply
from voicemeet_edge.hub import pass_reading
from voicemeet_edge.hub.admission import Admission
from voicemeet_edge.hub.pass_desk import make_pass, open_store, revoke
from voicemeet_edge.hub.pass_reading import PassReading
from voicemeet_edge.hub.passes import Pass, PassBook
from voicemeet_edge.hub.refusal import RefusedError
from voicemeet_edge.hub.settings import MatchSettings
from voicemeet_edge.hub.store import Store, StoreError
from voicemeet_edge.secret import Secret

POOL = "frontdesk"


@pytest.fixture
async def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[RunningHub]:
    """A hub whose next look by itself never comes in this test."""
    monkeypatch.setattr(pass_reading, "PASSES_INTERVAL_S", 3600.0)
    async with run(loopback(tmp_path / "state", match=MatchSettings())) as hub:
        yield hub


async def passes_asked(hub: RunningHub, shown: Secret) -> int:
    """Return the status of the first thing the operator's page asks."""
    headers = {"Authorization": f"Bearer {shown.reveal()}"}
    async with hub.http.get(f"{hub.info.url}/operator/api/passes", headers=headers) as response:
        return response.status


async def test_the_operators_link_opens_as_soon_as_it_is_printed(hub: RunningHub) -> None:
    async with open_store(hub.settings.state_dir) as store:
        shown = await make_pass(store, "", None, "anna")
        assert await passes_asked(hub, shown) == 200
    assert await passes_asked(hub, new_pass()) == 401


async def test_a_desk_and_its_key_are_let_in_as_soon_as_they_are_made(hub: RunningHub) -> None:
    client = hub.client()
    old, new = (admission_key(content, POOL) for content in (bytes(32), bytes(range(32))))
    async with open_store(hub.settings.state_dir) as store:
        await store.set_admission_keys(POOL, [admission_key_text(old)])
        shown = await make_pass(store, POOL, Role.ANSWERER, "Reception")
        token = (await client.session(shown_pass=shown)).device_token
        ticket = new_ticket()
        proof = make_proof(new, token, POOL, Role.ANSWERER, ticket)
        early = await refused(client.match(token, ticket, POOL, Role.ANSWERER, proof=proof))
        assert early.code == "proof_refused"
        await store.set_admission_keys(POOL, [admission_key_text(old), admission_key_text(new)])
        late = await client.match(token, ticket, POOL, Role.ANSWERER, proof=proof)
        assert isinstance(late, WaitingReply)


async def test_what_was_taken_back_counts_at_the_next_look(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pass_reading, "PASSES_INTERVAL_S", 0.01)
    async with open_store(tmp_path) as mine, open_store(tmp_path) as other:
        shown = await make_pass(other, POOL, Role.CALLER, "Gate")
        admission = Admission((), (), PassBook())
        looking = asyncio.create_task(PassReading(mine, admission).run())
        async with asyncio.timeout(30):
            while admission.book.of_text(shown) is None:  # noqa: ASYNC110 - the book is the event
                await asyncio.sleep(0.01)
            await revoke(other, "Gate")
            while admission.book.of_text(shown) is not None:  # noqa: ASYNC110 - the book is the event
                await asyncio.sleep(0.01)
        looking.cancel()


class SlowStore(Store):
    """Where passes are read first, the rest of that book comes when it is let go."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.is_read, self.goes_on = asyncio.Event(), asyncio.Event()

    async def passes(self) -> list[Pass]:
        """Read, then wait if it is the first time."""
        found = await super().passes()
        if not self.is_read.is_set():
            self.is_read.set()
            await self.goes_on.wait()
        return found


class CountingStore(Store):
    """Counts how often it is asked whether somebody wrote."""

    asked = 0

    async def version(self) -> int:
        """Count, and say."""
        self.asked += 1
        return await super().version()


async def test_many_who_are_refused_at_once_cost_one_look(tmp_path: Path) -> None:
    store = CountingStore(tmp_path / "hub.db")
    await store.open()
    admission = Admission((), (), PassBook())
    reading = PassReading(store, admission)
    strangers = [reading.heeding(lambda: admission.enrol(new_pass())) for _ in range(200)]
    found = await asyncio.gather(*strangers, return_exceptions=True)
    assert {type(one) for one in found} == {RefusedError}
    assert store.asked <= 2
    await store.close()


class BrokenStore(Store):
    """Its disk is gone."""

    async def version(self) -> int:
        """Fail."""
        raise StoreError("the storage failed")


async def test_no_older_book_replaces_what_was_just_written(tmp_path: Path) -> None:
    store = SlowStore(tmp_path / "hub.db")
    await store.open()
    admission = Admission((), (), PassBook())
    reading = PassReading(store, admission)
    looking = asyncio.create_task(reading.heeding(lambda: admission.enrol(new_pass())))
    await store.is_read.wait()
    shown = await make_pass(store, POOL, Role.CALLER, "Gate")
    heeding = asyncio.create_task(reading.anew())
    await asyncio.wait({heeding}, timeout=0.2)  # were it not to wait for the look, it would be done
    store.goes_on.set()
    await heeding
    with pytest.raises(RefusedError):
        await looking
    assert admission.enrol(shown) is not None
    await store.close()


async def test_a_broken_database_leaves_the_refusal_as_it_is(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    admission = Admission((), (), PassBook())
    reading = PassReading(BrokenStore(tmp_path / "hub.db"), admission)
    with pytest.raises(RefusedError, match="unknown here"):
        await reading.heeding(lambda: admission.enrol(new_pass()))
    assert "passes could not be read" in caplog.text
