"""Looks at a user's own hosted project: what no test of ours can prove, tried once, and nothing left behind.

One rule: everything is done as a device does it, with two devices of a moment; what only the operator can
see is listed with the place to look at.
"""

from __future__ import annotations

import asyncio
import http.client
import secrets
import time
from collections.abc import Awaitable, Callable
from enum import Enum
from typing import TypeVar
from urllib.parse import urlsplit

from voicemeet_edge.backend.client import Backend
from voicemeet_edge.backend.verbs import MatchedReply, Role, Verb, WaitingReply, verb_path
from voicemeet_edge.errors import BackendError, SignalingError, VoiceMeetError
from voicemeet_edge.records import dataclass
from voicemeet_edge.secret import Secret
from voicemeet_edge.signaling.socket import RealtimeSocket
from voicemeet_edge.timeouts import timeout

JOIN_S = 12.0  # s for a join; a hosted refusal alone takes 5
PUSH_S = 10.0  # s in which a push has to come
ASKS = 5  # requests of which the middle time is told

_Result = TypeVar("_Result")


class Verdict(Enum):
    """How a check came out."""

    OK = "ok"
    FAILED = "FAILED"
    LOOK = "look"  # only the operator can see it


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the table."""

    what: str
    outcome: Verdict
    found: str
    cure: str = ""


@dataclass(frozen=True, slots=True)
class Project:
    """What is verified: the base URL that devices get, its public key, and the project behind a door."""

    url: str
    apikey: Secret
    pool: str = "public"
    behind: str = ""
    """The project's own URL where `url` is a door's; "" when there is none in front."""


BY_HAND = (
    (
        "the function signs in as voicemeet_function",
        "SQL editor, right after this: select usename, count(*) from pg_stat_activity "
        "where usename like 'voicemeet%' group by 1",
    ),
    ("the purge runs", "SQL editor: select jobname, active from cron.job; two begin with voicemeet"),
    ("public Realtime access is off", "dashboard, Realtime, Settings: “Allow public access” unticked"),
    (
        "what the logs show of one call",
        "dashboard, Logs, Edge: with the door in front no cf-connecting-ip is a device's; without it each is",
    ),
)


class Verification:
    """One run over a project."""

    def __init__(self, project: Project) -> None:
        self.project = project
        self.checks: list[Check] = []
        self._clients = [Backend(project.url, project.apikey) for _ in range(2)]
        self._tokens: list[Secret] = []
        self._tickets = [secrets.token_urlsafe(16) for _ in range(2)]
        self._matched: list[MatchedReply] = []

    async def run(self) -> list[Check]:
        """Try everything and return the table; never raises for what the project does."""
        socket = RealtimeSocket(self.project.url, self.project.apikey)
        running = asyncio.create_task(socket.run())
        try:
            await self._doors()
            if await self._sessions():
                await self._match(socket)
            if self._matched:
                await self._call(socket)
        finally:
            await self._tidy_up()
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            for client in self._clients:
                await client.close()
        self.checks += [Check(what, Verdict.LOOK, "", where) for what, where in BY_HAND]
        return self.checks

    def _say(self, what: str, good: bool, found: str, cure: str = "") -> bool:
        self.checks.append(Check(what, Verdict.OK if good else Verdict.FAILED, found, "" if good else cure))
        return good

    async def _doors(self) -> None:
        """What must not open."""
        url, key = self.project.url, self.project.apikey.reveal()
        status = await _status("POST", url + verb_path(Verb.SESSION), {"apikey": "sb_publishable_wrong"})
        self._say("a wrong apikey is refused by the function", status == 401, f"status {status}",
                  "redeploy the function; config.toml must have verify_jwt = false")  # fmt: skip
        project = self.project.behind or url
        headers = {"apikey": key, "Accept-Profile": "voicemeet"}
        status = await _status("GET", f"{project}/rest/v1/tickets", headers)
        self._say("the schema is not in the Data API", status not in (0, 200), f"status {status}",
                  "dashboard, Data API, Exposed schemas: take voicemeet out")  # fmt: skip
        if self.project.behind:
            status = await _status("POST", project + verb_path(Verb.SESSION), {"apikey": key})
            self._say("the function is asked through its door only", status == 401, f"status {status}",
                      "set the secret VOICEMEET_DOOR_SECRET to the door's DOOR_SECRET")  # fmt: skip
            status = await _status("GET", f"{url}/rest/v1/", {"apikey": key})
            self._say("the door passes nothing else", status == 404, f"status {status}",
                      "deploy cloudflare/door again")  # fmt: skip

    async def _sessions(self) -> bool:
        times: list[float] = []
        try:
            for client in self._clients:
                self._tokens.append((await client.session()).device_token)
            for _ in range(ASKS):
                start = time.monotonic()
                await self._clients[0].leave(self._tokens[0], self._tickets[0])
                times.append((time.monotonic() - start) * 1000)
        except BackendError as error:
            cure = "supabase functions logs voicemeet; all secrets set? (docs/hosted.md, step 5)"
            return self._say("a device gets a token", False, _words(error), cure)
        return self._say("a device gets a token", True, f"a verb takes {sorted(times)[ASKS // 2]:.0f} ms")

    async def _match(self, socket: RealtimeSocket) -> None:
        pool = self.project.pool
        desk, door = self._clients
        cure = f"SQL editor: select voicemeet.set_pool('{pool}', true); or name another with --pool"
        try:
            # Caller and answerer: in a pool of strangers nobody real is ever met by this.
            waiting = await desk.match(self._tokens[0], self._tickets[0], pool, Role.ANSWERER)
        except BackendError as error:
            self._say("a search starts", False, _words(error), cure)
            return
        if not isinstance(waiting, WaitingReply):
            self._say("a search starts", False, "somebody real was met", "try a pool of your own: --pool")
            self._matched = [waiting]
            return
        pushed = asyncio.Event()
        channel = socket.channel(
            f"wait:{self._tickets[0]}",
            waiting.wait_token,
            on_broadcast=lambda event, _payload: pushed.set() if event == "matched" else None,
            on_state=lambda _state: None,
        )
        start = time.monotonic()
        joined = await _tried(channel.joined(JOIN_S))
        took = f"{(time.monotonic() - start) * 1000:.0f} ms with the connection"
        cure_key = "import the key (dashboard, JWT signing keys) and rotate to it; supabase db push"
        what = "Realtime takes our signing key and the policies let it in"
        self._say(what, joined is None, joined or took, cure_key)
        try:
            matched = await door.match(self._tokens[1], self._tickets[1], pool, Role.CALLER)
            if isinstance(matched, MatchedReply):
                start = time.monotonic()
                late = joined or await _tried(_within(PUSH_S, pushed.wait()))  # who is not there hears none
                ms = (time.monotonic() - start) * 1000
                self._say("the push arrives", late is None, late or f"{ms:.0f} ms after the match's answer",
                          "SUPABASE_SECRET_KEYS needs a secret key; functions logs: “a push …”")  # fmt: skip
                again = await desk.match(self._tokens[0], self._tickets[0], pool, Role.ANSWERER)
                self._matched = [matched, *([again] if isinstance(again, MatchedReply) else [])]
            good = len({reply.call_id for reply in self._matched}) == 1 and len(self._matched) == 2
            self._say(
                "two devices meet in one call", good, "both told of it" if good else "they were not", cure
            )
        except BackendError as error:
            self._say("two devices meet in one call", False, _words(error), "functions logs voicemeet")
        finally:
            await _tried(channel.leave())

    async def _call(self, socket: RealtimeSocket) -> None:
        ours = self._matched[0]
        topic = f"call:{ours.call_id}"
        channel = socket.channel(topic, ours.token, on_broadcast=_ignore, on_state=lambda _state: None)
        failed = await _tried(channel.joined(JOIN_S))
        failed = failed or await _tried(channel.send("verify", {"v": 1}, JOIN_S))
        self._say("a call's token joins its topic and speaks there", failed is None, failed or "yes",
                  "supabase db push: the policies on realtime.messages")  # fmt: skip
        await _tried(channel.leave())
        for what, private, cure in (
            ("a stranger is kept out of a call", True, "supabase db push: the policies"),
            (
                "public topics are closed",
                False,
                "dashboard, Realtime, Settings: untick “Allow public access”",
            ),
        ):
            stranger = socket.channel(
                topic,
                self.project.apikey,
                on_broadcast=_ignore,
                on_state=lambda _state: None,
                private=private,
            )
            refused = await _tried(stranger.joined(JOIN_S))
            await _tried(stranger.leave())
            self._say(what, refused is not None, refused or "it was let in", cure)
        relays = [server for server in ours.ice_servers if server.username]
        self._say("TURN credentials are issued", bool(relays), f"{len(relays)} server(s), {ours.ttl_s:.0f} s",
                  "the secrets VOICEMEET_TURN_KEY_ID and VOICEMEET_TURN_TOKEN")  # fmt: skip

    async def _tidy_up(self) -> None:
        """Leave no ticket and no call; the sum of this hour's calls is one higher, with no seconds."""
        for client, token, ticket in zip(self._clients, self._tokens, self._tickets, strict=False):
            await _tried(client.leave(token, ticket))
        for reply in self._matched:
            await _tried(self._clients[0].ended(reply.token, 0))


def table(checks: list[Check]) -> str:
    """Return the table a person reads: what, how it came out, what was found, what to do."""
    width = max(len(check.what) for check in checks)
    lines = []
    for check in checks:
        lines.append(f"{check.outcome.value:7} {check.what:{width}}  {check.found}".rstrip())
        if check.cure:
            lines.append(f"{'':8}→ {check.cure}")
    failed = sum(check.outcome is Verdict.FAILED for check in checks)
    passed = sum(check.outcome is Verdict.OK for check in checks)
    lines += [
        "",
        f"{passed} all right, {failed} failed, {len(BY_HAND)} to look at by hand; nothing was left behind",
    ]
    return "\n".join(lines)


def _ignore(_event: str, _payload: object) -> None:
    pass


def _words(error: VoiceMeetError) -> str:
    return f"{error} ({error.code})"


async def _within(seconds: float, work: Awaitable[_Result]) -> _Result:
    async with timeout(seconds):
        return await work


async def _tried(work: Awaitable[object]) -> str | None:
    """Return None when it worked, else what went wrong, in words."""
    try:
        await work
    except (BackendError, SignalingError) as error:
        return _words(error)
    except TimeoutError:
        return "nothing came in time"
    return None


async def _status(method: str, url: str, headers: dict[str, str]) -> int:
    """Ask once; 0 when nobody answers. Redirects are not followed."""
    parts = urlsplit(url)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection

    def ask() -> int:
        connection = kind(parts.netloc, timeout=10)
        try:
            body = b"{}" if method == "POST" else None
            connection.request(method, parts.path, body, {"Content-Type": "application/json", **headers})
            return connection.getresponse().status
        except (OSError, http.client.HTTPException):
            return 0
        finally:
            connection.close()

    return await asyncio.to_thread(ask)


async def verify(project: Project, say: Callable[[str], object] = print) -> bool:
    """Verify a project, print the table, return whether nothing failed."""
    checks = await Verification(project).run()
    say(table(checks))
    return not any(check.outcome is Verdict.FAILED for check in checks)
