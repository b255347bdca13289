"""What a hub serves besides verbs and desk page: updates for its devices, and whom to tell of a hole.

One rule: a stranger learns whom to tell of a hole, and what this is; updates are for those with the key.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from aiohttp import web

from voicemeet_edge import __version__
from voicemeet_edge.backend.verbs import Verb
from voicemeet_edge.hub.answers import parse_body, read_body, refuse
from voicemeet_edge.hub.refusal import RefusedError
from voicemeet_edge.hub.store import StoreError
from voicemeet_edge.hub.tls import cut
from voicemeet_edge.hub.updates import Updates
from voicemeet_edge.hub.verbs import Requester, Verbs
from voicemeet_edge.secret import Secret
from voicemeet_edge.timeouts import timeout
from voicemeet_edge.update.offer import PASS_HEADER

MAX_FETCHING = 4  # devices at once that fetch a bundle; the others wait for the next night, or are told when
MAX_STRANGERS = 1  # the same for those that show no pass: a guest who reads slowly must not keep updates away
KNOWN_LIMIT_S = 4 * 3_600.0  # s for one fetch; as long as a device gives it (update/server.py)
STRANGER_LIMIT_S = 600.0  # s; whoever is cut off goes on there at the next try
FETCH_AGAIN_S = 600.0  # s
SECURITY_TXT_DAYS = 180  # RFC 9116 section 2.5.5 asks for less than a year
MODEL = "VoiceMeet Edge hub"


def security_txt(now: datetime, contact: str) -> str:
    """Write /.well-known/security.txt (RFC 9116)."""
    expires = (now + timedelta(days=SECURITY_TXT_DAYS)).replace(microsecond=0)
    until = expires.isoformat().replace("+00:00", "Z")
    return f"Contact: {contact}\nExpires: {until}\nPreferred-Languages: en\n"


class PublicFiles:
    """The handlers.

    Args:
        updates: the hub's updates.
        verbs: whose apikey and limits hold here too.
        key_of: whose share a request draws from.
        contact: whom to tell of a hole; "" while nobody was named.
    """

    def __init__(
        self, updates: Updates, verbs: Verbs, key_of: Callable[[web.BaseRequest], str], contact: str = ""
    ) -> None:
        self._updates = updates
        self._verbs = verbs
        self._key_of = key_of
        self._contact = contact
        self._fetching = asyncio.Semaphore(MAX_FETCHING)
        self._strangers = asyncio.Semaphore(MAX_STRANGERS)

    def attach(self, app: web.Application) -> None:
        """Add the routes."""
        app.router.add_get("/.well-known/security.txt", self.security)
        app.router.add_get("/version", self.version)
        app.router.add_post("/updates/outcome", self.outcome)
        app.router.add_get("/updates/{name}", self.update)

    async def security(self, _request: web.Request) -> web.Response:
        """Say whom to tell of a hole."""
        if not self._contact:
            return _refuse(404, "no_contact", "nobody was named here: http.security_contact in hub.toml")
        return web.Response(
            text=security_txt(datetime.now(UTC), self._contact), headers={"Server": "voicemeet"}
        )

    async def version(self, _request: web.Request) -> web.Response:
        """Say model and version, without a password (EN 303 645 5.3-16)."""
        table = {"model": MODEL, "version": __version__}
        return web.json_response(table, headers={"Server": "voicemeet", "Cache-Control": "no-store"})

    async def update(self, request: web.Request) -> web.StreamResponse:
        """Serve an offer or a bundle."""
        if (refused := self._refused(request)) is not None:
            return refused
        name = request.match_info["name"]
        if name.startswith("offer-") and name.endswith(".json"):
            try:
                offer = await self._updates.offer(name.removeprefix("offer-").removesuffix(".json"))
            except StoreError as error:
                return _no_room(error)
            if offer is None:
                return _refuse(404, "no_offer", "there is no update for this board")
            return web.Response(body=offer.serialize(), content_type="application/json")
        path = await self._updates.bundle(name)
        if path is None:
            return _refuse(404, "not_found", "there is no such bundle")
        is_known = self._updates.knows(Secret(request.headers.get(PASS_HEADER, "")))
        places = self._fetching if is_known else self._strangers
        if places.locked():
            return refuse(
                RefusedError(503, "busy", "others fetch it now; ask again later", retry_after_s=FETCH_AGAIN_S)
            )
        response = web.FileResponse(path)
        try:
            async with places, timeout(KNOWN_LIMIT_S if is_known else STRANGER_LIMIT_S):
                await response.prepare(request)
                await response.write_eof()
        except TimeoutError:
            cut(request.transport)  # whoever stopped reading would not notice a polite end
        return response

    async def outcome(self, request: web.Request) -> web.Response:
        """Count how an update went on one device."""
        if (refused := self._refused(request)) is not None:
            return refused
        try:
            table = parse_body(await read_body(request))
        except RefusedError as error:
            return refuse(error)
        if not isinstance(table, dict) or not {"board", "version", "good"} <= table.keys():
            return _refuse(400, "bad_outcome", "expected board, version, good and pass")
        board, version, good = str(table["board"]), str(table["version"]), table["good"] is True
        shown = Secret(str(table.get("pass", "")))
        try:
            counted = await self._updates.told(board, version, shown, good=good)
        except StoreError as error:
            return _no_room(error)
        return web.json_response({"counted": counted})

    def _refused(self, request: web.Request) -> web.Response | None:
        """Answer who has not the hub's key, or asks too often; None for everybody else."""
        try:
            requester = Requester("", self._key_of(request))
            self._verbs.admit(request.headers.get("apikey", ""), Verb.REPORT, requester)
        except RefusedError as error:
            return refuse(error)
        return None


def _refuse(status: int, code: str, text: str) -> web.Response:
    return refuse(RefusedError(status, code, text))


def _no_room(error: StoreError) -> web.Response:
    return refuse(RefusedError(503, error.code, str(error), retry_after_s=FETCH_AGAIN_S))
