"""The hub's HTTP side: verbs, desk page and health on one aiohttp application.

The one rule: whatever arrives, the answer is small, clear and says nothing about anybody. There is
no access log, and what aiohttp itself would log about a peer is stripped of it.
"""

from __future__ import annotations

import json
import logging
import traceback
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

from aiohttp import hdrs, web

from ..backend.verbs import MAX_REQUEST_BYTES, REALTIME_PATH, VERB_PATH, ErrorReply, Verb
from ..timeouts import timeout
from .refusal import RefusedError
from .service import Asker, Verbs
from .settings import HubSettings

logger = logging.getLogger(__name__)

BODY_TIMEOUT_S = 10.0  # s for the rest of a body to arrive; honest ones come in one packet
APP_MAX_BYTES = 512 * 1024  # bytes: aiohttp's own cap, for Realtime's REST batches; verbs have theirs
MAX_DESK_FILE_BYTES = 2 * 1024 * 1024  # bytes; the page's files are far below
DESK_PREFIX = "/desk"

# 'self' covers the WebSocket of the same host (CSP level 3); blob: is for the page's own sounds.
DESK_POLICY = (
    "default-src 'self'; img-src 'self' data:; media-src 'self' blob:; object-src 'none'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_COMMON_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Server": "voicemeet",
}
_JSON_HEADERS = {
    **_COMMON_HEADERS,
    "Cache-Control": "no-store",
    "Content-Type": "application/json",
}
_DESK_HEADERS = {
    **_COMMON_HEADERS,
    "Cache-Control": "no-cache",
    "Content-Security-Policy": DESK_POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "microphone=(self), camera=(self), geolocation=(), payment=(), usb=()",
    "X-Frame-Options": "DENY",
}
_DESK_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".ico": "image/x-icon",
    ".json": "application/json",
    ".webmanifest": "application/manifest+json",
}
_VERBS = {verb.value: verb for verb in Verb}

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def make_app(
    verbs: Verbs,
    settings: HubSettings,
    apikey: str,
    desk: Mapping[str, bytes],
    attach: Callable[[web.Application], None],
) -> web.Application:
    """Build the application; `attach` adds Realtime's routes before the catch-all."""
    app = web.Application(client_max_size=APP_MAX_BYTES)
    server = _Server(verbs, settings, apikey, desk)
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


def client_address(settings: HubSettings) -> Callable[[web.BaseRequest], str]:
    """Return a function that tells whose request it is, for limits only."""
    proxies = frozenset(settings.http.trusted_proxies)

    def address(request: web.BaseRequest) -> str:
        peer = request.remote or ""
        if peer not in proxies:
            return peer
        # Each proxy appends who spoke to it: the last one that is no proxy of ours is the client.
        for hop in reversed(request.headers.get(hdrs.X_FORWARDED_FOR, "").split(",")):
            if hop.strip() and hop.strip() not in proxies:
                return hop.strip()[:64]
        return peer

    return address


def read_desk(directory: Path) -> dict[str, bytes]:
    """Read the desk page's files once at the start; blocking."""
    files: dict[str, bytes] = {}
    for path in sorted(directory.iterdir()) if directory.is_dir() else ():
        if path.suffix in _DESK_TYPES and path.is_file() and path.stat().st_size <= MAX_DESK_FILE_BYTES:
            files[path.name] = path.read_bytes()
    return files


class DiscreetFilter(logging.Filter):
    """Takes peers' addresses out of what aiohttp logs about its own failures."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Replace the message, which ends in an address, keep the traceback."""
        record.msg, record.args = "an HTTP request failed in the server", ()
        return True


class _Server:
    """The handlers."""

    def __init__(self, verbs: Verbs, settings: HubSettings, apikey: str, desk: Mapping[str, bytes]) -> None:
        self._verbs = verbs
        self._desk = desk
        self._address = client_address(settings)
        config: dict[str, object] = {
            "apikey": apikey,
            "realtime": REALTIME_PATH.rpartition("/")[0],
            "verbs": VERB_PATH,
        }
        if settings.match.pools:
            config["pools"] = list(settings.match.pools)
        self._config = json.dumps(config).encode()

    async def verb(self, request: web.Request) -> web.Response:
        """Answer one of the six verbs."""
        try:
            verb = _VERBS.get(request.match_info.get("verb", ""))
            if verb is None:
                return _refuse(RefusedError(404, "unknown_verb", "there is no such verb"))
            if request.method != hdrs.METH_POST:
                return _refuse(RefusedError(405, "method_not_allowed", "verbs are POSTed"), {"Allow": "POST"})
            address = self._address(request)
            self._verbs.admit(request.headers.get("apikey", ""), address)
            body = _parse(await _read(request))
            asker = Asker(_bearer(request), address)
            return _json(200, await self._verbs.handle(verb, body, asker))
        except RefusedError as refused:
            return _refuse(refused)
        except Exception as error:
            # A bug of ours must not become aiohttp's page, and its text may hold what nobody may log.
            place = traceback.extract_tb(error.__traceback__)[-1]
            kind, name = type(error).__name__, Path(place.filename).name
            logger.error("a verb failed: %s in %s line %s", kind, name, place.lineno)
            logger.debug("the failure in full", exc_info=error)
            message = "the server failed; this is not your fault"
            return _refuse(RefusedError(500, "internal", message, retry_after_s=5.0))

    async def health(self, _request: web.Request) -> web.Response:
        """Say that the loop turns."""
        return _json(200, {"ok": True})

    async def desk_root(self, request: web.Request) -> web.StreamResponse:
        """Serve the page; without the slash its relative links would point beside it."""
        if not request.path.endswith("/"):
            query = f"?{request.rel_url.raw_query_string}" if request.query_string else ""
            return web.Response(status=308, headers={**_DESK_HEADERS, "Location": f"{DESK_PREFIX}/{query}"})
        return self._desk_answer("desk.html")

    async def desk_file(self, request: web.Request) -> web.StreamResponse:
        """Serve one of the page's files."""
        return self._desk_answer(request.match_info["name"])

    async def desk_config(self, _request: web.Request) -> web.Response:
        """Tell the page where it is and with which key it speaks."""
        return web.Response(body=self._config, headers=_JSON_HEADERS)

    async def nothing(self, _request: web.Request) -> web.Response:
        """Answer everything else."""
        return _refuse(RefusedError(404, "not_found", "there is nothing here"))

    def _desk_answer(self, name: str) -> web.Response:
        content = self._desk.get(name)
        if content is None:
            return _refuse(RefusedError(404, "not_found", "there is no such file"))
        kind = _DESK_TYPES[Path(name).suffix]
        return web.Response(body=content, headers={**_DESK_HEADERS, "Content-Type": kind})


def _bearer(request: web.Request) -> str:
    scheme, _, token = request.headers.get(hdrs.AUTHORIZATION, "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


async def _read(request: web.Request) -> bytes:
    """Read a body of at most 16 kB in at most 10 s."""
    length = request.content_length
    if length is not None and length > MAX_REQUEST_BYTES:
        raise _too_large()
    if request.content.is_eof():
        # The usual case: head and body came together, no timer is needed.
        return await request.content.read()
    body = bytearray()
    try:
        async with timeout(BODY_TIMEOUT_S):
            while chunk := await request.content.readany():
                body += chunk
                if len(body) > MAX_REQUEST_BYTES:
                    raise _too_large()
    except TimeoutError:
        raise RefusedError(408, "body_timeout", "the body did not arrive in time") from None
    return bytes(body)


def _parse(raw: bytes) -> object:
    if not raw:
        return {}
    try:
        body: object = json.loads(raw)
    except (ValueError, RecursionError):
        raise RefusedError(400, "bad_json", "the body is not JSON") from None
    return body


def _json(status: int, body: dict[str, object]) -> web.Response:
    return web.Response(
        status=status, body=json.dumps(body, separators=(",", ":")).encode(), headers=_JSON_HEADERS
    )


def _refuse(refused: RefusedError, extra: Mapping[str, str] | None = None) -> web.Response:
    body = ErrorReply(refused.code, str(refused), refused.retry_after_s).serialize()
    response = _json(refused.status, body)
    if refused.retry_after_s is not None:
        # Whole seconds (RFC 9110 section 10.2.3), rounded up: never too early.
        response.headers[hdrs.RETRY_AFTER] = str(int(-(-refused.retry_after_s // 1)))
    if extra:
        response.headers.update(extra)
    if refused.status in (408, 413):
        # What follows on this connection would be the rest of that body.
        response.force_close()
    return response


def _too_large() -> RefusedError:
    return RefusedError(413, "too_large", f"a body has at most {MAX_REQUEST_BYTES} bytes")
