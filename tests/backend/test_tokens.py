"""A device has one token: asked for once, renewed in time, and replaced when it was refused."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import cast

import pytest

from voicemeet_edge.backend.client import Backend
from voicemeet_edge.backend.tokens import LEAD_JITTER, RENEW_BEFORE_S, DeviceTokens
from voicemeet_edge.backend.verbs import SessionReply
from voicemeet_edge.secret import Secret

DAY_S = 86_400.0


@dataclass
class Sessions:
    """The verb `session` of a backend: a new token each time it is asked."""

    life_s: float
    asked: list[tuple[Secret | None, Secret | None]] = field(default_factory=list)
    now: float = 0.0

    async def session(self, old: Secret | None = None, *, shown_pass: Secret | None = None) -> SessionReply:
        self.asked.append((old, shown_pass))
        await asyncio.sleep(0)
        return SessionReply(Secret(f"token {len(self.asked)}"), self.life_s)

    def tokens(self, shown_pass: Secret | None = None) -> DeviceTokens:
        return DeviceTokens(cast("Backend", self), shown_pass=shown_pass, clock=lambda: self.now)


async def test_all_who_ask_at_once_get_the_same() -> None:
    sessions = Sessions(DAY_S)
    tokens = sessions.tokens(Secret("pass"))
    assert tokens.current is None
    got = await asyncio.gather(*(tokens.get() for _ in range(5)))
    assert set(got) == {Secret("token 1")}
    assert tokens.current == Secret("token 1")
    assert sessions.asked == [(None, Secret("pass"))]


@pytest.mark.parametrize("life_s", [DAY_S, 600.0])
async def test_it_is_renewed_before_its_end_with_the_old_one(life_s: float) -> None:
    sessions = Sessions(life_s)
    tokens = sessions.tokens()
    lead_s = min(RENEW_BEFORE_S, life_s / 2)
    await tokens.get()
    sessions.now = life_s - lead_s * LEAD_JITTER - 1
    assert await tokens.get() == Secret("token 1")
    sessions.now = life_s - lead_s
    assert await tokens.get() == Secret("token 2")
    assert sessions.asked[1] == (Secret("token 1"), None)


async def test_only_the_one_that_was_refused_is_forgotten() -> None:
    sessions = Sessions(DAY_S)
    tokens = sessions.tokens()
    first = await tokens.get()
    tokens.refuse(Secret("another"))
    assert tokens.current == first
    tokens.refuse(first)
    assert tokens.current is None
    assert await tokens.get() == Secret("token 2")
    assert sessions.asked[1] == (None, None), "a refused token is not offered again"
