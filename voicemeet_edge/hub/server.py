"""The hub's HTTP side: verbs, desk page and health on one aiohttp application.

The one rule: whatever arrives, the answer is small, clear and says nothing about anybody. There is
no access log, and what aiohttp itself would log about a peer is stripped of it.
"""

from __future__ import annotations

import ipaddress
import json
import logging
import traceback
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path

from aiohttp import hdrs, web

from voicemeet_edge.backend.verbs import REALTIME_PATH, VERB_PATH, Verb
from voicemeet_edge.hub.answers import (
    JSON_HEADERS,
    PAGE_HEADERS,
    PAGE_TYPES,
    bearer,
    json_answer,
    parse_body,
    read_body,
    refuse,
)
from voicemeet_edge.hub.gate import make_gate
from voicemeet_edge.hub.limits import address_key
from voicemeet_edge.hub.listener import wire_of
from voicemeet_edge.hub.refusal import RefusedError
from voicemeet_edge.hub.settings import HubSettings
from voicemeet_edge.hub.verbs import Requester, Verbs
from voicemeet_edge.languages.catalogue import DIRECTORY

logger = logging.getLogger(__name__)

APP_MAX_BYTES = 512 * 1024  # bytes: aiohttp's own cap, for Realtime's REST batches; verbs have theirs
MAX_DESK_FILE_BYTES = 2 * 1024 * 1024  # bytes; the page's files are far below
DESK_PREFIX = "/desk"
DESK_FOLDERS = (Path(__file__).parent / "desk", DIRECTORY)  # page, and what it says in each language

_VERBS = {verb.value: verb for verb in Verb}

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def make_app(
    verbs: Verbs,
    settings: HubSettings,
    apikey: str,
    desk: Mapping[str, bytes],
    attach: Callable[[web.Application], None],
    key_of: Callable[[web.BaseRequest], str],
) -> web.Application:
    """Build the application; `attach` adds other parts' routes before the catch-all."""
    gate = make_gate(settings.http, lambda status, code, text: refuse(RefusedError(status, code, text)))
    app = web.Application(client_max_size=APP_MAX_BYTES, middlewares=[gate])
    server = _Server(verbs, settings, apikey, desk, key_of)
    # The verb is read from the path by hand: one prefix route is the cheapest aiohttp has.
    app.router.add_route("*", VERB_PATH + "/{verb}", server.verb)
    app.router.add_route("*", VERB_PATH, server.verb)
    app.router.add_get("/healthz", server.health)
    app.router.add_get(DESK_PREFIX, server.desk_root)
    app.router.add_get(DESK_PREFIX + "/", server.desk_root)
    app.router.add_get(DESK_PREFIX + "/config.json", server.desk_config)
    app.router.add_get(DESK_PREFIX + "/{name}", server.desk_file)
    attach(app)
    app.router.add_route("*", "/{anything:.*}", server.nothing)
    return app


def client_key(
    settings: HubSettings, on_link: Sequence[ipaddress.IPv6Network] = ()
) -> Callable[[web.BaseRequest], str]:
    """Return a function that tells whose share a request draws from."""
    address = client_address(settings)
    return lambda request: address_key(address(request), on_link)


def client_address(settings: HubSettings) -> Callable[[web.BaseRequest], str]:
    """Return a function that tells from where a request comes, for limits only."""
    proxies = frozenset(settings.http.trusted_proxies)

    def address(request: web.BaseRequest) -> str:
        peer = request.remote or ""
        if peer not in proxies:
            return peer
        # Each proxy appends who spoke to it, some as a line of its own (RFC 9110 section 5.3): of all
        # lines together, the last hop that is no proxy of ours is the client.
        for hop in reversed(",".join(request.headers.getall(hdrs.X_FORWARDED_FOR, ())).split(",")):
            text = _hop(hop)
            if text not in proxies:
                # What is no address was not written by a proxy of ours: then it is the proxy that asks.
                return text or peer
        return peer

    return address


def _hop(text: str) -> str:
    """Return the address of one hop without port and brackets; "" for what is none."""
    bare = text.strip()
    if bare.startswith("["):
        bare = bare[1:].partition("]")[0]
    elif bare.count(":") == 1:
        bare = bare.partition(":")[0]
    try:
        return str(ipaddress.ip_address(bare))
    except ValueError:
        return ""


def read_desk(directory: Path) -> dict[str, bytes]:
    """Read the desk page's files once at the start; blocking."""
    files: dict[str, bytes] = {}
    for path in sorted(directory.iterdir()) if directory.is_dir() else ():
        if path.suffix in PAGE_TYPES and path.is_file() and path.stat().st_size <= MAX_DESK_FILE_BYTES:
            files[path.name] = path.read_bytes()
    return files


def read_page() -> dict[str, bytes]:
    """Read the desk page with its sentences in all languages; blocking."""
    return {name: content for folder in DESK_FOLDERS for name, content in read_desk(folder).items()}


class DiscreetFilter(logging.Filter):
    """Takes peers' addresses out of what aiohttp logs about its own failures."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Replace the message, which ends in an address, keep the traceback."""
        record.msg, record.args = "an HTTP request failed in the server", ()
        return True


class _Server:
    """The handlers."""

    def __init__(
        self,
        verbs: Verbs,
        settings: HubSettings,
        apikey: str,
        desk: Mapping[str, bytes],
        key_of: Callable[[web.BaseRequest], str],
    ) -> None:
        self._verbs = verbs
        self._desk = desk
        self._address = key_of
        config: dict[str, object] = {
            "apikey": apikey,
            "realtime": REALTIME_PATH.rpartition("/")[0],
            "verbs": VERB_PATH,
        }
        if settings.match.pools:
            config["pools"] = list(settings.match.pools)
        config["open_pools"] = list(settings.match.open_pools)
        self._config = json.dumps(config).encode()

    async def verb(self, request: web.Request) -> web.Response:
        """Answer one of the verbs, and count how."""
        verb = _VERBS.get(request.match_info.get("verb", ""))
        response = await self._answer(verb, request)
        self._verbs.answers[verb.value if verb is not None else "other", response.status] += 1
        return response

    async def _answer(self, verb: Verb | None, request: web.Request) -> web.Response:
        try:
            if verb is None:
                return refuse(RefusedError(404, "unknown_verb", "there is no such verb"))
            if request.method != hdrs.METH_POST:
                return refuse(RefusedError(405, "method_not_allowed", "verbs are POSTed"), {"Allow": "POST"})
            requester = Requester(bearer(request), self._address(request))
            self._verbs.admit(request.headers.get("apikey", ""), verb, requester)
            wire = wire_of(request)
            if wire is not None and self._verbs.is_enrolled(requester.bearer):
                wire.known()
            body = parse_body(await read_body(request))
            reply = await self._verbs.handle(verb, body, requester)
            if wire is not None and verb is Verb.SESSION and isinstance(body, dict) and body.get("pass"):
                wire.known()  # a good one, or there would be no answer
            return json_answer(200, reply)
        except RefusedError as refused:
            return refuse(refused)
        except Exception as error:
            # A bug of ours must not become aiohttp's page, and its text may hold what nobody may log.
            place = traceback.extract_tb(error.__traceback__)[-1]
            kind, name = type(error).__name__, Path(place.filename).name
            logger.error("a verb failed: %s in %s line %s", kind, name, place.lineno)
            logger.debug("the failure in full", exc_info=error)
            message = "the server failed; this is not your fault"
            return refuse(RefusedError(500, "internal", message, retry_after_s=5.0))

    async def health(self, _request: web.Request) -> web.Response:
        """Say that the loop turns."""
        return json_answer(200, {"ok": True})

    async def desk_root(self, request: web.Request) -> web.StreamResponse:
        """Serve the page; without the slash its relative links would point beside it."""
        if not request.path.endswith("/"):
            query = f"?{request.rel_url.raw_query_string}" if request.query_string else ""
            return web.Response(status=308, headers={**PAGE_HEADERS, "Location": f"{DESK_PREFIX}/{query}"})
        return self._desk_answer("desk.html")

    async def desk_file(self, request: web.Request) -> web.StreamResponse:
        """Serve one of the page's files."""
        return self._desk_answer(request.match_info["name"])

    async def desk_config(self, _request: web.Request) -> web.Response:
        """Tell the page where it is and with which key it speaks."""
        return web.Response(body=self._config, headers=JSON_HEADERS)

    async def nothing(self, _request: web.Request) -> web.Response:
        """Answer everything else."""
        return refuse(RefusedError(404, "not_found", "there is nothing here"))

    def _desk_answer(self, name: str) -> web.Response:
        content = self._desk.get(name)
        if content is None:
            return refuse(RefusedError(404, "not_found", "there is no such file"))
        kind = PAGE_TYPES[Path(name).suffix]
        return web.Response(body=content, headers={**PAGE_HEADERS, "Content-Type": kind})
