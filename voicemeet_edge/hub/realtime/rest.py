"""The REST side of Realtime: broadcasts by POST, in a batch or one by one.

Rule: a request is checked whole before anything is delivered; what is denied in a batch is dropped
without a word (as hosted), what is denied alone is answered 403.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable

from aiohttp import web

from voicemeet_edge.errors import FrameError
from voicemeet_edge.hub.limits import Limiter
from voicemeet_edge.hub.realtime.authorizer import Claims, TokenError
from voicemeet_edge.hub.realtime.connection import Shared
from voicemeet_edge.hub.realtime.topics import broadcast_frame
from voicemeet_edge.signaling.channel import TOPIC_PREFIX
from voicemeet_edge.signaling.frames import MAX_NAME_BYTES, Broadcast, parse_object
from voicemeet_edge.timeouts import timeout

BODY_TIMEOUT_S = 10.0  # s for a whole body, as the verbs have it
MAX_BATCH = 100  # messages in one request; each may go to a whole topic
MAX_REST_ADDRESSES = 10_000  # addresses whose rate is remembered

_CORS = {
    "access-control-allow-origin": "*",
    "access-control-allow-headers": "apikey, authorization, content-type, x-client-info",
    "access-control-allow-methods": "POST, OPTIONS",
    "access-control-max-age": "3600",
}


class _AnswerError(Exception):
    """The request ends with this answer."""

    def __init__(self, status: int, body: dict[str, object], headers: dict[str, str] | None = None) -> None:
        super().__init__(status)
        self.status, self.body, self.headers = status, body, headers or {}


class RestBroadcast:
    """Handlers of `…/api/broadcast`."""

    def __init__(self, shared: Shared, address_of: Callable[[web.BaseRequest], str]) -> None:
        self._shared = shared
        self._address_of = address_of
        self._limiter = Limiter(shared.options.rest, MAX_REST_ADDRESSES)

    def routes(self, base: str) -> list[web.RouteDef]:
        """Return the handlers below this path."""
        single = base + "/{topic}/events/{event}"
        return [
            web.post(base, self._batch),
            web.options(base, self._preflight),
            web.post(single, self._single),
            web.options(single, self._preflight),
        ]

    async def _preflight(self, request: web.Request) -> web.Response:
        return web.Response(status=204, headers=_CORS)

    async def _batch(self, request: web.Request) -> web.Response:
        try:
            claims = self._claims(request)
            if request.content_type != "application/json":
                raise _AnswerError(415, {"message": "Unsupported media type"})
            messages = self._messages(await self._body(request))
        except _AnswerError as answer:
            return self._answer(answer)
        for topic, broadcast, private in messages:
            if self._may_write(claims, topic, private):
                self._send(topic, broadcast, private)
        return self._accepted()

    async def _single(self, request: web.Request) -> web.Response:
        topic, event = request.match_info["topic"], request.match_info["event"]
        private = request.query.get("private") == "true"
        payload: dict[str, object] | bytes
        try:
            claims = self._claims(request)
            if request.content_type not in ("application/json", "application/octet-stream"):
                raise _AnswerError(415, {"message": "Unsupported media type"})
            _check_name(topic, "topic")
            _check_name(event, "event")
            payload = await self._body(request)
            if request.content_type == "application/json":
                payload = _object(payload)
            if not self._may_write(claims, topic, private):
                raise _AnswerError(403, {"message": "Forbidden"})
        except _AnswerError as answer:
            return self._answer(answer)
        self._send(topic, Broadcast(event, payload), private)
        return self._accepted()

    def _claims(self, request: web.Request) -> Claims:
        now = asyncio.get_running_loop().time()
        wait_s = self._limiter.take(self._address_of(request), now)
        if wait_s > 0:
            self._shared.counters.too_fast += 1
            retry = {"retry-after": str(math.ceil(wait_s))}
            raise _AnswerError(429, {"message": "Too many requests"}, retry)
        authorizer = self._shared.authorizer
        scheme, _, bearer = request.headers.get("authorization", "").partition(" ")
        key = request.headers.get("apikey") or request.headers.get("x-api-key") or ""
        try:
            if scheme.lower() == "bearer" and bearer and not bearer.startswith("sb_"):
                # The official clients put the apikey itself here until they have a token.
                return authorizer.apikey_claims(key) if bearer == key else authorizer.token_claims(bearer)
            return authorizer.apikey_claims(key)
        except TokenError:
            raise _AnswerError(401, {"message": "Unauthorized"}) from None

    async def _body(self, request: web.Request) -> bytes:
        # Read by hand: the application's own limit is for its verbs, and the length may be a lie.
        limit = self._shared.options.max_payload_bytes
        body = bytearray()
        try:
            async with timeout(BODY_TIMEOUT_S):
                async for chunk in request.content.iter_chunked(65_536):
                    body += chunk
                    if len(body) > limit:
                        raise _AnswerError(413, {"message": "Payload too large"}, {"connection": "close"})
        except TimeoutError:
            raise _AnswerError(408, {"message": "Request timeout"}, {"connection": "close"}) from None
        now = asyncio.get_running_loop().time()
        if self._shared.address_bytes.take(self._address_of(request), now, len(body)) > 0:
            raise _AnswerError(429, {"message": "Too many bytes"}, {"connection": "close"})
        return bytes(body)

    def _messages(self, body: bytes) -> list[tuple[str, Broadcast, bool]]:
        messages = _object(body).get("messages")
        if not isinstance(messages, list) or not messages or len(messages) > MAX_BATCH:
            raise _invalid("messages", f"must be a list of 1 to {MAX_BATCH}")
        result: list[tuple[str, Broadcast, bool]] = []
        for message in messages:
            if not isinstance(message, dict):
                raise _invalid("messages", "must be objects")
            payload = message.get("payload")
            if not isinstance(payload, dict):
                raise _invalid("payload", "must be an object")
            topic, event = (
                _check_name(message.get("topic"), "topic"),
                _check_name(message.get("event"), "event"),
            )
            result.append((topic, Broadcast(event, payload), message.get("private") is True))
        return result

    def _may_write(self, claims: Claims, topic: str, private: bool) -> bool:
        if not private and not self._shared.options.allow_public:
            return False
        allowed = self._shared.authorizer.may_write(claims, topic, private)
        self._shared.counters.refused_writes += not allowed
        return allowed

    def _send(self, topic: str, broadcast: Broadcast, private: bool) -> None:
        wire_topic = TOPIC_PREFIX + topic
        outgoing = broadcast_frame(wire_topic, broadcast, is_binary=False)
        count = self._shared.topics.broadcast(wire_topic, private, outgoing)
        self._shared.counters.delivered += count

    def _accepted(self) -> web.Response:
        rate = self._shared.options.rest
        return web.Response(status=202, headers={**_CORS, "x-rate-limit": f"{rate.per_s:.0f}"})

    def _answer(self, answer: _AnswerError) -> web.Response:
        return web.json_response(answer.body, status=answer.status, headers={**_CORS, **answer.headers})


def _object(body: bytes) -> dict[str, object]:
    try:
        return parse_object(body.decode())
    except (UnicodeDecodeError, FrameError):
        raise _invalid("body", "is not a JSON object") from None


def _check_name(value: object, key: str) -> str:
    if not isinstance(value, str) or not value:
        raise _invalid(key, "can't be blank")
    size = len(value.encode(errors="surrogatepass"))
    # The prefix counts: on the wire the topic has to fit one length byte.
    if size + len(TOPIC_PREFIX) > MAX_NAME_BYTES or not value.isprintable():
        raise _invalid(key, "is too long or not printable")
    return value


def _invalid(key: str, message: str) -> _AnswerError:
    return _AnswerError(422, {"errors": {key: [message]}})
