"""A real Realtime server on loopback, and tokens for it, for the tests of both ends."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import jwt
from aiohttp import web

from voicemeet_edge.hub.realtime.authorizer import Claims, TokenError, TokenFault
from voicemeet_edge.hub.realtime.options import RealtimeOptions
from voicemeet_edge.hub.realtime.server import Realtime

SECRET = "a-test-secret-of-at-least-32-characters"
LIFE_S = 36_000.0  # s; some are made when tests are collected, long before they run
FAST = RealtimeOptions(
    allow_public=True, handshake_error_delay_s=0.0, join_error_delay_s=0.0, sweep_s=0.02, max_channels=5
)


class JwtTestAuthorizer:
    """HS256 tokens; a call token opens its own call, `admin` everything, `listener` reads only."""

    def apikey_claims(self, key: str) -> Claims:
        """Take a key that is a token."""
        return self.token_claims(key)

    def token_claims(self, token: str) -> Claims:
        """Verify and read a token."""
        try:
            fields = jwt.decode(token, SECRET, ["HS256"], options={"verify_exp": False})
        except jwt.InvalidSignatureError:
            raise TokenError(TokenFault.SIGNATURE) from None
        except jwt.InvalidTokenError:
            raise TokenError(TokenFault.MALFORMED) from None
        if "role" not in fields or "exp" not in fields:
            raise TokenError(TokenFault.CLAIMS)
        late_s = time.time() - fields["exp"]
        if late_s >= 0:
            raise TokenError(TokenFault.EXPIRED, late_s)
        return Claims(fields["role"], fields["exp"], fields.get("call_id"), fields.get("slot"))

    def is_enrolled(self, token: str) -> bool:
        return False

    def may_read(self, claims: Claims, topic: str, private: bool) -> bool:
        """Public topics are for all, private ones for the call's own tokens."""
        return not private or claims.role in ("admin", "listener") or topic == f"call:{claims.call_id}"

    def may_write(self, claims: Claims, topic: str, private: bool) -> bool:
        """As reading, but a listener only listens."""
        return claims.role != "listener" and self.may_read(claims, topic, private)


def token(role: str = "anon", life_s: float = LIFE_S, **fields: object) -> str:
    """Sign a token."""
    return jwt.encode({"role": role, "exp": time.time() + life_s, **fields}, SECRET, "HS256")


def call_token(call_id: str, slot: str, life_s: float = LIFE_S) -> str:
    """Sign the token of one end of a call."""
    return token(life_s=life_s, call_id=call_id, slot=slot)


class TestHub:
    """A running server; `stop` and `start` again to play a restart on the same port."""

    __test__ = False  # a helper, not a test class

    def __init__(self, options: RealtimeOptions) -> None:
        self._options = options
        self._runner: web.AppRunner | None = None
        self.port = 0
        self.realtime: Realtime

    @property
    def base(self) -> str:
        """The base URL of the backend."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        """The base URL of Realtime, as the official clients want it."""
        return f"ws://127.0.0.1:{self.port}/realtime/v1"

    async def start(self) -> None:
        """Listen on a free port, or on the one of before."""
        self.realtime = Realtime(JwtTestAuthorizer(), self._options)
        app = web.Application()
        self.realtime.attach(app)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=2.0)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port, reuse_address=True)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """Hang up and close the port."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None


@asynccontextmanager
async def hub(**changes: object) -> AsyncIterator[TestHub]:
    """Run a server with these options changed."""
    running = TestHub(replace(FAST, **changes))  # type: ignore[arg-type]  # the keys are RealtimeOptions' own
    await running.start()
    try:
        yield running
    finally:
        await running.stop()
