"""A clock that is set forward or back by days ends no call and brings no token to life again."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.hub.running import loopback, run
from tests.hub.test_verbs import call, party, refused
from voicemeet_edge.hub.clock import SteadyClock

THREE_DAYS_S = 3 * 86_400.0


def test_the_clock_goes_on_whatever_the_wall_says() -> None:
    wall, steady = [1_000_000.0], [50.0]
    clock = SteadyClock(wall=lambda: wall[0], monotonic=lambda: steady[0])
    steady[0] += 10
    for set_to in (wall[0] + THREE_DAYS_S, wall[0] - THREE_DAYS_S, 0.0):
        wall[0] = set_to
        assert clock() == 1_000_010.0


def test_a_restart_does_not_go_back_behind_what_was() -> None:
    clock = SteadyClock(2_000_000.0, wall=lambda: 1_000_000.0, monotonic=lambda: 7.0)
    assert clock() == 2_000_000.0


@pytest.mark.parametrize("step_s", [THREE_DAYS_S, -THREE_DAYS_S])
async def test_a_running_call_outlives_a_clock_that_is_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step_s: float
) -> None:
    # Fails when Verbs or Tokens are dated by time.time.
    async with run(loopback(tmp_path)) as hub:
        ann, bob = await party(hub), await party(hub)
        ours, theirs = await call(hub, ann, bob)
        real = time.time
        monkeypatch.setattr(time, "time", lambda: real() + step_s)
        renewed = await ann.client.renew(ours.token)
        await hub.talk(ours, theirs)
        assert await ann.client.report(renewed.token, "abuse")
        assert await bob.ask(), "its device token is as good as before"
        for side, reply in ((ann, renewed), (bob, theirs)):
            await side.client.ended(reply.token, 1)
        monkeypatch.setattr(time, "time", real)
        assert (await refused(ann.client.renew(renewed.token))).code == "call_over"
