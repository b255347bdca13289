"""One matched call: its channel, its messages, its path; nothing of it outlives `run`.

One rule: what the peer or the server sends can end this call or be dropped, never more. What to say is
decided in negotiation.py, the voice's way is path.py's; here messages are sealed, sent and opened.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import Counter
from collections.abc import Callable, Coroutine
from dataclasses import asdict, dataclass, replace
from typing import assert_never

from voicemeet_edge.backend.client import Backend
from voicemeet_edge.backend.verbs import IceServer as GrantedServer
from voicemeet_edge.backend.verbs import MatchedReply
from voicemeet_edge.call import negotiation as talk
from voicemeet_edge.call import path as way
from voicemeet_edge.call.negotiation import Kind, Negotiation
from voicemeet_edge.call.words import WordsExchange
from voicemeet_edge.errors import BackendError, MediaError, MessageError, SdpError, SealError, SignalingError
from voicemeet_edge.secret import Secret
from voicemeet_edge.signaling.channel import ChannelState
from voicemeet_edge.signaling.messages import Hello, Inbox, Message, Reveal, parse, serialize
from voicemeet_edge.signaling.reconnect import Backoff
from voicemeet_edge.signaling.sealed import Envelope
from voicemeet_edge.signaling.socket import ChannelHandle, RealtimeSocket
from voicemeet_edge.timeouts import timeout
from voicemeet_edge.voice.packet import RtpAudio
from voicemeet_edge.webrtc.options import IceServer, PeerOptions, PeerStats
from voicemeet_edge.webrtc.peer import Certificate

logger = logging.getLogger(__name__)

HELLO_TIMEOUT_S = 10.0  # seconds for the matched party to appear in the channel
SEND_TIMEOUT_S = 10.0  # seconds for a message to be taken; after a rejoin it is said again anyway
ARRIVE_TIMEOUT_S = 1.5  # seconds a bye waits for somebody to hear it; a matched party joins in a fraction
BYE_TIMEOUT_S = 0.7  # seconds; a courtesy: the other side also notices by itself
ENDED_TIMEOUT_S = 2.0  # seconds for the aggregate; nobody waits for it twice
MAX_SENDING = 32  # messages on their way; a call has about ten in all
RENEW_SHARE = 0.5  # of a token's life: late enough to be rare, early enough to fail twice

# A hello that does not open for one of these reasons is the peer's own: one side has a key, the other
# has none or another one.
_KEY_TROUBLE = frozenset({"peer_not_sealed", "peer_sealed", "wrong_key"})


@dataclass(frozen=True)
class PeerHere:
    """The other side has shown itself in the channel: somebody really is there."""


@dataclass(frozen=True)
class PeerRings:
    """The other side really rings."""


@dataclass(frozen=True)
class PeerAccepted:
    """The other side took the call."""


@dataclass(frozen=True)
class MediaConnected:
    """Voice can flow (again)."""


@dataclass(frozen=True)
class MediaLost:
    """Nothing arrives any more; the session is looking for a new path."""


@dataclass(frozen=True)
class PeerBye:
    """The other side ended the call."""

    reason: str


@dataclass(frozen=True)
class SessionFailed:
    """The call cannot go on; `code` is a reason the call machine knows."""

    code: str


@dataclass(frozen=True)
class WordsKnown:
    """The check words of this call."""

    words: tuple[str, ...]


SessionEvent = (
    PeerHere | PeerRings | PeerAccepted | MediaConnected | MediaLost | PeerBye | SessionFailed | WordsKnown
)


@dataclass
class SessionCounters:
    """What was refused; shown in status, never who sent it."""

    malformed: int = 0
    unsealed: int = 0
    unsent: int = 0


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
        on_event: Callable[[SessionEvent], None],
        on_rtp: Callable[[RtpAudio], None],
    ) -> None:
        self.matched = matched
        self.counters = SessionCounters()
        self.words: tuple[str, ...] | None = None
        self._parts = parts
        self._on_event = on_event
        self._token = matched.token
        self._token_ttl_s = matched.token_ttl_s
        options = replace(parts.peer_options, ice_servers=to_ice_servers(matched.ice_servers))
        self._path = way.MediaPath(
            options, parts.certificate, parts.silence, on_event=self._path_changed, on_rtp=on_rtp
        )
        self._exchange = WordsExchange(matched.slot, matched.call_id, parts.certificate.sha256)
        offerer = matched.offerer == matched.slot
        self._negotiation = Negotiation(matched.slot, kind, offerer=offerer, words=self._exchange)
        self._inbox = Inbox(matched.slot)
        self._channel: ChannelHandle | None = None
        self._group: asyncio.TaskGroup | None = None
        self._sending = 0
        self._over = asyncio.Event()
        self._renew_now = asyncio.Event()
        self._bye_reason = "hung_up"
        self._said_bye = False
        self._peer_heard = asyncio.Event()
        self._failed = False
        self._talk_began: float | None = None

    # -- what the app does -------------------------------------------------------------------

    @property
    def token(self) -> Secret:
        """The newest call token; a report needs it after the call too."""
        return self._token

    @property
    def restarts(self) -> int:
        """How often the path was replaced by a new one."""
        return self._path.restarts

    def accept(self) -> None:
        """The person here took the call."""
        self._obey(self._negotiation.accept())

    @property
    def red_payload_type(self) -> int | None:
        """What Opus is called inside RFC 2198 payloads to this peer; None when it does not take them."""
        return self._path.red_payload_type

    def send(self, payload: bytes, _timestamp: int) -> None:
        """Send one Opus frame of 20 ms; dropped while there is no connection."""
        self._path.send(payload)

    def send_red(self, payload: bytes, _timestamp: int) -> None:
        """Send one RFC 2198 payload of 20 ms."""
        self._path.send(payload, red=True)

    def poll(self) -> None:
        """Take in what has come, in the calling thread: `on_rtp` is called in it."""
        self._path.poll()

    @property
    def any_thread(self) -> bool:
        """Whether `send` and `send_red` may be called from any thread now."""
        return self._path.any_thread

    def stats(self) -> PeerStats | None:
        """Figures of the connection in use."""
        return self._path.stats()

    def refused(self) -> dict[str, int]:
        """What was received and not obeyed, by reason; only what happened at all."""
        sealed = {why.value: count for why, count in self._parts.envelope.counters.refused.items()}
        counts: Counter[str] = Counter(sealed)
        for counters in (self.counters, self._negotiation.dropped, self._inbox.counters):
            counts.update(asdict(counters))
        del counts["accepted"], counts["unsent"]
        return dict(+counts)  # only what is above zero

    def end(self, reason: str) -> None:
        """Say bye with this reason and come to an end; `run` returns soon. Idempotent."""
        if not self._over.is_set():
            # Who is reported must not learn it from us.
            self._bye_reason = "hung_up" if reason == "reported" else reason
            self._over.set()

    async def run(self) -> None:
        """Live through the call; returns when everything is freed."""
        self._channel = self._parts.socket.channel(
            f"call:{self.matched.call_id}",
            self._token,
            on_broadcast=self._receive,
            on_state=self._channel_changed,
        )
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                group.create_task(self._path.watch())
                group.create_task(self._renew())
                group.create_task(self._expect_hello())
                self._obey(self._negotiation.start())
                await self._over.wait()
                await self._await_listener()
                await self._say_bye()
                raise _OverError
        except* _OverError:
            pass
        finally:
            self._group = None
            await self._free()

    # -- the end -----------------------------------------------------------------------------

    async def _await_listener(self) -> None:
        """Give the other side a moment to join: a call can fail before it has, and would leave it waiting."""
        if self._said_bye or self._bye_reason == "peer_absent":
            return
        with contextlib.suppress(TimeoutError):
            async with timeout(ARRIVE_TIMEOUT_S):
                await self._peer_heard.wait()

    async def _say_bye(self) -> None:
        channel = self._channel
        if self._said_bye or channel is None or channel.state is not ChannelState.JOINED:
            return
        self._said_bye = True
        for command in self._negotiation.bye(self._bye_reason):
            if isinstance(command, talk.Send):
                event, payload = self._seal(command.message)
                try:
                    await channel.send(event, payload, BYE_TIMEOUT_S)
                except SignalingError as error:
                    logger.debug("bye was not taken: %s", error.code)

    async def _free(self) -> None:
        """Close what is open; also when cancelled in the middle of the call."""
        seconds = 0 if self._talk_began is None else round(time.monotonic() - self._talk_began)
        if not self._over.is_set():  # cancelled: the device is shutting down
            self._bye_reason = "shutdown"
        try:
            await self._say_bye()
            await self._path.close()
            if seconds > 0:
                with contextlib.suppress(BackendError, TimeoutError):
                    async with timeout(ENDED_TIMEOUT_S):
                        await self._parts.backend.ended(self._token, seconds)
        finally:
            if self._channel is not None:
                await self._channel.leave()

    def _fail(self, code: str) -> None:
        if not self._failed and not self._over.is_set():
            self._failed = True
            logger.info("call failed: %s", code)
            self._on_event(SessionFailed(code))

    # -- messages ----------------------------------------------------------------------------

    def _seal(self, message: Message) -> tuple[str, dict[str, object]]:
        event, payload = serialize(message)
        return event, self._parts.envelope.seal(event, payload)

    def _receive(self, event: str, payload: dict[str, object]) -> None:
        """Take a broadcast of the channel: drop and count, or obey."""
        self._peer_heard.set()  # whatever it is: nobody else is in this channel
        envelope = self._parts.envelope
        try:
            message = parse(event, envelope.open(event, payload))
        except SealError as error:
            self.counters.unsealed += 1
            # Once the peer has proved itself it can only be somebody else's noise, and noise must not
            # end a call. Its bye counts too: whoever hears the other first says nothing else.
            if event in ("hello", "bye") and not envelope.verified and error.code in _KEY_TROUBLE:
                self._fail(error.code)
            return
        except MessageError:
            self.counters.malformed += 1
            return
        if not self._inbox.accept(message):
            return
        was_here = self._negotiation.peer_present
        commands = self._negotiation.receive(message)
        if self._negotiation.peer_present and not was_here:
            self._on_event(PeerHere())
        self._obey(commands)
        if isinstance(message, Hello | Reveal):
            self._check_words()

    def _channel_changed(self, state: ChannelState) -> None:
        if state is ChannelState.JOINED:
            self._obey(self._negotiation.joined())
        elif state is ChannelState.TOKEN_WANTED:
            self._renew_now.set()
        elif state is ChannelState.REFUSED and self._talk_began is None:
            self._fail("signaling_refused")

    def _obey(self, commands: list[talk.Command]) -> None:
        for command in commands:
            match command:
                case talk.Send():
                    self._push(command.message)
                case talk.MakeOffer():
                    self._spawn(self._make_offer(command.attempt))
                case talk.MakeAnswer():
                    self._spawn(self._make_answer(command.attempt, command.sdp))
                case talk.TakeAnswer():
                    self._spawn(self._guard(self._path.take_answer(command.attempt, command.sdp)))
                case talk.TakeCandidate():
                    self._spawn(self._guard(self._path.candidate(command.candidate, command.mid)))
                case talk.PeerRings():
                    self._on_event(PeerRings())
                case talk.PeerAccepted():
                    self._on_event(PeerAccepted())
                case talk.PeerLeft():
                    self._said_bye = True  # they are gone; ours would reach nobody
                    self._on_event(PeerBye(command.reason))
                case talk.WordsFailed():
                    self._fail(command.code)
                case _:
                    assert_never(command)

    def _spawn(self, work: Coroutine[object, object, None]) -> None:
        if self._group is None or self._over.is_set():
            work.close()  # the call is over; a late message starts nothing
        else:
            self._group.create_task(work)

    def _push(self, message: Message) -> None:
        # Sealed here, in order: sequence numbers and nonces only grow.
        event, payload = self._seal(message)
        if self._sending >= MAX_SENDING:
            self.counters.unsent += 1
            return
        self._spawn(self._send(event, payload))

    async def _send(self, event: str, payload: dict[str, object]) -> None:
        if self._channel is None:
            return
        self._sending += 1
        try:
            await self._channel.send(event, payload, SEND_TIMEOUT_S)
        except SignalingError as error:
            # Said again after the next rejoin; a call without signaling still carries voice.
            logger.debug("message was not taken: %s", error.code)
            self.counters.unsent += 1
        finally:
            self._sending -= 1

    async def _expect_hello(self) -> None:
        await asyncio.sleep(HELLO_TIMEOUT_S)
        if not self._negotiation.peer_present:
            self._fail("peer_absent")

    # -- media -------------------------------------------------------------------------------

    async def _make_offer(self, attempt: int) -> None:
        async def work() -> None:
            self._obey(self._negotiation.offer_ready(await self._path.offer(attempt), attempt))

        await self._guard(work())

    async def _make_answer(self, attempt: int, sdp: str) -> None:
        async def work() -> None:
            self._obey(self._negotiation.answer_ready(await self._path.answer(attempt, sdp), attempt))

        await self._guard(work())

    async def _guard(self, work: Coroutine[object, object, None]) -> None:
        """Turn what a connection raises into the end of the call, or into patience once it has lived."""
        try:
            await work
        except SdpError as error:
            if self._talk_began is None:
                self._fail(error.code)
            else:
                self.counters.malformed += 1
        except MediaError as error:
            if self._talk_began is None:
                self._fail(error.code)
            else:  # no network just now: the path asks for the next attempt by itself
                logger.debug("new connection failed: %s", error.code)

    def _path_changed(self, event: way.PathEvent) -> None:
        match event:
            case way.PathUp():
                if self._talk_began is None:
                    self._talk_began = time.monotonic()
                self._check_words()
                if not self._failed:
                    self._on_event(MediaConnected())
            case way.PathLost():
                self._on_event(MediaLost())
            case way.PathWantsRestart():
                self._parts.socket.check_network()  # a new path needs signaling that is alive
                self._renew_now.set()  # a dead path may be a dead allocation: fresh credentials too
                self._obey(self._negotiation.restart())
            case way.PathBroken():
                self._fail(event.code)
            case _:
                assert_never(event)

    def _check_words(self) -> None:
        """Compute the words as soon as both certificates and both nonces are known."""
        prints = self._path.fingerprints()
        if prints is None or self.words is not None:
            return
        ours, theirs = prints.ours.hex(), prints.theirs.hex()
        a, b = (ours, theirs) if self.matched.slot == "a" else (theirs, ours)
        try:
            self.words = self._exchange.words(a, b)
        except MessageError as error:
            self._fail(error.code)
            return
        if self.words is not None:
            self._on_event(WordsKnown(self.words))

    # -- tokens ------------------------------------------------------------------------------

    async def _expect_renewal(self, wait_s: float) -> None:
        self._renew_now.clear()
        try:
            async with timeout(wait_s):
                await self._renew_now.wait()
        except TimeoutError:
            pass

    async def _renew(self) -> None:
        """Keep the call token and the TURN credentials fresh for as long as the call lasts."""
        backoff = Backoff()
        wait_s = self._token_ttl_s * RENEW_SHARE
        while True:
            await self._expect_renewal(wait_s)
            now = asyncio.get_running_loop().time()
            try:
                reply = await self._parts.backend.renew(self._token)
            except BackendError as error:
                # The voice goes on without the backend; only a new path would miss it.
                logger.debug("renewal failed: %s", error.code)
                wait_s = backoff.failed(now, hard=not error.retryable)
                continue
            backoff.succeeded(now)
            self._token = reply.token
            self._path.use_servers(to_ice_servers(reply.ice_servers))
            if self._channel is not None:
                await self._channel.set_token(self._token)
            wait_s = reply.token_ttl_s * RENEW_SHARE


def to_ice_servers(granted: tuple[GrantedServer, ...]) -> tuple[IceServer, ...]:
    """Translate what the backend grants into what a peer takes."""
    return tuple(
        IceServer(server.urls, server.username or "", server.credential or Secret("")) for server in granted
    )
