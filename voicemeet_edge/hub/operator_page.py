"""The operator's page: who may call and answer here, given and taken back by whoever has an operator's pass.

The one rule: every request shows its pass anew, so one that was taken back opens nothing a second later.
No cookie is set, so no other page can make a browser act here. The intercom key never comes this way.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from aiohttp import hdrs, web

from voicemeet_edge.backend.admission import MAX_ADMISSION_KEYS, admission_key_text, parse_admission_key
from voicemeet_edge.backend.verbs import POOL_PATTERN, Role
from voicemeet_edge.errors import LocalError
from voicemeet_edge.hub.admission import Admission
from voicemeet_edge.hub.answers import (
    PAGE_HEADERS,
    PAGE_TYPES,
    bearer,
    json_answer,
    parse_body,
    read_body,
    refuse,
)
from voicemeet_edge.hub.listener import wire_of
from voicemeet_edge.hub.pass_desk import make_pass
from voicemeet_edge.hub.pass_reading import PassReading
from voicemeet_edge.hub.refusal import RefusedError
from voicemeet_edge.hub.shares import Shares
from voicemeet_edge.hub.store import Store, StoreError
from voicemeet_edge.provision.enrolment import Enrolment
from voicemeet_edge.records import dataclass
from voicemeet_edge.secret import Secret

PREFIX = "/operator"
API = PREFIX + "/api"
MAX_KEY_TEXT = 64  # characters of an admission key; one has 43

Body = Mapping[str, object]
Work = Callable[[Body], Awaitable[dict[str, object]]]


@dataclass(frozen=True, slots=True)
class Place:
    """What every door and desk of this hub is told."""

    url: str
    apikey: Secret
    pin: str
    pools: Sequence[str]
    """Pools that exist; empty: any."""


class OperatorPage:
    """The page's files and its few requests."""

    def __init__(
        self,
        place: Place,
        files: Mapping[str, bytes],
        store: Store,
        admission: Admission,
        pass_reading: PassReading,
        shares: Shares,
        address_of: Callable[[web.BaseRequest], str],
    ) -> None:
        """`files` are the page's; `admission` is what the verbs ask, so a pass works from the answer on."""
        self._place = place
        self._files = files
        self._store = store
        self._admission = admission
        self._pass_reading = pass_reading
        self._shares = shares
        self._address = address_of

    def attach(self, app: web.Application) -> None:
        """Add the page and what it asks for."""
        app.router.add_get(PREFIX, self._root)
        app.router.add_get(PREFIX + "/", self._root)
        app.router.add_get(f"{API}/passes", self.guarded(self._list))
        app.router.add_post(f"{API}/passes", self.guarded(self._make))
        app.router.add_post(f"{API}/revoke", self.guarded(self._revoke))
        app.router.add_post(f"{API}/admission", self.guarded(self._set_admission))
        app.router.add_get(PREFIX + "/{name}", self._file)

    def guarded(self, work: Work) -> Callable[[web.Request], Awaitable[web.Response]]:
        """Return a handler that does `work` for who shows an operator's pass, and for nobody else."""

        async def handler(request: web.Request) -> web.Response:
            try:
                await self._check_pass(request)
                body = parse_body(await read_body(request)) if request.method == hdrs.METH_POST else {}
                if not isinstance(body, dict):
                    raise RefusedError(400, "bad_request", "the body is no JSON object")
                return json_answer(200, await work(body))
            except RefusedError as refused:
                return refuse(refused)
            except StoreError as error:
                return refuse(RefusedError(503, error.code, str(error), retry_after_s=5.0))
            except LocalError as error:
                return refuse(RefusedError(400, error.code, str(error)))

        return handler

    async def _check_pass(self, request: web.Request) -> None:
        shown = Secret(bearer(request))
        try:
            await self._pass_reading.heeding(lambda: self._admission.check_operator(shown))
        except RefusedError:
            self._shares.wrong_key(self._address(request), time.monotonic())
            raise
        wire = wire_of(request)
        if wire is not None:
            wire.known()

    async def _list(self, _body: Body) -> dict[str, object]:
        book = self._admission.book
        entries = [
            {
                "id": entry.id,
                "label": entry.label,
                "pool": entry.pool,
                "role": entry.role_word,
                "made_at": entry.made_at,
                "revoked_at": entry.revoked_at,
            }
            for entry in book.passes()
        ]
        pools = {entry.pool for entry in book.passes()} - {""}
        proofs = {pool: len(book.admission_keys(pool)) for pool in sorted({*pools, *self._place.pools})}
        return {
            "url": self._place.url,
            "pin": self._place.pin,
            "pools": list(self._place.pools),
            "passes": entries,
            "proofs": proofs,
        }

    async def _make(self, body: Body) -> dict[str, object]:
        label, role = _text(body, "label"), _text(body, "role")
        if role == "operator":
            made = await make_pass(self._store, "", None, label)
            await self._heed()
            return {"pass": made.reveal(), "link": f"{self._place.url}{PREFIX}/#pass={made.reveal()}"}
        pool = self._pool(body)
        if role not in [one.value for one in Role]:
            raise RefusedError(400, "bad_request", "role: expected caller, answerer, either or operator")
        place = self._place
        enrolment = Enrolment(place.url, place.apikey, place.pin, pool, Role(role), label)
        made = await make_pass(self._store, pool, Role(role), label)
        await self._heed()
        enrolment = replace(enrolment, pass_=made)
        return {
            "pass": made.reveal(),
            "settings": enrolment.settings().reveal(),
            "line": enrolment.line().reveal(),
            "link": enrolment.desk_link().reveal(),
        }

    async def _revoke(self, body: Body) -> dict[str, object]:
        entry = self._admission.book.of_id(_text(body, "id"))
        if entry is None:
            raise RefusedError(404, "not_found", "there is no such pass, or it was taken back already")
        await self._store.revoke_pass(entry.hash, time.time())
        await self._heed()
        return {"ok": True}

    async def _set_admission(self, body: Body) -> dict[str, object]:
        pool, keys = self._pool(body), body.get("keys")
        if not isinstance(keys, list) or len(keys) > MAX_ADMISSION_KEYS:
            raise RefusedError(400, "bad_request", f"keys: expected a list of up to {MAX_ADMISSION_KEYS}")
        texts = [Secret(key) for key in keys if isinstance(key, str) and len(key) <= MAX_KEY_TEXT]
        if len(texts) != len(keys):
            raise RefusedError(400, "bad_request", "keys: expected texts")
        await self._store.set_admission_keys(
            pool, [admission_key_text(parse_admission_key(key)) for key in texts]
        )
        await self._heed()
        return {"ok": True}

    async def _heed(self) -> None:
        """Let what was just written count at once."""
        await self._pass_reading.anew()

    def _pool(self, body: Body) -> str:
        pool = _text(body, "pool")
        if not POOL_PATTERN.match(pool):
            raise RefusedError(400, "bad_pool", "a pool's name has small letters, digits and - inside")
        if self._place.pools and pool not in self._place.pools:
            known = ", ".join(self._place.pools)
            raise RefusedError(404, "unknown_pool", f"hub.toml knows these pools: {known}")
        return pool

    async def _root(self, request: web.Request) -> web.StreamResponse:
        """Serve the page; without the slash its relative links would point beside it."""
        if not request.path.endswith("/"):
            return web.Response(status=308, headers={**PAGE_HEADERS, "Location": f"{PREFIX}/"})
        return self._page_file("operator.html")

    async def _file(self, request: web.Request) -> web.StreamResponse:
        return self._page_file(request.match_info["name"])

    def _page_file(self, name: str) -> web.Response:
        content = self._files.get(name)
        if content is None:
            return refuse(RefusedError(404, "not_found", "there is no such file"))
        return web.Response(
            body=content, headers={**PAGE_HEADERS, "Content-Type": PAGE_TYPES[Path(name).suffix]}
        )


def _text(body: Body, name: str) -> str:
    value = body.get(name, "")
    if not isinstance(value, str):
        raise RefusedError(400, "bad_request", f"{name}: expected a text")
    return value
