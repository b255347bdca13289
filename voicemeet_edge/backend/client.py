"""The six verbs from the device's side; the one rule: every failure is a BackendError.

The standard library's HTTP client on one thread of its own and one kept connection: small in memory,
no proxy from the environment, no redirect followed, every answer bounded in size and time. Cancelling
a verb closes its connection, so the thread is free for the next one at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import logging
import socket
import ssl
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar
from urllib.parse import urlsplit

from .. import __version__
from ..errors import BackendError, MessageError
from ..secret import Secret
from ..timeouts import timeout
from .pin import PinMismatchError, tls_context
from .verbs import (
    MAX_REPLY_BYTES,
    EndedRequest,
    ErrorReply,
    LeaveRequest,
    MatchReply,
    MatchRequest,
    OkReply,
    RenewReply,
    ReportReply,
    ReportRequest,
    Role,
    SessionReply,
    Verb,
    parse_match_reply,
    verb_path,
)

logger = logging.getLogger(__name__)

DEFAULT_TIMEOUT_S = 8.0  # s for one verb in all; a phone line's worst round trip fits five times
_Reply = TypeVar("_Reply")

MAX_WAITING = 16  # verbs queued for the one thread; a device has at most three at work


_Answer = tuple[int, bytes, str | None]  # status, body, Retry-After


@dataclass
class _Request:
    """One verb on its way; `abandoned` is set by the loop and read by the thread."""

    verb: Verb
    payload: bytes
    token: Secret | None
    abandoned: bool = False


class Backend:
    """The verbs of one backend, hub or hosted, as coroutines."""

    def __init__(
        self,
        url: str,
        apikey: Secret,
        *,
        tls: ssl.SSLContext | None = None,
        timeout_s: float = DEFAULT_TIMEOUT_S,
    ) -> None:
        """Take the base URL (http or https) and the key; `tls` from `backend.pin.tls_context(pin)`."""
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("the backend's URL must be http://host or https://host")
        self._host = parts.hostname
        self._port = parts.port
        self._prefix = parts.path.rstrip("/")
        self._tls = (tls or tls_context()) if parts.scheme == "https" else None
        self._apikey = apikey
        self._timeout_s = timeout_s
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="backend")
        self._connection: http.client.HTTPConnection | None = None
        self._turn = asyncio.Lock()
        self._waiting = 0
        self._closed = False

    async def session(self, old_token: Secret | None = None) -> SessionReply:
        """Get a device token; giving the old one keeps its standing."""
        return _read(SessionReply.parse, await self._call(Verb.SESSION, {}, old_token))

    async def match(self, device_token: Secret, ticket: str, pool: str, role: Role) -> MatchReply:
        """Ask for a partner, or how the search of this ticket stands."""
        request = MatchRequest(ticket, pool, role)
        return _read(parse_match_reply, await self._call(Verb.MATCH, request.serialize(), device_token))

    async def renew(self, call_token: Secret) -> RenewReply:
        """Get a fresh call JWT and fresh TURN credentials while the call lasts."""
        return _read(RenewReply.parse, await self._call(Verb.RENEW, {}, call_token))

    async def leave(self, device_token: Secret, ticket: str) -> None:
        """Give the ticket up; idempotent."""
        body = await self._call(Verb.LEAVE, LeaveRequest(ticket).serialize(), device_token)
        _read(OkReply.parse, body)

    async def report(self, call_token: Secret, reason: str) -> str:
        """File a report about the other party and return the receipt; idempotent."""
        body = await self._call(Verb.REPORT, ReportRequest(reason).serialize(), call_token)
        return _read(ReportReply.parse, body).receipt

    async def ended(self, call_token: Secret, seconds: int) -> None:
        """Say that the call is over and how long it lasted; idempotent."""
        body = await self._call(Verb.ENDED, EndedRequest(seconds).serialize(), call_token)
        _read(OkReply.parse, body)

    async def close(self) -> None:
        """Close the connection and end the thread; idempotent."""
        if self._closed:
            return
        self._closed = True
        self._abort()
        self._executor.submit(self._drop)
        # The thread ends by itself after the socket is shut; waiting here would block the loop.
        self._executor.shutdown(wait=False)

    async def _call(self, verb: Verb, body: dict[str, object], token: Secret | None) -> object:
        if self._closed:
            raise BackendError("the backend client is closed", code="closed")
        if self._waiting >= MAX_WAITING:
            raise BackendError("too many requests at once", code="too_many_requests", status=429)
        self._waiting += 1
        try:
            async with timeout(self._timeout_s), self._turn:
                return await self._in_thread(verb, body, token)
        except TimeoutError:
            raise BackendError("the backend did not answer in time", code="timeout") from None
        finally:
            self._waiting -= 1

    async def _in_thread(self, verb: Verb, body: dict[str, object], token: Secret | None) -> object:
        loop = asyncio.get_running_loop()
        payload = json.dumps(body, separators=(",", ":")).encode()
        request = _Request(verb, payload, token)
        future = loop.run_in_executor(self._executor, self._exchange, request)
        try:
            status, answer, retry_after = await asyncio.shield(future)
        except asyncio.CancelledError:
            request.abandoned = True
            self._abort()
            # Nobody will read the answer any more; without this the loop would complain about it.
            future.add_done_callback(_forget)
            raise
        return _judge(status, answer, retry_after)

    def _exchange(self, request: _Request) -> _Answer:
        """Send one request; runs on the client's own thread."""
        if request.abandoned:
            raise BackendError("the request was given up", code="abandoned")
        reused = self._connection is not None
        try:
            return self._attempt(request)
        except (http.client.HTTPException, OSError) as error:
            self._drop()
            # A kept connection that the server closed in the meantime says nothing about the server.
            stale = isinstance(error, http.client.RemoteDisconnected | BrokenPipeError | ConnectionResetError)
            if not (reused and stale) or request.abandoned or self._closed:
                raise _as_backend_error(error) from None
        try:
            return self._attempt(request)
        except (http.client.HTTPException, OSError) as error:
            self._drop()
            raise _as_backend_error(error) from None

    def _attempt(self, request: _Request) -> _Answer:
        connection = self._connection or self._connect()
        headers = {
            "apikey": self._apikey.reveal(),
            "Content-Type": "application/json",
            "Accept": "application/json",
            "User-Agent": f"voicemeet-edge/{__version__}",
        }
        if request.token is not None:
            headers["Authorization"] = f"Bearer {request.token.reveal()}"
        connection.request("POST", self._prefix + verb_path(request.verb), request.payload, headers)
        response = connection.getresponse()
        answer = response.read(MAX_REPLY_BYTES + 1)
        if len(answer) > MAX_REPLY_BYTES:
            self._drop()
            raise BackendError("the answer is too large", code="reply_too_large", status=response.status)
        if response.will_close:
            self._drop()
        return response.status, answer, response.getheader("Retry-After")

    def _connect(self) -> http.client.HTTPConnection:
        if self._tls is None:
            connection = http.client.HTTPConnection(self._host, self._port, timeout=self._timeout_s)
        else:
            connection = http.client.HTTPSConnection(
                self._host, self._port, timeout=self._timeout_s, context=self._tls
            )
        # Kept before it is connected, so that an abort from the loop finds its socket.
        self._connection = connection
        connection.connect()
        return connection

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _abort(self) -> None:
        """Shut the socket from the loop: the thread's blocking read then fails at once."""
        connection = self._connection
        sock: socket.socket | None = connection.sock if connection is not None else None
        if sock is not None:
            with contextlib.suppress(OSError):
                # Not sock.shutdown: on a TLS socket that first unwinds TLS state the thread is using.
                socket.socket.shutdown(sock, socket.SHUT_RDWR)


def _read(parse: Callable[[object], _Reply], body: object) -> _Reply:
    """Parse a reply; one out of its shape is the backend's failure, and waiting may heal it."""
    try:
        return parse(body)
    except MessageError:
        raise BackendError("the answer is out of shape", code="bad_reply", status=502) from None


def _forget(future: asyncio.Future[_Answer]) -> None:
    if not future.cancelled():
        future.exception()


def _as_backend_error(error: Exception) -> BackendError:
    if isinstance(error, PinMismatchError):
        return BackendError("the server's certificate is not the pinned one", code="pin_mismatch")
    if isinstance(error, ssl.SSLError):
        return BackendError("TLS failed", code="tls")
    if isinstance(error, TimeoutError):
        return BackendError("the backend did not answer in time", code="timeout")
    if isinstance(error, http.client.HTTPException):
        return BackendError("the answer is not HTTP", code="bad_reply")
    # The text of an OSError may hold an address; its kind is enough.
    return BackendError("the backend cannot be reached", code="unreachable")


def _judge(status: int, answer: bytes, retry_after: str | None) -> object:
    """Return the parsed body of a 200, or raise what the status and body say."""
    if 300 <= status < 400:
        raise BackendError("the backend answered with a redirect", code="redirect", status=status)
    try:
        body: object = json.loads(answer)
    except (ValueError, RecursionError):
        body = None
    if status == 200:
        if body is None:
            raise BackendError("the answer is not JSON", code="bad_reply", status=502)
        return body
    try:
        error = ErrorReply.parse(body)
    except MessageError:
        error = ErrorReply(f"http_{status}", f"the backend answered {status}")
    wait = error.retry_after_s
    if wait is None and retry_after is not None and retry_after.isascii() and retry_after.isdigit():
        wait = min(float(retry_after), 3600.0)
    raise BackendError(error.message, code=error.code, status=status, retry_after_s=wait)
