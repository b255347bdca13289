"""How the hub answers over HTTP: small JSON, small errors, small bodies read within a time.

The one rule: an answer says nothing about anybody, and a body that is too large or too slow is refused.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from aiohttp import hdrs, web

from voicemeet_edge.backend.verbs import MAX_REQUEST_BYTES, ErrorReply
from voicemeet_edge.hub.refusal import RefusedError
from voicemeet_edge.timeouts import timeout

BODY_TIMEOUT_S = 10.0  # s for the rest of a body to arrive; honest ones come in one packet
MAX_BODY_BRACKETS = 64  # of a body; ours have one, and nested ones are dear to read

# 'self' covers the WebSocket of the same host (CSP level 3); blob: is for the page's own sounds.
PAGE_POLICY = (
    "default-src 'self'; img-src 'self' data:; media-src 'self' blob:; object-src 'none'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
COMMON_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Server": "voicemeet",
}
JSON_HEADERS = {
    **COMMON_HEADERS,
    "Cache-Control": "no-store",
    "Content-Type": "application/json",
}
PAGE_HEADERS = {
    **COMMON_HEADERS,
    "Cache-Control": "no-cache",
    "Content-Security-Policy": PAGE_POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "microphone=(self), camera=(self), geolocation=(), payment=(), usb=()",
    "X-Frame-Options": "DENY",
}
PAGE_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".ico": "image/x-icon",
    ".json": "application/json",
    ".webmanifest": "application/manifest+json",
}


def bearer(request: web.Request) -> str:
    """Return the bearer token of a request, "" without one."""
    scheme, _, token = request.headers.get(hdrs.AUTHORIZATION, "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


async def read_body(request: web.Request) -> bytes:
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


def parse_body(raw: bytes) -> object:
    """Read a body's JSON; an empty one counts as {}."""
    if not raw:
        return {}
    try:
        if raw.count(b"[") + raw.count(b"{") > MAX_BODY_BRACKETS:
            raise ValueError
        body: object = json.loads(raw)
    except (ValueError, RecursionError):
        raise RefusedError(400, "bad_json", "the body is not JSON") from None
    return body


def json_answer(status: int, body: dict[str, object]) -> web.Response:
    """Answer with a JSON object."""
    return web.Response(
        status=status, body=json.dumps(body, separators=(",", ":")).encode(), headers=JSON_HEADERS
    )


def refuse(refused: RefusedError, extra: Mapping[str, str] | None = None) -> web.Response:
    """Answer with what was refused, and when to come again."""
    body = ErrorReply(refused.code, str(refused), refused.retry_after_s).serialize()
    response = json_answer(refused.status, body)
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
