"""The operator's requests at a real hub: only with an operator's pass, and heeded at once."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.hub.running import RunningHub, loopback, new_ticket, run
from voicemeet_edge.backend.admission import admission_key, admission_key_text
from voicemeet_edge.backend.verbs import Role, WaitingReply
from voicemeet_edge.errors import BackendError
from voicemeet_edge.hub.pass_desk import make_pass
from voicemeet_edge.hub.settings import MatchSettings
from voicemeet_edge.hub.store import Store
from voicemeet_edge.provision.enrolment import parse_line
from voicemeet_edge.secret import Secret
from voicemeet_edge.settings import Settings

DOOR = {"role": "caller", "label": "x", "pool": "frontdesk"}


class Office:
    """A hub with a closed pool, and an operator who has a pass."""

    def __init__(self, hub: RunningHub, shown: Secret) -> None:
        self.hub, self.shown = hub, shown

    async def ask(
        self, what: str, body: object = None, *, shown: Secret | None = None
    ) -> tuple[int, dict[str, Any]]:
        """Ask as the page does."""
        headers = {"Authorization": f"Bearer {(shown or self.shown).reveal()}"}
        method = "GET" if body is None else "POST"
        url = f"{self.hub.info.url}/operator/api/{what}"
        async with self.hub.http.request(method, url, json=body, headers=headers) as response:
            return response.status, await response.json()

    async def add(self, role: str, label: str, pool: str = "frontdesk") -> dict[str, Any]:
        """Add a door or a desk."""
        status, made = await self.ask("passes", {"role": role, "label": label, "pool": pool})
        assert status == 200, made
        return made

    async def may_wait(self, shown: str, role: Role) -> bool:
        """Say whether somebody with this pass is let into the pool."""
        client = self.hub.client()
        token = (await client.session(shown_pass=Secret(shown))).device_token
        reply = await client.match(token, new_ticket(), "frontdesk", role)
        return isinstance(reply, WaitingReply)


@pytest.fixture
async def office(tmp_path: Path) -> AsyncIterator[Office]:
    state = tmp_path / "state"
    state.mkdir(mode=0o700)
    store = Store(state / "hub.db")
    await store.open()
    shown = await make_pass(store, "", None, "anna")
    await store.close()
    async with run(loopback(state, match=MatchSettings())) as hub:
        yield Office(hub, shown)


async def test_a_door_is_added_in_every_form_and_let_in_at_once(office: Office) -> None:
    made = await office.add("caller", "Side entrance")
    settings = Settings.parse(made["settings"])
    assert settings.backend.url == office.hub.info.url
    assert settings.backend.apikey == office.hub.info.apikey
    assert settings.backend.pass_ == Secret(made["pass"])
    assert (settings.call.pool, settings.call.role) == ("frontdesk", Role.CALLER)
    assert parse_line(Secret(made["line"])).settings() == Secret(made["settings"])
    assert await office.may_wait(made["pass"], Role.CALLER)


async def test_what_is_taken_back_is_refused_at_once(office: Office) -> None:
    made = await office.add("answerer", "Reception")
    _, told = await office.ask("passes")
    entry = next(entry for entry in told["passes"] if entry["label"] == "Reception")
    assert made["pass"] not in json.dumps(told)
    assert (await office.ask("revoke", {"id": entry["id"]}))[0] == 200
    with pytest.raises(BackendError, match="taken back"):
        await office.may_wait(made["pass"], Role.ANSWERER)
    assert (await office.ask("revoke", {"id": entry["id"]}))[0] == 404


async def test_nobody_else_gets_an_answer(office: Office) -> None:
    door = Secret((await office.add("caller", "Gate"))["pass"])
    for what, body in (
        ("passes", None),
        ("passes", DOOR),
        ("revoke", {"id": "0" * 16}),
        ("admission", {"pool": "frontdesk", "keys": []}),
    ):
        for shown in (door, Secret("nonsense"), office.hub.info.apikey):
            status, told = await office.ask(what, body, shown=shown)
            assert (status, told["error"]["code"]) == (401, "pass_refused")


async def test_who_tries_passes_is_slowed_down(office: Office) -> None:
    answers = [(await office.ask("passes", shown=Secret("nonsense")))[0] for _ in range(30)]
    assert answers[0] == 401
    assert answers[-1] == 429


async def test_an_operators_pass_opens_no_pool_and_can_be_taken_back(office: Office) -> None:
    _, made = await office.ask("passes", {"role": "operator", "label": "ben"})
    second = Secret(made["pass"])
    assert made["link"] == f"{office.hub.info.url}/operator/#pass={second.reveal()}"
    with pytest.raises(BackendError, match="unknown here"):
        await office.may_wait(made["pass"], Role.CALLER)
    _, told = await office.ask("passes", shown=second)
    entry = next(entry for entry in told["passes"] if entry["label"] == "ben")
    assert (await office.ask("revoke", {"id": entry["id"]}, shown=second))[0] == 200
    assert (await office.ask("passes", shown=second))[0] == 401


async def test_a_proof_of_the_key_can_be_asked_for(office: Office) -> None:
    key = admission_key_text(admission_key(bytes(32), "frontdesk")).reveal()
    assert (await office.ask("admission", {"pool": "frontdesk", "keys": [key]}))[0] == 200
    made = await office.add("caller", "Gate")
    assert (await office.ask("passes"))[1]["proofs"] == {"frontdesk": 1}
    with pytest.raises(BackendError, match="proof of the intercom key"):
        await office.may_wait(made["pass"], Role.CALLER)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"role": "caller", "label": "x", "pool": "Front Desk"}, 400),
        ({"role": "king", "label": "x", "pool": "frontdesk"}, 400),
        ({"role": "caller", "label": "x" * 61, "pool": "frontdesk"}, 400),
        ({"role": ["caller"], "label": "x", "pool": "frontdesk"}, 400),
        ([], 400),
    ],
)
async def test_what_cannot_be_is_refused_in_words(office: Office, body: object, status: int) -> None:
    got, told = await office.ask("passes", body)
    assert got == status
    assert len(told["error"]["message"]) > 10


async def test_a_pool_that_the_settings_do_not_name_is_refused(tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir(mode=0o700)
    store = Store(state / "hub.db")
    await store.open()
    shown = await make_pass(store, "", None, "anna")
    await store.close()
    async with run(loopback(state, match=MatchSettings(pools=("lobby",)))) as hub:
        status, told = await Office(hub, shown).ask(
            "passes", {"role": "caller", "label": "x", "pool": "lobyb"}
        )
    assert status == 404
    assert "lobby" in told["error"]["message"]


async def test_the_page_is_served_with_the_desks_policy(office: Office) -> None:
    page = await office.hub.get("/operator/")
    assert page.status == 200
    assert b"operator.js" in page.body
    assert "default-src 'self'" in page.headers["Content-Security-Policy"]
    assert (await office.hub.get("/operator")).headers["Location"] == "/operator/"
    assert (await office.hub.get("/operator/nothing.js")).status == 404
