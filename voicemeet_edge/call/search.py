"""Looking for the other party: one ticket, polled when `SearchPlan` says, hurried by the wait topic.

One rule: whoever stops looking says so (`leave`), or the backend would match somebody with nobody.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import time
from collections.abc import Callable, Coroutine
from dataclasses import replace

from voicemeet_edge.backend.admission import make_proof
from voicemeet_edge.backend.client import Backend
from voicemeet_edge.backend.tokens import DeviceTokens
from voicemeet_edge.backend.verbs import (
    DeskState,
    MatchedReply,
    MatchRequest,
    RingingReply,
    Role,
    WaitingReply,
)
from voicemeet_edge.call.search_plan import SearchPlan
from voicemeet_edge.errors import BackendError
from voicemeet_edge.not_connected import NotConnected
from voicemeet_edge.records import dataclass
from voicemeet_edge.secret import Secret
from voicemeet_edge.signaling.channel import ChannelState
from voicemeet_edge.signaling.channel_handle import ChannelHandle
from voicemeet_edge.signaling.socket import RealtimeSocket
from voicemeet_edge.timeouts import timeout

logger = logging.getLogger(__name__)

# s a wait token is used before the next is handed to the socket. Each hosted one costs a question to
# the database's policies; every backend's lives for ten minutes.
WAIT_TOKEN_USED_S = 300.0
LEAVE_TIMEOUT_S = 2.0  # s; the backend forgets an unpolled ticket by itself soon after


@dataclass(frozen=True)
class SearchTarget:
    """Where and as what to look."""

    pool: str
    role: Role
    admission_key: bytes | None = None
    """From the intercom key, to prove that we have it; None without one."""
    label: str = ""
    """Not a search: stand by as a door of this label."""
    state: DeskState = DeskState.FREE
    """Of an answerer; one that is not free is found by nobody."""

    def proof(self, token: Secret, ticket: str) -> str:
        """Return the proof for one `match`; "" without a key."""
        if self.admission_key is None:
            return ""
        return make_proof(self.admission_key, token, self.pool, self.role, ticket)


class Search:
    """One search; use it once."""

    def __init__(
        self, backend: Backend, tokens: DeviceTokens, socket: RealtimeSocket, target: SearchTarget
    ) -> None:
        self._backend = backend
        self._tokens = tokens
        self._socket = socket
        self._target = target
        self._plan = SearchPlan(target.role)
        self._ticket = secrets.token_urlsafe(16)  # 128 random bits, ours alone
        self._hurry = asyncio.Event()
        self._wait_channel: ChannelHandle | None = None
        self._new_token_at = 0.0
        self._device_token: Secret | None = None

    async def find(self) -> MatchedReply:
        """Return the match; waits for as long as it takes. Cancelling leaves the pool.

        Raises:
            BackendError: the backend refused, and asking again would not help.
        """
        found: list[MatchedReply] = []
        self._socket.check_network()  # somebody stands at the button: is the line alive?

        async def ask() -> WaitingReply | None:
            reply = await self._backend.search(*await self._request())
            if isinstance(reply, WaitingReply):
                return reply
            found.append(reply)
            return None

        try:
            await self._poll(ask)
            return found[0]
        finally:
            await self._end(is_found=bool(found))

    async def ring(
        self, on_reply: Callable[[RingingReply], None], again: Callable[[], tuple[str, ...]]
    ) -> None:
        """Ring all desks, telling what the backend says of it, until cancelled; that leaves the pool.

        Raises:
            BackendError: the backend refused, and asking again would not help.
        """
        self._socket.check_network()

        async def ask() -> RingingReply:
            token, request = await self._request()
            reply = await self._backend.ring(token, replace(request, ring=True, again=again()))
            on_reply(reply)
            return reply

        try:
            await self._poll(ask)
        finally:
            await self._end(is_found=False)

    def hurry(self) -> None:
        """Ask the backend now."""
        self._hurry.set()

    async def _end(self, *, is_found: bool) -> None:
        if self._wait_channel is not None:
            await self._wait_channel.leave()
        if not is_found:
            await self._leave()

    async def _poll(
        self, ask: Callable[[], Coroutine[object, object, WaitingReply | RingingReply | None]]
    ) -> None:
        """Ask again and again, until the answer is None: no more to be asked."""
        while True:
            self._hurry.clear()
            try:
                reply = await ask()
            except BackendError as error:
                self._refused(error)
            else:
                # The answer came over another connection. The socket, on which the match is told and the call
                # will begin, may be dead without a word, so it proves itself as often as the search does.
                self._socket.check_network()
                if reply is None:
                    return
                self._plan.waits(reply.poll_after_s, time.monotonic())
                await self._listen(reply.wait_token)
            with contextlib.suppress(TimeoutError):
                async with timeout(self._plan.deadline - time.monotonic()):
                    await self._hurry.wait()

    async def _request(self) -> tuple[Secret, MatchRequest]:
        self._device_token = token = await self._tokens.get()
        target = self._target
        proof = target.proof(token, self._ticket)
        request = MatchRequest(
            self._ticket, target.pool, target.role, proof, state=target.state, label=target.label
        )
        return token, request

    def _refused(self, error: BackendError) -> None:
        """Do what the plan says about a refusal. Raises: the error itself, when it gives up."""
        token = self._device_token
        after = self._plan.refused(error, time.monotonic(), has_token=token is not None)
        if after.drops_token and token is not None:
            self._tokens.refuse(token)
        if after.gives_up:
            raise error
        level = logging.WARNING if self._plan.failures == 1 else logging.DEBUG
        reason = NotConnected.of(error.code)
        said = f"{error} ({error.code})" if reason is None else reason.sentence
        logger.log(level, "search: %s", said)

    async def _listen(self, wait_token: Secret) -> None:
        now = asyncio.get_running_loop().time()
        if self._wait_channel is not None:
            if now >= self._new_token_at or self._wait_channel.state is ChannelState.TOKEN_WANTED:
                self._new_token_at = now + WAIT_TOKEN_USED_S
                await self._wait_channel.set_token(wait_token)
            return
        self._new_token_at = now + WAIT_TOKEN_USED_S
        self._wait_channel = self._socket.channel(
            f"wait:{self._ticket}",
            wait_token,
            on_broadcast=lambda event, _payload: self._hurry.set() if event == "matched" else None,
            on_state=self._on_wait_state,
        )

    def _on_wait_state(self, state: ChannelState) -> None:
        # The match may have been made before we listened: ask once more as soon as we do.
        if state is ChannelState.JOINED:
            self._hurry.set()

    async def _leave(self) -> None:
        token = self._device_token
        if token is None:
            return
        try:
            async with timeout(LEAVE_TIMEOUT_S):
                await self._backend.leave(token, self._ticket)
        except (BackendError, TimeoutError) as error:
            logger.debug("search: leaving failed: %s", type(error).__name__)
