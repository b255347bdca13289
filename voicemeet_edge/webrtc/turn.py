"""The TURN ladder: one allocation from a list of URLs, each tried for a bounded time; and its bounded end.

Built on aioice's TURN client; what is ours is the timers, the order, the errors and the cheap send.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar, cast

from aioice import stun, turn

from voicemeet_edge.errors import MediaError
from voicemeet_edge.timeouts import timeout
from voicemeet_edge.webrtc.options import IceServer, IceTransport, IceUrl, TurnMemory, parse_ice_url
from voicemeet_edge.webrtc.udp import UdpTransport, open_udp

logger = logging.getLogger(__name__)

ProtocolT = TypeVar("ProtocolT", bound=asyncio.DatagramProtocol)

RUNG_TIMEOUT_S = 1.5  # seconds per URL: five lost packets at 10 % loss are rarer than a blocked port
LADDER_TIMEOUT_S = 6.0  # seconds for all URLs together: someone is waiting beside the device
DELETE_TIMEOUT_S = 1.0  # seconds to give the allocation back; coturn forgets it by itself after that
CHANNEL_REFRESH_S = 240  # seconds; the channel's permission lives 300 (RFC 8656 §9)
MAX_URLS = 8  # no provider lists more than six
MAX_PENDING_SENDS = 32  # datagrams waiting for a channel to be bound: half a second of voice
MAX_STREAM_BUFFER = 65536  # bytes queued on a TCP or TLS path before voice is dropped instead
CHANNEL_HEADER = struct.Struct("!HH")  # number and length (RFC 8656 §12.4)
CHANNEL_HEADER_BYTES = CHANNEL_HEADER.size

# RFC 8489 §6.2.1 begins at 500 ms and doubles: over one loss a caller has waited long. Voice paths have
# round trips under 100 ms, requests are 100 bytes, and RFC 8445 §14.3 lets ICE go down to 50 ms.
RETRY_DELAYS_S = (0.1, 0.1, 0.15, 0.15, 0.2, 0.3, 0.4)
RETRY_DELAY_CAP_S = 0.5
OVERTAKEN_S = 0.5  # seconds to wait for the success that a repetition's refusal may have overtaken
RETRY_TOTAL_S = 12.0  # a signaling server that stalls for seconds must not fail the checks


def retry_delays(total_s: float) -> list[float]:
    """Return the waits between transmissions until `total_s` is used up."""
    delays: list[float] = []
    while sum(delays) < total_s:
        delays.append(RETRY_DELAYS_S[len(delays)] if len(delays) < len(RETRY_DELAYS_S) else RETRY_DELAY_CAP_S)
    return delays


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
    ) -> None:
        super().__init__(request, addr, protocol)
        self._request = request
        self._server = addr
        self._sender = protocol
        self._delays = delays
        self._key = integrity_key
        self._long_term = long_term_credential
        self._sent = 0
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

    async def run(self) -> tuple[stun.Message, tuple[str, int]]:
        """Send until answered or out of tries."""
        try:
            for delay in self._delays:
                self._sender.send_stun(self._request, self._server)
                self._sent += 1
                done, _ = await asyncio.wait((self._answer,), timeout=delay)
                if not done and self._refusal is not None:
                    done, _ = await asyncio.wait((self._answer,), timeout=OVERTAKEN_S)
                    if not done:
                        raise self._refusal
                if done:
                    return self._answer.result()
            raise stun.TransactionTimeout
        finally:
            if self._answer.done() and not self._answer.cancelled():
                self._answer.exception()  # an answer nobody waits for is no error
            self._answer.cancel()


class _QuickTurn(turn.TurnClientMixin):
    """The parts both transports share: quick requests and an end that cannot hang."""

    delays: Sequence[float] = ()

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

    def media_received(self, data: bytes, _server: tuple[Any, ...], arrival: float) -> None:
        """Take voice out of its channel, in whichever thread."""
        channel, length = CHANNEL_HEADER.unpack_from(data)
        peer = self.channel_to_peer.get(channel)
        user = cast(RelayUser | None, self.receiver)
        if peer is not None and user is not None:
            user.media_received(data[CHANNEL_HEADER_BYTES : CHANNEL_HEADER_BYTES + length], peer, arrival)


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
        self._ended = False

    @property
    def udp(self) -> UdpTransport | None:
        """The socket to the TURN server; None over TCP and TLS."""
        inner = self._client.transport
        return inner if isinstance(inner, UdpTransport) else None

    def sendto(self, data: bytes, addr: tuple[str, int]) -> None:
        """Send on the bound channel; bind or refresh it first when there is none or it is due.

        From any thread when there is a `udp` socket, else on the loop.
        """
        client = self._client
        channel = client.peer_to_channel.get(addr)
        due = channel is None or time.time() > client.channel_refresh_at[channel]
        if (due or self.udp is None) and threading.get_ident() != self._loop_thread:
            with contextlib.suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(self.sendto, data, addr)
            return
        if channel is None or time.time() > client.channel_refresh_at[channel]:
            if len(client.peer_connect_waiters.get(addr, ())) >= MAX_PENDING_SENDS:
                return
            if channel is not None:
                # One task refreshes; the packets behind it need not wait.
                client.channel_refresh_at[channel] = time.time() + CHANNEL_REFRESH_S
                self._refresh(channel, addr)
            else:
                super().sendto(data, addr)
                return
        if not self._ended and not client.transport.is_closing():
            client._send(CHANNEL_HEADER.pack(channel, len(data)) + data)

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
class _Rung:
    url: IceUrl
    server: IceServer


def _rungs(servers: Iterable[IceServer], memory: TurnMemory) -> list[_Rung]:
    owner: dict[IceUrl, IceServer] = {}
    for server in servers:
        for text in server.urls:
            url = parse_ice_url(text)
            if url is not None and url.relay:
                owner.setdefault(url, server)
    return [_Rung(url, owner[url]) for url in memory.order(owner)][:MAX_URLS]


async def climb(
    protocol_factory: Callable[[], ProtocolT],
    servers: Sequence[IceServer],
    memory: TurnMemory,
    ca_file: str | None,
) -> ProtocolT:
    """Return a protocol bound to the first allocation that any URL gives.

    Raises:
        MediaError: `no_relay` (no usable URL), `turn_unauthorized`, `turn_quota`, `turn_unreachable`.
    """
    rungs = _rungs(servers, memory)
    if not rungs:
        raise MediaError("no usable TURN server", code="no_relay")
    refused: set[IceServer] = set()
    worst = MediaError("no TURN server answered", code="turn_unreachable")
    deadline = asyncio.get_running_loop().time() + LADDER_TIMEOUT_S
    for rung in rungs:
        left = deadline - asyncio.get_running_loop().time()
        if left <= 0:
            break
        if rung.server in refused:
            continue  # the same credentials: another transport gives the same answer
        try:
            async with timeout(min(RUNG_TIMEOUT_S, left)):
                protocol = await _allocate_or_ask_again(protocol_factory, rung, ca_file)
        except stun.TransactionFailed as error:
            worst = _refusal(error.response.error_code)
            refused.add(rung.server)
        except (OSError, stun.TransactionError) as error:  # TimeoutError and ssl.SSLError are OSErrors
            logger.debug("TURN over %s gave nothing: %s", rung.url.transport.name, type(error).__name__)
        else:
            memory.remember(rung.url.text)
            logger.info("TURN allocation over %s", rung.url.transport.name)
            return protocol
        memory.forget(rung.url.text)
    raise worst


def _refusal(code: int | None) -> MediaError:
    # RFC 8656 §7.4 and RFC 8489 §9.2.4
    if code in (401, 403, 441):
        return MediaError("the TURN server does not take our credentials", code="turn_unauthorized")
    if code in (486, 508):
        return MediaError("the TURN server gives no more allocations", code="turn_quota")
    return MediaError(f"the TURN server refused with {code}", code="turn_refused")


async def _allocate_or_ask_again(
    protocol_factory: Callable[[], ProtocolT], rung: _Rung, ca_file: str | None
) -> ProtocolT:
    try:
        return await _allocate(protocol_factory, rung, ca_file)
    except stun.TransactionFailed as error:
        if error.response.error_code != 401:
            raise
    # coturn 4.6, just started: of two clients that ask in the same moment it refuses one.
    return await _allocate(protocol_factory, rung, ca_file)


async def _allocate(protocol_factory: Callable[[], ProtocolT], rung: _Rung, ca_file: str | None) -> ProtocolT:
    loop = asyncio.get_running_loop()
    address = (rung.url.host, rung.url.port)
    arguments = (
        address,
        rung.server.username,
        rung.server.credential.reveal(),
        turn.DEFAULT_ALLOCATION_LIFETIME,
        CHANNEL_REFRESH_S,
    )
    client: QuickTurnUdp | QuickTurnStream
    inner: asyncio.BaseTransport
    if rung.url.transport is IceTransport.UDP:
        found = await loop.getaddrinfo(*address, type=socket.SOCK_DGRAM)
        inner, client = _connect_first([one[4] for one in found], lambda: QuickTurnUdp(*arguments))
    else:
        context: ssl.SSLContext | None = None
        if rung.url.transport is IceTransport.TLS:
            # Reading the authorities takes tens of milliseconds of disk and parsing.
            context = await asyncio.to_thread(ssl.create_default_context, cafile=ca_file)
        inner, client = await loop.create_connection(
            lambda: QuickTurnStream(*arguments), *address, ssl=context
        )
    protocol = protocol_factory()
    relay = RelayTransport(client)
    try:
        await relay._connect(protocol)
    except BaseException:
        if client.refresh_task is not None:
            client.refresh_task.cancel()
        if isinstance(inner, asyncio.WriteTransport | asyncio.DatagramTransport):
            inner.abort()  # also when cancelled by the rung's time: else the socket stays
        raise
    return protocol


def _connect_first(
    addresses: Sequence[tuple[Any, ...]], make: Callable[[], QuickTurnUdp]
) -> tuple[UdpTransport, QuickTurnUdp]:
    """Connect a socket to the first address there is a route to: a name may have IPv6 where we have none.

    Raises:
        OSError: to none of them.
    """
    failed: OSError = OSError("the name has no address")
    for address in addresses:
        try:
            return open_udp(make(), remote=address)
        except OSError as error:
            failed = error
    raise failed
