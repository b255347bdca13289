"""The verbs from the device's side; the one rule: every failure is a BackendError.

The standard library's HTTP client on one thread of its own and one kept connection: small in memory,
no proxy from the environment, no redirect followed, every answer bounded in size and time. Cancelling
a verb closes its connection, so the thread is free for the next one at once. Connections are made on the loop
(`net/eyeballs.py`), where a name's addresses are tried side by side.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import http.client
import json
import logging
import socket
import ssl
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar
from urllib.parse import urlsplit

from voicemeet_edge import __version__
from voicemeet_edge.backend.pin import tls_context
from voicemeet_edge.backend.verbs import (
    MAX_REPLY_BYTES,
    DoorsReply,
    DoorsRequest,
    EndedRequest,
    ErrorReply,
    LeaveRequest,
    MatchReply,
    MatchRequest,
    OkReply,
    RenewReply,
    ReportReply,
    ReportRequest,
    RingingReply,
    Role,
    SessionReply,
    SessionRequest,
    Verb,
    parse_match_reply,
    parse_ringing_reply,
    verb_path,
)
from voicemeet_edge.errors import BackendError, MessageError
from voicemeet_edge.net import eyeballs
from voicemeet_edge.net.certificates import explain
from voicemeet_edge.net.faults import of_os_error
from voicemeet_edge.not_connected import NotConnected
from voicemeet_edge.records import dataclass
from voicemeet_edge.secret import Secret
from voicemeet_edge.timeouts import timeout

logger = logging.getLogger(__name__)

DEFAULT_TIMEOUT_S = 8.0  # s for one verb in all; a phone line's worst round trip fits five times
HEALTH_PATH = "/fleet/v1/health"  # of a hub alone: where a device tells how it is
_Reply = TypeVar("_Reply")

IDLE_S = 6.0  # s without an answer after which a kept connection is doubted; a search asks every 3
IDLE_PATIENCE_S = 1.5  # s a doubted connection gets before a new one is made: somebody may stand there
PATIENCE_S = 3.0  # s any kept connection gets; a new one has the whole time of the verb
MAX_WAITING = 16  # verbs queued for the one thread; a device has at most three at work


_Answer = tuple[int, bytes, str | None]  # status, body, Retry-After


@dataclass
class _Request:
    """One request on its way; `abandoned` is set by the loop and read by the thread."""

    path: str
    payload: bytes
    token: Secret | None
    loop: asyncio.AbstractEventLoop
    """Where connections are made."""
    abandoned: bool = False
    dialling: concurrent.futures.Future[socket.socket] | None = None


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
        self._used_at = 0.0
        self._is_reusing = False  # a request is on its way on a connection of earlier
        self._turn = asyncio.Lock()
        self._waiting = 0
        self._closed = False

    async def session(
        self, old_token: Secret | None = None, *, shown_pass: Secret | None = None
    ) -> SessionReply:
        """Get a device token, enrolled with a pass if one is shown; giving the old one keeps its standing."""
        request = SessionRequest(shown_pass)
        return _read(SessionReply.parse, await self._call(Verb.SESSION, request.serialize(), old_token))

    async def match(
        self, device_token: Secret, ticket: str, pool: str, role: Role, *, proof: str = ""
    ) -> MatchReply:
        """Ask for a partner, or how the search of this ticket stands."""
        return await self.search(device_token, MatchRequest(ticket, pool, role, proof))

    async def search(self, device_token: Secret, request: MatchRequest) -> MatchReply:
        """Ask the same, with all that an answerer or a door can say of itself."""
        return _read(parse_match_reply, await self._call(Verb.MATCH, request.serialize(), device_token))

    async def ring(self, device_token: Secret, request: MatchRequest) -> RingingReply:
        """Ring all free desks, or ask how the ringing of this ticket stands."""
        return _read(parse_ringing_reply, await self._call(Verb.MATCH, request.serialize(), device_token))

    async def doors(self, device_token: Secret, pool: str) -> DoorsReply:
        """List the doors of a closed pool."""
        body = await self._call(Verb.DOORS, DoorsRequest(pool).serialize(), device_token)
        return _read(DoorsReply.parse, body)

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

    def network_changed(self) -> None:
        """Trust the kept connection no longer: it may end at an address that is not ours any more."""
        self._used_at = 0.0
        if self._is_reusing:
            self._abort()  # what waits on it is asked again on a new one

    async def close(self) -> None:
        """Close the connection and end the thread; idempotent."""
        if self._closed:
            return
        self._closed = True
        self._abort()
        self._executor.submit(self._drop)
        # The thread ends by itself after the socket is shut; waiting here would block the loop.
        self._executor.shutdown(wait=False)

    async def tell_health(self, device_token: Secret, health: dict[str, object]) -> None:
        """Tell a hub how this device is; no verb of the contract, and other backends answer 404."""
        await self._post(HEALTH_PATH, health, device_token)

    async def _call(self, verb: Verb, body: dict[str, object], token: Secret | None) -> object:
        return await self._post(verb_path(verb), body, token)

    async def _post(self, path: str, body: dict[str, object], token: Secret | None) -> object:
        if self._closed:
            raise BackendError("the backend client is closed", code="closed")
        if self._waiting >= MAX_WAITING:
            raise BackendError("too many requests at once", code="too_many_requests", status=429)
        self._waiting += 1
        try:
            async with timeout(self._timeout_s), self._turn:
                return await self._in_thread(path, body, token)
        except TimeoutError:
            raise BackendError(NotConnected.TIMEOUT.said, code=NotConnected.TIMEOUT.value) from None
        finally:
            self._waiting -= 1

    async def _in_thread(self, path: str, body: dict[str, object], token: Secret | None) -> object:
        loop = asyncio.get_running_loop()
        payload = json.dumps(body, separators=(",", ":")).encode()
        request = _Request(path, payload, token, loop)
        future = loop.run_in_executor(self._executor, self._exchange, request)
        try:
            status, answer, retry_after = await asyncio.shield(future)
        except asyncio.CancelledError:
            request.abandoned = True
            if request.dialling is not None:
                request.dialling.cancel()
            self._abort()
            # Nobody will read the answer any more; without this the loop would complain about it.
            future.add_done_callback(_forget)
            raise
        return _judge(status, answer, retry_after)

    def _exchange(self, request: _Request) -> _Answer:
        """Send one request; runs on the client's own thread."""
        if request.abandoned:
            raise BackendError("the request was given up", code="abandoned")
        reused = self._is_reusing = self._connection is not None
        try:
            return self._attempt(request)
        except (http.client.HTTPException, OSError) as error:
            self._drop()
            # A kept connection that the server closed in the meantime says nothing about the server, nor does
            # one that a NAT or a roaming Wi-Fi forgot without a word. Every verb may be repeated.
            stale = isinstance(
                error, http.client.RemoteDisconnected | BrokenPipeError | ConnectionResetError | TimeoutError
            )
            if not (reused and stale) or request.abandoned or self._closed:
                raise as_backend_error(error) from None
        finally:
            self._is_reusing = False
        try:
            return self._attempt(request)
        except (http.client.HTTPException, OSError) as error:
            self._drop()
            raise as_backend_error(error) from None

    def _attempt(self, request: _Request) -> _Answer:
        connection = self._connection
        if connection is None:
            connection = self._connect(request)
        else:
            doubted = time.monotonic() - self._used_at > IDLE_S
            connection.sock.settimeout(IDLE_PATIENCE_S if doubted else PATIENCE_S)
        headers = {
            "apikey": self._apikey.reveal(),
            "Content-Type": "application/json",
            "Accept": "application/json",
            "User-Agent": f"voicemeet-edge/{__version__}",
        }
        if request.token is not None:
            headers["Authorization"] = f"Bearer {request.token.reveal()}"
        connection.request("POST", self._prefix + request.path, request.payload, headers)
        response = connection.getresponse()
        answer = response.read(MAX_REPLY_BYTES + 1)
        if len(answer) > MAX_REPLY_BYTES:
            self._drop()
            raise BackendError("the answer is too large", code="reply_too_large", status=response.status)
        self._used_at = time.monotonic()
        if response.will_close:
            self._drop()
        return response.status, answer, response.getheader("Retry-After")

    def _connect(self, request: _Request) -> http.client.HTTPConnection:
        port = self._port or (443 if self._tls is not None else 80)
        connection = http.client.HTTPConnection(self._host, port, timeout=self._timeout_s)
        connection.default_port = 443 if self._tls is not None else 80  # it is not said in `Host`
        dialling = asyncio.run_coroutine_threadsafe(eyeballs.connect(self._host, port), request.loop)
        request.dialling = dialling
        if request.abandoned:  # set before it could see what to cancel
            dialling.cancel()
        try:
            one = dialling.result(self._timeout_s)
        except (concurrent.futures.CancelledError, TimeoutError):
            dialling.cancel()
            dialling.add_done_callback(_close_late)
            raise TimeoutError from None
        # Kept before TLS begins, so that an abort from the loop finds its socket.
        connection.sock = one
        self._connection = connection
        self._used_at = time.monotonic()
        one.settimeout(self._timeout_s)
        if self._tls is not None:
            connection.sock = self._tls.wrap_socket(one, server_hostname=self._host)
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


def _close_late(dialling: concurrent.futures.Future[socket.socket]) -> None:
    if not dialling.cancelled() and dialling.exception() is None:
        dialling.result().close()


def _forget(future: asyncio.Future[_Answer]) -> None:
    if not future.cancelled():
        future.exception()


def as_backend_error(error: Exception) -> BackendError:
    """Say in a sentence why a request over HTTP came to nothing."""
    if isinstance(error, ssl.SSLError):
        code, sentence = explain(error, time.time())
        return BackendError(sentence, code=code.value)
    if isinstance(error, http.client.HTTPException):
        return BackendError("the answer is not HTTP", code="bad_reply")
    reason = of_os_error(error) if isinstance(error, OSError) else NotConnected.UNREACHABLE
    return BackendError(reason.said, code=reason.value)


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
