"""A channel as its owner holds it: awaits, answers and calls back; what happens is decided in channel.py."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

from voicemeet_edge.errors import FrameError, SignalingError
from voicemeet_edge.secret import Secret
from voicemeet_edge.signaling.channel import (
    BroadcastReceived,
    Channel,
    ChannelState,
    ChannelStateChanged,
    Effects,
    PushDone,
    PushFailed,
)
from voicemeet_edge.signaling.frames import PhoenixFrame
from voicemeet_edge.timeouts import timeout

logger = logging.getLogger(__name__)

# These mean that the channel lost the push, not that anybody refused it. Sending again is safe: the
# receiver's filter takes each sequence number once.
_REPEATABLE = frozenset({"not_joined", "disconnected", "channel_error", "channel_closed", "unmatched_topic"})


class ChannelHandle:
    """A channel as its owner holds it; made by `RealtimeSocket.channel`."""

    def __init__(
        self,
        channel: Channel,
        post: Callable[[list[PhoenixFrame]], None],
        forget: Callable[[ChannelHandle], None],
        on_broadcast: Callable[[str, dict[str, object]], None],
        on_state: Callable[[ChannelState], None],
    ) -> None:
        """Hold `channel`; `post` sends its frames, `forget` takes the handle off the socket."""
        self.channel = channel
        self._post = post
        self._forget = forget
        self._on_broadcast = on_broadcast
        self._on_state = on_state
        self._answers: dict[str, asyncio.Future[PushFailed | None]] = {}
        self._changed = asyncio.Event()
        self._code = ""

    @property
    def state(self) -> ChannelState:
        """Where the channel is."""
        return self.channel.state

    async def joined(self, timeout_s: float) -> None:
        """Wait until joined.

        Raises:
            SignalingError: refused, left, the token is not good any more, or the time is over.
        """
        try:
            async with timeout(timeout_s):
                await self._until_joined(is_token_awaited=False)
        except TimeoutError:
            raise SignalingError("join took too long", code="join_timeout") from None

    async def send(self, event: str, payload: dict[str, object], timeout_s: float) -> None:
        """Broadcast to the other members and wait until the server has it.

        A push that is lost with the connection is repeated after the rejoin, within the time.

        Raises:
            SignalingError: refused, never acknowledged, or the time is over.
        """
        try:
            async with timeout(timeout_s):
                while True:
                    await self._until_joined(is_token_awaited=True)
                    failure = await self._push(event, payload)
                    if failure is None:
                        return
                    if failure.code not in _REPEATABLE:
                        raise SignalingError(
                            "broadcast was not taken", code=failure.code, fatal=not failure.retryable
                        )
        except TimeoutError:
            raise SignalingError("broadcast was not acknowledged", code="push_timeout") from None

    async def set_token(self, token: Secret) -> None:
        """Use this token from now on; rejoins when the server had closed the channel."""
        self.deliver(self.channel.set_token(token, time.monotonic()))

    async def leave(self) -> None:
        """Leave for good; idempotent."""
        self._forget(self)
        self.deliver(self.channel.leave())

    async def _until_joined(self, *, is_token_awaited: bool) -> None:
        while self.channel.state is not ChannelState.JOINED:
            state = self.channel.state
            is_final = state in (ChannelState.REFUSED, ChannelState.CLOSED)
            if is_final or (state is ChannelState.TOKEN_WANTED and not is_token_awaited):
                raise SignalingError("channel is not joined", code=self._code or "closed", fatal=is_final)
            self._changed.clear()
            await self._changed.wait()

    async def _push(self, event: str, payload: dict[str, object]) -> PushFailed | None:
        ref, effects = self.channel.push(event, payload, time.monotonic())
        answer: asyncio.Future[PushFailed | None] = asyncio.get_running_loop().create_future()
        self._answers[ref] = answer
        try:
            self.deliver(effects)
            return await answer
        except FrameError as error:
            raise SignalingError(str(error), code="too_large", fatal=True) from None
        finally:
            del self._answers[ref]
            self.channel.forget(ref)

    def deliver(self, effects: Effects) -> None:
        """Send the frames of what the channel wants done, and tell its events."""
        self._post(effects.frames)
        for event in effects.events:
            match event:
                case ChannelStateChanged():
                    self._code = event.code
                    logger.debug("channel is %s %s", event.state.name, event.code)
                    self._changed.set()
                    self._tell_state(event.state)
                case BroadcastReceived():
                    self._tell_broadcast(event)
                case PushDone():
                    self._answer(event.ref, None)
                case PushFailed():
                    self._answer(event.ref, event)

    def _answer(self, ref: str, failure: PushFailed | None) -> None:
        answer = self._answers.get(ref)
        if answer is not None and not answer.done():
            answer.set_result(failure)

    def _tell_state(self, state: ChannelState) -> None:
        try:
            self._on_state(state)
        except Exception:  # the owner's bug must not end the socket for the other channels
            logger.exception("telling the change of a channel failed; the socket goes on")

    def _tell_broadcast(self, event: BroadcastReceived) -> None:
        if isinstance(event.payload, bytes):
            logger.debug("binary broadcast dropped")  # no message of ours is binary
            return
        try:
            self._on_broadcast(event.event, event.payload)
        except Exception:  # as above; what a peer sends must not either
            logger.exception("handling a broadcast failed; the socket goes on")
