"""Standing by: every call is told, and a refusal is no end."""

from __future__ import annotations

import asyncio

import pytest

from tests.call.ends import MATCHED
from voicemeet_edge.backend.verbs import MatchedReply
from voicemeet_edge.call import standing
from voicemeet_edge.call.search import Search
from voicemeet_edge.call.standing import StandingBy
from voicemeet_edge.errors import BackendError


class Script(Search):
    """A search that ends at once, as it was told."""

    def __init__(self, end: MatchedReply | BackendError) -> None:
        self._end_with = end

    async def find(self) -> MatchedReply:
        if isinstance(self._end_with, BackendError):
            raise self._end_with
        return self._end_with


async def test_it_stands_by_again_after_a_call_and_after_a_refusal(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    monkeypatch.setattr(standing, "REFUSED_S", 0.0)
    monkeypatch.setattr(standing, "APART_S", 0.0)
    ends: list[MatchedReply | BackendError] = [
        MATCHED,
        *[BackendError("this pass was taken back", code="pass_refused", status=403)] * 2,
        MATCHED,
        BackendError("this pass was taken back", code="pass_refused", status=403),
    ]
    called: list[MatchedReply] = []
    done = asyncio.Event()

    def next_search() -> Search:
        if not ends:
            done.set()
            return Script(MATCHED)
        return Script(ends.pop(0))

    task = asyncio.create_task(StandingBy(next_search, called.append).run())
    async with asyncio.timeout(20):
        await done.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert called[:2] == [MATCHED, MATCHED]
    # Said when it begins, not with each try.
    assert caplog.messages == ["no desk can call this door: this pass was taken back (pass_refused)"] * 2
