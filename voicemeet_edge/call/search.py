"""Looking for the other party: one ticket, polled with jitter, hurried by the wait topic.

One rule: whoever stops looking says so (`leave`), or the backend would match somebody with nobody.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import secrets
from dataclasses import dataclass

from voicemeet_edge.backend.client import Backend
from voicemeet_edge.backend.tokens import DeviceTokens
from voicemeet_edge.backend.verbs import MatchedReply, Role, WaitingReply
from voicemeet_edge.errors import BackendError
from voicemeet_edge.secret import Secret
from voicemeet_edge.signaling.channel import ChannelState
from voicemeet_edge.signaling.reconnect import Backoff
from voicemeet_edge.signaling.socket import ChannelHandle, RealtimeSocket
from voicemeet_edge.timeouts import timeout

logger = logging.getLogger(__name__)

JITTER = (0.8, 1.2)  # share of the asked-for wait; spreads a building's devices
LEAVE_TIMEOUT_S = 2.0  # seconds; the backend forgets an unpolled ticket by itself soon after
POOL_FULL = "pool_full"  # a person at the button is told so at once; a desk that stands by waits its turn
MAX_REFUSED_TOKENS = 3  # in a row; a backend that refuses fresh tokens will refuse the next one too


@dataclass(frozen=True)
class Place:
    """Where and as what to look."""

    pool: str
    role: Role


class Search:
    """One search; use it once."""

    def __init__(self, backend: Backend, tokens: DeviceTokens, socket: RealtimeSocket, place: Place) -> None:
        self._backend = backend
        self._tokens = tokens
        self._socket = socket
        self._place = place
        self._ticket = secrets.token_urlsafe(16)  # 128 random bits, ours alone
        self._hurry = asyncio.Event()
        self._wait_channel: ChannelHandle | None = None
        self._device_token: Secret | None = None

    async def find(self) -> MatchedReply:
        """Return the match; waits for as long as it takes. Cancelling leaves the pool.

        Raises:
            BackendError: the backend refused, and asking again would not help.
        """
        found = False
        try:
            matched = await self._poll()
            found = True
            return matched
        finally:
            if self._wait_channel is not None:
                await self._wait_channel.leave()
            if not found:
                await self._leave()

    async def _poll(self) -> MatchedReply:
        backoff = Backoff()
        refused = 0
        while True:
            self._hurry.clear()
            try:
                self._device_token = token = await self._tokens.get()
                reply = await self._backend.match(token, self._ticket, self._place.pool, self._place.role)
            except BackendError as error:
                if error.status == 401 and self._device_token is not None and refused < MAX_REFUSED_TOKENS:
                    self._tokens.refuse(self._device_token)
                    refused += 1
                    continue
                if not error.retryable or (error.code == POOL_FULL and self._place.role is not Role.ANSWERER):
                    raise
                await self._pause_after(error, backoff)
                continue
            refused = 0
            backoff.succeeded(asyncio.get_running_loop().time())
            if not isinstance(reply, WaitingReply):
                return reply
            await self._listen(reply.wait_token)
            await self._wait(reply.poll_after_s * random.uniform(*JITTER))

    async def _pause_after(self, error: BackendError, backoff: Backoff) -> None:
        first = backoff.failures == 0
        wait_s = backoff.failed(asyncio.get_running_loop().time())
        if error.retry_after_s is not None:
            wait_s = error.retry_after_s * random.uniform(1.0, JITTER[1])
        logger.log(logging.WARNING if first else logging.DEBUG, "search: backend says %s", error.code)
        await self._wait(wait_s)

    async def _wait(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with timeout(seconds):
                await self._hurry.wait()

    async def _listen(self, wait_token: Secret) -> None:
        if self._wait_channel is not None:
            await self._wait_channel.set_token(wait_token)
            return
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
