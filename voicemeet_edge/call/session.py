"""One matched call: carries out what `Conversation` answers; nothing of it outlives `run`.

One rule: nothing is decided here. Channel, connections and backend are told to the conversation with the
time, its commands are carried out in order, and one timer is armed at the deadline it names.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, assert_never

from voicemeet_edge.backend.client import Backend
from voicemeet_edge.backend.ice_server import IceServer as GrantedServer
from voicemeet_edge.backend.verbs import MatchedReply
from voicemeet_edge.call import commands as do
from voicemeet_edge.call.commands import Command, Publish, Tell, WordsKnown, WordsMissing
from voicemeet_edge.call.conversation import Conversation, Manner
from voicemeet_edge.call.door_lock import Unlock
from voicemeet_edge.call.in_order import InOrder
from voicemeet_edge.call.negotiation import Kind
from voicemeet_edge.call.path import MediaPath
from voicemeet_edge.errors import BackendError, MediaError, SdpError, SignalingError, is_retryable
from voicemeet_edge.reasons import EndReason
from voicemeet_edge.records import dataclass
from voicemeet_edge.secret import Secret
from voicemeet_edge.signaling.channel import ChannelState
from voicemeet_edge.signaling.channel_handle import ChannelHandle
from voicemeet_edge.signaling.sealed import Envelope
from voicemeet_edge.signaling.socket import RealtimeSocket
from voicemeet_edge.timeouts import timeout
from voicemeet_edge.timers import DeadlineTimer
from voicemeet_edge.voice.packet import RtpAudio
from voicemeet_edge.webrtc.events import Closed, Connected, Failed, PeerEvent
from voicemeet_edge.webrtc.ice_server import IceServer
from voicemeet_edge.webrtc.options import PeerOptions, PeerStats

if TYPE_CHECKING:
    from voicemeet_edge.webrtc.peer import Certificate

logger = logging.getLogger(__name__)

SEND_TIMEOUT_S = 10.0  # s for a message to be taken; after a rejoin it is said again anyway
BYE_TIMEOUT_S = 0.7  # s; a courtesy: the other side also notices by itself
ENDED_TIMEOUT_S = 2.0  # s for the aggregate; nobody waits for it twice
MAX_SENDING = 32  # messages on their way; a call has about ten in all

News = Tell | WordsKnown | WordsMissing | Unlock
"""What a call tells the app."""


@dataclass(frozen=True)
class SessionParts:
    """What a session works with and does not own."""

    backend: Backend
    socket: RealtimeSocket
    envelope: Envelope
    peer_options: PeerOptions
    certificate: Certificate
    """Of this call, for all its connections: the check words are bound to it before anything is sent."""
    silence: bytes
    """One Opus frame of silence, of the size every frame has."""
    manner: Manner = Manner()


class _OverError(Exception):
    """Ends the session's task group."""


class CallSession:
    """Both ends of a call run one of these; see the module's docstring."""

    def __init__(
        self,
        matched: MatchedReply,
        kind: Kind,
        parts: SessionParts,
        *,
        on_news: Callable[[News], None],
        on_rtp: Callable[[RtpAudio], None],
    ) -> None:
        options = replace(parts.peer_options, ice_servers=to_ice_servers(matched.ice_servers))
        self.path = MediaPath(
            options,
            parts.certificate,
            parts.silence,
            on_event=self._peer_changed,
            on_heard=self._heard,
            on_rtp=on_rtp,
        )
        """Where the sound threads send and poll."""
        self._conversation = Conversation(
            matched, kind, parts.envelope, parts.certificate.sha256, parts.manner
        )
        self._topic = f"call:{matched.call_id}"
        self._parts = parts
        self._on_news = on_news
        self._channel: ChannelHandle | None = None
        self._group: asyncio.TaskGroup | None = None
        self._timer = DeadlineTimer(self._due)
        self._orders = InOrder(self._do)
        self._sending = 0
        self._leave: do.Leave | None = None
        self._leaving = asyncio.Event()

    # -- what the app does -------------------------------------------------------------------

    @property
    def token(self) -> Secret:
        """The newest call token; a report needs it after the call too."""
        return self._conversation.token

    @property
    def words(self) -> tuple[str, ...] | None:
        """The check words, once both ends can know them."""
        return self._conversation.words

    def accept(self) -> None:
        """The person here took the call."""
        self._execute(self._conversation.accept(time.monotonic()))

    def unlocked(self, request: str, *, is_open: bool) -> None:
        """What came of `Unlock`."""
        self._execute(self._conversation.unlocked(request, time.monotonic(), is_open=is_open))

    def stats(self) -> PeerStats | None:
        """Figures of the connection in use."""
        return self.path.stats()

    def refused(self) -> dict[str, int]:
        """What was received and not obeyed, by reason; only what happened at all."""
        return self._conversation.refused()

    def end(self, reason: EndReason) -> None:
        """Say bye with this reason and come to an end; `run` returns soon. Idempotent."""
        self._execute(self._conversation.end(reason, time.monotonic()))

    async def run(self) -> None:
        """Live through the call; returns when everything is freed."""
        self._channel = self._parts.socket.channel(
            self._topic, self.token, on_broadcast=self._receive, on_state=self._channel_changed
        )
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                group.create_task(self._timer.run())
                self._execute(self._conversation.start(time.monotonic()))
                await self._leaving.wait()
                raise _OverError
        except* _OverError:
            pass
        finally:
            self._group = None
            self._execute(self._conversation.abandon(time.monotonic()))  # cancelled: the device stops
            self._timer.cancel()
            await self._free()

    async def _free(self) -> None:
        """Say goodbye and close what is open; also when cancelled in the middle of the call."""
        leave, channel = self._leave, self._channel
        if leave is None or channel is None:
            return
        try:
            if leave.bye is not None:
                with contextlib.suppress(SignalingError):
                    await channel.send(leave.bye.event, leave.bye.payload, BYE_TIMEOUT_S)
            await self.path.close()
            if leave.talked_s > 0:
                with contextlib.suppress(BackendError, TimeoutError):
                    async with timeout(ENDED_TIMEOUT_S):
                        await self._parts.backend.ended(self.token, leave.talked_s)
        finally:
            await channel.leave()

    # -- what happens ------------------------------------------------------------------------

    def _receive(self, event: str, payload: dict[str, object]) -> None:
        self._execute(self._conversation.receive(event, payload, time.monotonic()))

    def _channel_changed(self, state: ChannelState) -> None:
        self._execute(self._conversation.channel_changed(state, time.monotonic()))

    def _peer_changed(self, attempt: int, event: PeerEvent) -> None:
        now = time.monotonic()
        match event:
            case Connected():
                prints = self.path.fingerprints(attempt)
                if prints is not None:
                    self._execute(self._conversation.connected(attempt, prints, now))
            case Failed():
                logger.info("connection failed: %s", event.error.code)
                reason = EndReason.of(event.error.code)
                self._execute(self._conversation.connection_failed(attempt, reason, now))
            case Closed():
                self._execute(self._conversation.connection_closed(attempt, now))

    def _heard(self) -> None:
        path = self.path
        self._execute(self._conversation.traffic(path.heard_at, path.sent_at, time.monotonic()))

    def _due(self, now: float) -> None:
        self._heard()
        if self.path.control.is_hopeless(now):
            self._execute(self._conversation.line_hopeless(now))
        advice = self.path.control.incoming.advice
        self._execute(self._conversation.line_seen(*advice, now))
        self._execute(self._conversation.handle_timer(now))

    # -- what is done ------------------------------------------------------------------------

    def _execute(self, commands: Sequence[Command]) -> None:
        """Carry out commands, then arm the timer."""
        if self._orders.execute(commands):
            self.path.is_awaited = self._conversation.is_lost
            self._timer.set(self._conversation.deadline)

    def _do(self, command: Command) -> None:
        match command:
            case Tell() | WordsKnown() | WordsMissing() | Unlock():
                self._on_news(command)
            case Publish():
                self._spawn(self._send(command))
            case do.Prepare():
                self.path.prepare(command.attempt)
            case do.MakeOffer():
                self.path.begin(command.attempt)
                self._spawn(self._connect(command.attempt, partial(self.path.offer, command.attempt)))
            case do.MakeAnswer():
                self.path.begin(command.attempt)
                make = partial(self.path.answer, command.attempt, command.sdp)
                self._spawn(self._connect(command.attempt, make))
            case do.TakeAnswer():
                take = partial(self.path.take_answer, command.attempt, command.sdp)
                self._spawn(self._connect(command.attempt, take))
            case do.TakeCandidate():
                add = partial(self.path.take_candidate, command.attempt, command.candidate, command.mid)
                self._spawn(self._connect(command.attempt, add))
            case do.UseConnection():
                self.path.use(command.attempt)
            case do.DropConnection():
                self.path.drop(command.attempt)
            case do.SendSilence():
                self.path.send_silence()
            case do.CheckNetwork():
                self._parts.socket.check_network()
            case do.Renew():
                self._spawn(self._renew(command.token))
            case do.UseGrant():
                self.path.use_servers(to_ice_servers(command.ice_servers))
                if self._channel is not None:
                    self._spawn(self._channel.set_token(command.token))
            case do.Leave():
                self._leave = command
                self._leaving.set()
            case _:
                assert_never(command)

    def _spawn(self, work: Coroutine[object, object, None]) -> None:
        if self._group is None or self._leaving.is_set():
            work.close()  # the call is over; a late message starts nothing
        else:
            self._group.create_task(work)

    async def _send(self, message: Publish) -> None:
        if self._channel is None or self._sending >= MAX_SENDING:
            return
        self._sending += 1
        try:
            await self._channel.send(message.event, message.payload, SEND_TIMEOUT_S)
        except SignalingError as error:
            # Said again after the next rejoin; a call without signaling still carries voice.
            logger.debug("message was not taken: %s", error.code)
        finally:
            self._sending -= 1

    async def _connect(self, attempt: int, step: Callable[[], Coroutine[object, object, str | None]]) -> None:
        """Do something to a connection; tell the description that came of it, or what is wrong."""
        try:
            sdp = await step()
        except (SdpError, MediaError) as error:
            logger.debug("connection not made: %s", error.code)
            reason, by_peer = EndReason.of(error.code), isinstance(error, SdpError)
            self._execute(
                self._conversation.refused_description(attempt, reason, time.monotonic(), by_peer=by_peer)
            )
            return
        if sdp is not None:
            self._execute(self._conversation.described(attempt, sdp, time.monotonic()))

    async def _renew(self, token: Secret) -> None:
        try:
            reply = await self._parts.backend.renew(token)
        except BackendError as error:
            logger.debug("renewal failed: %s", error.code)
            self._conversation.renewal_failed(
                time.monotonic(), is_retryable=is_retryable(error), asked_s=error.retry_after_s
            )
            self._execute(())
            return
        self._execute(self._conversation.renewed(reply, time.monotonic()))


def to_ice_servers(granted: tuple[GrantedServer, ...]) -> tuple[IceServer, ...]:
    """Translate what the backend grants into what a peer takes."""
    return tuple(
        IceServer(server.urls, server.username or "", server.credential or Secret("")) for server in granted
    )
