"""Relay allocation: one from a list of URLs, each tried for a bounded time; and its bounded end.

Built on aioice's TURN client; what is ours is the timers, the order, the errors and the cheap send.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import random
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol, TypeVar, cast

from aioice import stun, turn

from voicemeet_edge.choices import RelayProtocol
from voicemeet_edge.errors import MediaError
from voicemeet_edge.net.eyeballs import race
from voicemeet_edge.net.names import NAMES
from voicemeet_edge.records import dataclass
from voicemeet_edge.timeouts import timeout
from voicemeet_edge.webrtc.datagrams import Datagram
from voicemeet_edge.webrtc.ice_server import IceServer, IceUrl, TurnMemory, parse_ice_url
from voicemeet_edge.webrtc.udp import UdpTransport, open_udp

logger = logging.getLogger(__name__)

ProtocolT = TypeVar("ProtocolT", bound=asyncio.DatagramProtocol)

ATTEMPT_TIMEOUT_S = 1.5  # s per URL: five lost packets at 10 % loss are rarer than a blocked port
ALLOCATE_TIMEOUT_S = 6.0  # s for all URLs together: someone is waiting beside the device
ASK_AGAIN = 3  # times a server that refuses the credentials is asked again
ASK_AGAIN_S = (0.02, 0.1)  # s before that, by chance
DELETE_TIMEOUT_S = 1.0  # s to give the allocation back; coturn forgets it by itself after that
CHANNEL_REFRESH_S = 240  # s; the channel's permission lives 300 (RFC 8656 §9)
MAX_URLS = 8  # no provider lists more than six
MAX_PENDING_SENDS = 32  # datagrams waiting for a channel to be bound: half a second of voice
MAX_STREAM_BUFFER = 65536  # bytes queued on a TCP or TLS path before voice is dropped instead
CHANNEL_HEADER = struct.Struct("!HH")  # number and length (RFC 8656 §12.4)
CHANNEL_HEADER_BYTES = CHANNEL_HEADER.size

# RFC 8489 §6.2.1 begins at 500 ms and doubles: over one loss a caller has waited long. Voice paths have
# round trips under 100 ms, requests are 100 bytes, and RFC 8445 §14.3 lets ICE go down to 50 ms.
RETRY_DELAYS_S = (0.1, 0.1, 0.15, 0.15, 0.2, 0.3, 0.4)
RETRY_DELAY_CAP_S = 0.5
LATE_FACTOR = 1.25  # times the quickest answer, and
LATE_S = 0.05  # s more: later than that, one or the other packet was lost
OVERTAKEN_S = 0.5  # s to wait for the success that a repetition's refusal may have overtaken
RETRY_TOTAL_S = 12.0  # a signaling server that stalls for seconds must not fail the checks


def retry_delays(total_s: float) -> list[float]:
    """Return the waits between transmissions until `total_s` is used up."""
    delays: list[float] = []
    while sum(delays) < total_s:
        delays.append(RETRY_DELAYS_S[len(delays)] if len(delays) < len(RETRY_DELAYS_S) else RETRY_DELAY_CAP_S)
    return delays


class Answers:
    """How long requests of one connection waited for answers: losses show before the handshake begins."""

    def __init__(self) -> None:
        self._waits: dict[bool, tuple[float, float]] = {}  # the shortest and the longest of each kind

    def note(self, seconds: float, *, relay: bool) -> None:
        """Take one; `relay`: the answer of a TURN server, which is nearer than the other end."""
        least, most = self._waits.get(relay, (seconds, seconds))
        self._waits[relay] = min(least, seconds), max(most, seconds)

    @property
    def lossy(self) -> bool:
        """Whether one of them waited so much longer than another of its kind that a packet was lost."""
        return any(most > LATE_FACTOR * least + LATE_S for least, most in self._waits.values())


class QuickTransaction(stun.Transaction):
    """A STUN transaction (RFC 8489 §6.2) that asks again after 100 ms instead of 500."""

    def __init__(
        self,
        request: stun.Message,
        addr: tuple[str, int],
        protocol: stun.TransactionSender,
        *,
        delays: Sequence[float],
        integrity_key: bytes | None = None,
        long_term_credential: bool = False,
        answers: Answers | None = None,
    ) -> None:
        super().__init__(request, addr, protocol)
        self._answers = answers
        self._request = request
        self._server = addr
        self._sender = protocol
        self._delays = delays
        self._key = integrity_key
        self._long_term = long_term_credential
        self._sent = 0
        self._sent_at = 0.0
        self._refusal: stun.TransactionFailed | None = None
        self._answer: asyncio.Future[tuple[stun.Message, tuple[str, int]]] = (
            asyncio.get_running_loop().create_future()
        )

    def response_received(self, message: stun.Message, addr: tuple[str, int]) -> None:
        """Take an authenticated answer; anything else counts as nothing (RFC 8489 §9.1.4, §9.2.5)."""
        challenge = self._long_term and message.error_code in (401, 438)
        if self._answer.done() or (
            self._key is not None and not challenge and not message.check_message_integrity(self._key)
        ):
            return
        if message.message_class == stun.Class.RESPONSE:
            self._answer.set_result((message, addr))
        elif self._key is not None and message.error_code == 401 and self._sent > 1:
            # coturn looks a user up in another thread; a repetition that overtakes the look-up is
            # refused with 401 although the first copy is then granted. So a success may still come.
            self._refusal = stun.TransactionFailed(message)
        else:
            self._answer.set_exception(stun.TransactionFailed(message))

    def _send(self) -> None:
        self._sender.send_stun(self._request, self._server)
        self._sent += 1
        self._sent_at = time.monotonic()

    def asks(self, addr: tuple[str, int]) -> bool:
        """Say whether it is this address that is to answer."""
        return self._server == addr

    def ask_again(self, least_s: float) -> None:
        """Send once more, out of turn, if the last time is so long ago: it may get through now."""
        if not self._answer.done() and time.monotonic() - self._sent_at > least_s:
            self._send()

    async def run(self) -> tuple[stun.Message, tuple[str, int]]:
        """Send until answered or out of tries."""
        began = time.monotonic()
        try:
            for delay in self._delays:
                self._send()
                done, _ = await asyncio.wait((self._answer,), timeout=delay)
                if not done and self._refusal is not None:
                    done, _ = await asyncio.wait((self._answer,), timeout=OVERTAKEN_S)
                    if not done:
                        raise self._refusal
                if done:
                    if self._answers is not None:
                        self._answers.note(time.monotonic() - began, relay=self._long_term)
                    return self._answer.result()
            raise stun.TransactionTimeout
        finally:
            if self._answer.done() and not self._answer.cancelled():
                self._answer.exception()  # an answer nobody waits for is no error
            self._answer.cancel()


class _QuickTurn(turn.TurnClientMixin):
    """The parts both transports share: quick requests and an end that cannot hang."""

    delays: Sequence[float] = ()
    answers: Answers | None = None

    async def request(self, request: stun.Message) -> tuple[stun.Message, tuple[str, int]]:
        if self.integrity_key:
            request.attributes["USERNAME"] = self.username
            request.attributes["NONCE"] = self.nonce
            request.attributes["REALM"] = self.realm
            request.add_message_integrity(self.integrity_key)
        transaction = QuickTransaction(
            request,
            self.server,
            self,
            delays=self.delays,
            integrity_key=self.integrity_key,
            long_term_credential=True,
            answers=self.answers,
        )
        self.transactions[request.transaction_id] = transaction
        try:
            return await transaction.run()
        finally:
            del self.transactions[request.transaction_id]

    async def delete(self) -> None:
        """Free the allocation (RFC 8656 §8: lifetime 0), within a bounded time whatever the server does."""
        try:
            with contextlib.suppress(TimeoutError):
                async with timeout(DELETE_TIMEOUT_S):
                    await super().delete()
        finally:
            # close() would wait for a dead TCP peer to take its bytes.
            if isinstance(self.transport, asyncio.WriteTransport | asyncio.DatagramTransport):
                self.transport.abort()


class RelayUser(Protocol):
    """What an allocation over UDP serves, beside being an asyncio.DatagramProtocol."""

    def media_received(self, data: bytes, addr: tuple[Any, ...], arrival: float) -> None:
        """Take voice of a peer; see `webrtc/udp.py`."""


class QuickTurnUdp(_QuickTurn, turn.TurnClientUdpProtocol):
    """TURN over UDP."""

    delays = tuple(retry_delays(RETRY_TOTAL_S))

    def is_media(self, data: bytes) -> bool:
        """Say whether this is voice on a channel (RFC 8656 §12.4)."""
        return len(data) > CHANNEL_HEADER_BYTES and 0x40 <= data[0] < 0x50 and 128 <= data[4] < 192

    def unwrap(self, data: bytes) -> tuple[bytes, tuple[str, int]] | None:
        """Take voice out of its channel: what a peer sent, and which; None for a channel nobody bound."""
        channel, length = CHANNEL_HEADER.unpack_from(data)
        peer = self.channel_to_peer.get(channel)
        if peer is None:
            return None
        return data[CHANNEL_HEADER_BYTES : CHANNEL_HEADER_BYTES + length], peer

    def media_received(self, data: bytes, _server: tuple[Any, ...], arrival: float) -> None:
        """Pass on voice, on the loop."""
        found = self.unwrap(data)
        user = cast(RelayUser | None, self.receiver)
        if found is not None and user is not None:
            user.media_received(*found, arrival)


class QuickTurnStream(_QuickTurn, turn.TurnClientTcpProtocol):
    """TURN over TCP or TLS: the stream retransmits, so a request is sent once."""

    delays = (RETRY_TOTAL_S,)

    def _send(self, data: bytes) -> None:
        # A stream that does not move must not pile up voice: what is late is worth nothing.
        if self.transport.get_write_buffer_size() < MAX_STREAM_BUFFER:
            super()._send(data)


class RelayTransport(turn.TurnTransport):
    """A datagram transport over an allocation, without a task per packet once a channel is bound."""

    def __init__(self, client: QuickTurnUdp | QuickTurnStream) -> None:
        super().__init__(client)
        self._client = client
        self._loop = asyncio.get_running_loop()
        self._loop_thread = threading.get_ident()
        self._refresh_task: asyncio.Task[None] | None = None
        self._refresh_at: dict[int, float] = {}  # by channel, monotonic seconds
        self._ended = False

    @property
    def udp(self) -> UdpTransport | None:
        """The socket to the TURN server; None over TCP and TLS."""
        inner = self._client.transport
        return inner if isinstance(inner, UdpTransport) else None

    def receive(self) -> list[Datagram]:
        """Return what peers sent through the allocation; see `UdpTransport.receive`."""
        inner, client = self.udp, self._client
        if inner is None or not isinstance(client, QuickTurnUdp):
            return []
        found = ((client.unwrap(data), arrival) for data, _, arrival in inner.receive())
        return [(*voice, arrival) for voice, arrival in found if voice is not None]

    def sendto(self, data: bytes, addr: tuple[str, int]) -> None:
        """Send on the bound channel; bind or refresh it first when there is none or it is due.

        From any thread when there is a `udp` socket, else on the loop.
        """
        client = self._client
        channel = client.peer_to_channel.get(addr)
        due = channel is None or self._is_due(channel)
        if (due or self.udp is None) and threading.get_ident() != self._loop_thread:
            with contextlib.suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(self.sendto, data, addr)
            return
        if channel is None or due:
            if len(client.peer_connect_waiters.get(addr, ())) >= MAX_PENDING_SENDS:
                return
            if channel is not None:
                # One task refreshes; the packets behind it need not wait.
                self._refresh_at[channel] = time.monotonic() + CHANNEL_REFRESH_S
                self._refresh(channel, addr)
            else:
                super().sendto(data, addr)
                return
        if not self._ended and not client.transport.is_closing():
            client._send(CHANNEL_HEADER.pack(channel, len(data)) + data)

    def _is_due(self, channel: int) -> bool:
        """Say whether a bound channel is to be refreshed; seen for the first time it has just been bound.

        Not by aioice's own times, which are those of a clock that may be set back by days in the call.
        """
        now = time.monotonic()
        return now > self._refresh_at.setdefault(channel, now + CHANNEL_REFRESH_S)

    def _refresh(self, channel: int, addr: tuple[str, int]) -> None:
        self._refresh_task = asyncio.create_task(self._rebind(channel, addr))

    async def _rebind(self, channel: int, addr: tuple[str, int]) -> None:
        try:
            await self._client.channel_bind(channel, addr)
        except (stun.TransactionError, ConnectionError) as error:
            logger.debug("a TURN channel was not refreshed: %s", error)

    def close(self) -> None:
        """Delete the allocation and close; idempotent."""
        self._ended = True
        if self._refresh_task is not None:
            self._refresh_task.cancel()
        super().close()


@dataclass(frozen=True, slots=True)
class _RelayAttempt:
    url: IceUrl
    server: IceServer
    answers: Answers | None


def _attempts(
    servers: Iterable[IceServer], memory: TurnMemory, answers: Answers | None
) -> list[_RelayAttempt]:
    owner: dict[IceUrl, IceServer] = {}
    for server in servers:
        for text in server.urls:
            url = parse_ice_url(text)
            if url is not None and url.relay:
                owner.setdefault(url, server)
    return [_RelayAttempt(url, owner[url], answers) for url in memory.order(owner)][:MAX_URLS]


async def allocate_relay(
    protocol_factory: Callable[[], ProtocolT],
    servers: Sequence[IceServer],
    memory: TurnMemory,
    ca_file: str | None,
    answers: Answers | None = None,
) -> ProtocolT:
    """Return a protocol bound to the first allocation that any URL gives.

    Raises:
        MediaError: `no_relay` (no usable URL), `turn_unauthorized`, `turn_quota`, `turn_unreachable`.
    """
    attempts = _attempts(servers, memory, answers)
    if not attempts:
        raise MediaError("no usable TURN server", code="no_relay")
    refused: set[IceServer] = set()
    worst = MediaError("no TURN server answered", code="turn_unreachable")
    deadline = asyncio.get_running_loop().time() + ALLOCATE_TIMEOUT_S
    for attempt in attempts:
        left = deadline - asyncio.get_running_loop().time()
        if left <= 0:
            break
        if attempt.server in refused:
            continue  # the same credentials: another transport gives the same answer
        try:
            async with timeout(min(ATTEMPT_TIMEOUT_S, left)):
                protocol = await _allocate_or_ask_again(protocol_factory, attempt, ca_file)
        except stun.TransactionFailed as error:
            worst = _refusal(error.response.error_code)
            refused.add(attempt.server)
        except (OSError, stun.TransactionError) as error:  # TimeoutError and ssl.SSLError are OSErrors
            logger.debug("TURN over %s gave nothing: %s", attempt.url.transport.name, type(error).__name__)
        else:
            memory.remember(attempt.url.text)
            logger.info("TURN allocation over %s", attempt.url.transport.name)
            return protocol
        memory.forget(attempt.url.text)
    raise worst


def _refusal(code: int | None) -> MediaError:
    # RFC 8656 §7.4 and RFC 8489 §9.2.4
    if code in (401, 403, 441):
        return MediaError("the TURN server does not take our credentials", code="turn_unauthorized")
    if code in (486, 508):
        return MediaError("the TURN server gives no more allocations", code="turn_quota")
    return MediaError(f"the TURN server refused with {code}", code="turn_refused")


async def _allocate_or_ask_again(
    protocol_factory: Callable[[], ProtocolT], attempt: _RelayAttempt, ca_file: str | None
) -> ProtocolT:
    # coturn 4.6, just started: of clients that ask in the same moment it refuses one or more. Both ends of
    # a call do ask in the same moment, and would again without a pause of their own.
    for _ in range(ASK_AGAIN):
        try:
            return await _allocate(protocol_factory, attempt, ca_file)
        except stun.TransactionFailed as error:
            if error.response.error_code != 401:
                raise
        await asyncio.sleep(random.uniform(*ASK_AGAIN_S))
    return await _allocate(protocol_factory, attempt, ca_file)


async def _allocate(
    protocol_factory: Callable[[], ProtocolT], attempt: _RelayAttempt, ca_file: str | None
) -> ProtocolT:
    url = attempt.url
    context: ssl.SSLContext | None = None
    if url.transport is RelayProtocol.TLS:
        # Reading the authorities takes tens of milliseconds of disk and parsing.
        context = await asyncio.to_thread(ssl.create_default_context, cafile=ca_file)
    addresses = await NAMES.resolve(url.host)
    protocol, address = await race(
        [functools.partial(_allocate_at, one, protocol_factory, attempt, context) for one in addresses],
        discard=_give_back,
        decisive=(stun.TransactionFailed,),
    )
    NAMES.worked(url.host, address)
    return protocol


def _give_back(late: tuple[ProtocolT, str]) -> None:
    transport = getattr(late[0], "transport", None)
    if isinstance(transport, RelayTransport):
        transport.close()


async def _allocate_at(
    address: str,
    protocol_factory: Callable[[], ProtocolT],
    attempt: _RelayAttempt,
    context: ssl.SSLContext | None,
) -> tuple[ProtocolT, str]:
    """Allocate at one address of the server; returns the address with it."""
    url = attempt.url
    arguments = (
        (address, url.port),
        attempt.server.username,
        attempt.server.credential.reveal(),
        turn.DEFAULT_ALLOCATION_LIFETIME,
        CHANNEL_REFRESH_S,
    )
    client: QuickTurnUdp | QuickTurnStream
    inner: asyncio.BaseTransport
    if url.transport is RelayProtocol.UDP:
        inner, client = open_udp(QuickTurnUdp(*arguments), remote=(address, url.port))
        client.answers = attempt.answers
    else:
        inner, client = await asyncio.get_running_loop().create_connection(
            lambda: QuickTurnStream(*arguments),
            address,
            url.port,
            ssl=context,
            server_hostname=url.host if context is not None else None,
        )
    protocol = protocol_factory()
    relay = RelayTransport(client)
    try:
        await relay._connect(protocol)
    except BaseException:
        if client.refresh_task is not None:
            client.refresh_task.cancel()
        if isinstance(inner, asyncio.WriteTransport | asyncio.DatagramTransport):
            inner.abort()  # also when cancelled by the attempt's time: else the socket stays
        raise
    return protocol, address
