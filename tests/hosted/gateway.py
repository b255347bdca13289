"""A stand-in for Supabase's gateway and Realtime server: the hub's Realtime, asking Postgres who may.

The socket, the channels and their REST side are the hub's own; what is Supabase's is done as its source
does it (supabase/realtime `lib/realtime/tenants/authorization.ex`): a join and a first send are asked of
the policies on `realtime.messages` by probe rows in a transaction that is rolled back. Tokens are verified
against a JWKS. It is a stand-in: the Elixir server itself cannot be had here.

    python -m tests.hosted.gateway SETTINGS.json    # prints its port, ends when its input does
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import aiohttp
import jwt
import psycopg
import yarl
from aiohttp import web

from voicemeet_edge.backend.verbs import VERB_PATH
from voicemeet_edge.hub.realtime.authorizer import Claims, TokenError, TokenFault
from voicemeet_edge.hub.realtime.options import RealtimeOptions
from voicemeet_edge.hub.realtime.server import Realtime

ROLES = ("anon", "authenticated", "service_role")
FAR = 4_102_444_800.0  # unix s: what a publishable key's translated token expires at, here
OPTIONS = replace(RealtimeOptions(), allow_public=False, handshake_error_delay_s=0.1, join_error_delay_s=0.1)
MAX_BODY = 2_000_000  # bytes; the function has its own, much smaller limit
HOP_BY_HOP = ("content-length", "transfer-encoding", "connection")
FUNCTION_PATH = "/voicemeet"  # the platform strips /functions/v1


@dataclass(frozen=True)
class GatewaySettings:
    """What the gateway knows of its project."""

    database: str
    function: str
    publishable: str
    secret: str
    jwk: dict[str, Any]
    port: int = 0


class PolicyAuthorizer:
    """Realtime's Authorizer on a project's keys and on the policies in its database."""

    def __init__(self, settings: GatewaySettings) -> None:
        self._keys = {settings.publishable: "anon", settings.secret: "service_role"}
        self._jwk = jwt.PyJWK(settings.jwk)
        self._kid = settings.jwk["kid"]
        self._database = settings.database
        self._connection: psycopg.Connection[Any] | None = None
        self._decided: dict[tuple[str, str, str, str], bool] = {}

    def apikey_claims(self, key: str) -> Claims:
        """Translate a key as the gateway does."""
        role = self._keys.get(key)
        if role is None:
            raise TokenError(TokenFault.MALFORMED)
        return Claims(role, FAR)

    def token_claims(self, token: str) -> Claims:
        """Verify a token; the algorithm and the key are the project's, found by `kid`."""
        if token in self._keys:
            return self.apikey_claims(token)
        try:
            if jwt.get_unverified_header(token).get("kid") != self._kid:
                raise TokenError(TokenFault.SIGNATURE)
            options = {"verify_exp": False, "verify_iat": False, "verify_nbf": False, "verify_aud": False}
            fields = jwt.decode(token, self._jwk, algorithms=["ES256"], options=options)  # type: ignore[arg-type]
        except jwt.InvalidSignatureError:
            raise TokenError(TokenFault.SIGNATURE) from None
        except (jwt.PyJWTError, ValueError, TypeError):
            raise TokenError(TokenFault.MALFORMED) from None
        if fields.get("role") not in ROLES or not isinstance(fields.get("exp"), int):
            raise TokenError(TokenFault.CLAIMS)
        late_s = time.time() - fields["exp"]
        if late_s >= 0:
            raise TokenError(TokenFault.EXPIRED, late_s)
        return Claims(
            fields["role"], float(fields["exp"]), fields.get("call_id"), fields.get("slot"),
            fields.get("ticket"), fields.get("jti", ""),
        )  # fmt: skip

    def is_enrolled(self, token: str) -> bool:
        return False

    def may_read(self, claims: Claims, topic: str, private: bool) -> bool:
        """Ask the SELECT policies with a probe row."""
        return private and self._ask("read", claims, topic)

    def may_write(self, claims: Claims, topic: str, private: bool) -> bool:
        """Ask the INSERT policies with a probe row."""
        return private and self._ask("write", claims, topic)

    def close(self) -> None:
        """Close the connection to the database."""
        if self._connection is not None:
            self._connection.close()

    def _ask(self, what: str, claims: Claims, topic: str) -> bool:
        # Cached per token and topic, as Realtime caches per channel until a new token comes.
        key = (what, topic, claims.jti, f"{claims.role} {claims.call_id} {claims.slot} {claims.ticket}")
        if key not in self._decided:
            if len(self._decided) > 10_000:
                self._decided.clear()
            for attempt in (1, 2):
                try:
                    self._decided[key] = self._probe(what, claims, topic)
                    break
                except psycopg.errors.CheckViolation:
                    return False  # no partition for today (`MissingPartition`): not a decision to remember
                except psycopg.OperationalError:
                    self._connection = None
                    if attempt == 2:
                        return False
        return self._decided[key]

    def _probe(self, what: str, claims: Claims, topic: str) -> bool:
        if self._connection is None:
            self._connection = psycopg.connect(self._database, autocommit=True, connect_timeout=3)
            self._connection.execute("set role supabase_realtime_admin")
        connection = self._connection
        with connection.transaction(force_rollback=True):
            ids = []
            if what == "read":
                row = connection.execute(
                    "insert into realtime.messages (topic, extension) values (%s, 'broadcast') returning id",
                    [topic],
                ).fetchone()
                assert row is not None
                ids = [row[0]]
            body = {"role": claims.role, "exp": claims.exp, "call_id": claims.call_id, "slot": claims.slot,
                    "ticket": claims.ticket}  # fmt: skip
            connection.execute(
                "select set_config('role', %s, true), set_config('realtime.topic', %s, true), "
                "set_config('request.jwt.claims', %s, true), set_config('request.jwt.claim.role', %s, true)",
                [
                    claims.role,
                    topic,
                    json.dumps({k: v for k, v in body.items() if v is not None}),
                    claims.role,
                ],
            )
            if what == "read":
                found = connection.execute("select id from realtime.messages where id = any(%s)", [ids])
                return found.fetchone() is not None
            try:
                connection.execute(
                    "insert into realtime.messages (topic, extension) values (%s, 'broadcast')", [topic]
                )
            except psycopg.errors.InsufficientPrivilege:
                return False
            return True


class Gateway:
    """The two doors of a project: its function and its Realtime."""

    def __init__(self, settings: GatewaySettings) -> None:
        self._settings = settings
        self._http: aiohttp.ClientSession | None = None
        self.realtime = Realtime(PolicyAuthorizer(settings), OPTIONS)

    def app(self) -> web.Application:
        """Build the application."""
        app = web.Application(client_max_size=MAX_BODY)
        app.router.add_route("*", VERB_PATH + "{rest:.*}", self._function)
        self.realtime.attach(app)
        app.cleanup_ctx.append(self._session)
        return app

    async def _session(self, _app: web.Application) -> Any:
        async with aiohttp.ClientSession(auto_decompress=False) as self._http:
            yield

    async def _function(self, request: web.Request) -> web.Response:
        assert self._http is not None
        # As it was sent: a decoded slash would be another path.
        rest = request.raw_path.removeprefix(VERB_PATH)
        url = yarl.URL(f"{self._settings.function}{FUNCTION_PATH}{rest}", encoded=True)
        passed = {k: v for k, v in request.headers.items() if k.lower() not in ("host", "connection")}
        try:
            body = await request.read()
            async with self._http.request(request.method, url, data=body or None, headers=passed) as answer:
                kept = {k: v for k, v in answer.headers.items() if k.lower() not in HOP_BY_HOP}
                return web.Response(status=answer.status, headers=kept, body=await answer.read())
        except aiohttp.ClientError:
            # The platform's own answer, not in the contract's shape.
            return web.json_response(
                {"code": "BOOT_ERROR", "message": "Function failed to start"}, status=503
            )


async def main(path: str) -> None:
    """Serve until the input ends."""
    settings = GatewaySettings(**json.loads(Path(path).read_text()))  # noqa: ASYNC240 - before anything runs
    runner = web.AppRunner(Gateway(settings).app(), access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", settings.port, backlog=1024).start()
    print(runner.addresses[0][1], flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await runner.cleanup()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
