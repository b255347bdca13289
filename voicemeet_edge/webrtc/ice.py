"""Our ICE connection: which sockets exist, who may talk to them, how fast they ask again.

A subclass of aioice's connection; its one rule: no address leaves or enters that the policy does not allow,
and no datagram goes further that did not come from a pair which passed an authenticated check.
"""

from __future__ import annotations

import asyncio
import functools
import ipaddress
import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, cast

import aioice
from aioice import mdns, stun
from aioice.candidate import Candidate, candidate_foundation, candidate_priority
from aioice.ice import CandidatePair, StunProtocol, get_or_create_mdns_protocol
from aioice.ice import _mdns as mdns_of_thread

from voicemeet_edge.choices import IcePolicy
from voicemeet_edge.errors import MediaError
from voicemeet_edge.net.addresses import own_addresses
from voicemeet_edge.net.eyeballs import race
from voicemeet_edge.net.names import NAMES
from voicemeet_edge.timeouts import timeout
from voicemeet_edge.voice.ladder import IPV6_BYTES, STREAM_BYTES, TURN_BYTES
from voicemeet_edge.webrtc.candidates import MAX_CANDIDATES, IceCandidate
from voicemeet_edge.webrtc.ice_server import parse_ice_url
from voicemeet_edge.webrtc.options import PeerOptions
from voicemeet_edge.webrtc.turn import Answers, QuickTransaction, RelayTransport, allocate_relay, retry_delays
from voicemeet_edge.webrtc.udp import UdpTransport, open_udp

logger = logging.getLogger(__name__)

STUN_TIMEOUT_S = 1.0  # s for our public address: without it host and relay still work
RESOLVE_LIMIT = 8  # `.local` names looked up for one peer: each is a multicast the whole network hears
MAX_QUEUED_DATAGRAMS = 64  # a DTLS handshake is under ten; what a flood adds is dropped
MAX_ADDRESSES = 8  # local addresses used: each costs a socket and a check per remote candidate
MAX_REMOTE_CANDIDATES = MAX_CANDIDATES + 16  # a whole description and what is trickled after it
MAX_LEARNED = 16  # sources of authenticated checks that nobody signalled: the peer's NATs
# s; in a queue of somebody else's an answer takes 2 s and more. With less, a call that works is closed when
# six of them in a row are late. So consent may end later than the 30 s of RFC 7675 §5.1; a call in which
# nothing is heard ends sooner (call.reconnect_timeout_s).
CONSENT_WAIT_S = 4.0
# A relayed check crosses four hops and is small: it is sent again before its answer can have come.
CHECK_AGAIN_S = 0.02
CHECK_DELAYS = (0.05, 0.05, *retry_delays(12.0))
STUN_DELAYS = tuple(retry_delays(STUN_TIMEOUT_S))

# Both libraries log addresses at INFO; a deployment that wants them sets their level itself.
for _name in ("aioice", "aiortc"):
    if logging.getLogger(_name).level == logging.NOTSET:
        logging.getLogger(_name).setLevel(logging.WARNING)


_mdns_loop = threading.local()


def bind_mdns_to_loop() -> None:
    """Let aioice make its mDNS socket and lock anew for this event loop; it keeps them for a thread."""
    loop = asyncio.get_running_loop()
    if getattr(_mdns_loop, "loop", None) is not loop:
        _mdns_loop.loop = loop
        vars(mdns_of_thread).pop("lock", None)


def local_addresses(options: PeerOptions) -> list[str]:
    """Return the addresses to bind: the ones set, or the best of the chosen interfaces."""
    found = list(options.addresses) or own_addresses(options.interfaces, ipv6=options.ipv6)
    return found[:MAX_ADDRESSES]


class EdgeStunProtocol(StunProtocol):
    """One socket (or allocation): tells STUN, DTLS and SRTP apart (RFC 7983 §7) before anything is parsed."""

    receiver: IceConnection

    def is_media(self, data: bytes) -> bool:
        """Say whether this is RTP or RTCP."""
        return bool(data) and 128 <= data[0] < 192

    def media_received(self, data: bytes, addr: tuple[Any, ...], arrival: float) -> None:
        """Take RTP or RTCP, on the loop."""
        self.receiver.media_received(data, self, (addr[0], addr[1]), arrival)

    def datagram_received(self, data: bytes | str, addr: tuple[Any, ...]) -> None:
        packet = cast(bytes, data)
        source = (addr[0], addr[1])
        first = packet[0] if packet else 255
        if 128 <= first < 192:  # over a TURN server's TCP: UdpTransport tells it by itself
            self.receiver.media_received(packet, self, source, time.monotonic())
        elif first < 4:
            super().datagram_received(packet, source)
        elif 20 <= first < 64:
            self.receiver.dtls_received(packet, self, source)
        else:
            self.receiver.dropped += 1

    async def request(
        self,
        request: stun.Message,
        addr: tuple[str, int],
        integrity_key: bytes | None = None,
        retransmissions: int | None = None,
    ) -> tuple[stun.Message, tuple[str, int]]:
        """Execute a STUN transaction with our timers."""
        if integrity_key is not None:
            request.add_message_integrity(integrity_key)
        delays: Sequence[float] = CHECK_DELAYS if integrity_key is not None else STUN_DELAYS
        if retransmissions is not None:
            # Consent checks (RFC 7675 §5.1) ask once and wait.
            delays = (CONSENT_WAIT_S,) * (retransmissions + 1)
        transaction = QuickTransaction(
            request,
            addr,
            self,
            delays=delays,
            integrity_key=integrity_key,
            answers=self.receiver.answers if retransmissions is None else None,
        )
        self.transactions[request.transaction_id] = transaction
        try:
            return await transaction.run()
        finally:
            del self.transactions[request.transaction_id]


async def _bind_request(protocol: StunProtocol, server: tuple[str, int]) -> tuple[stun.Message, str]:
    """Ask a STUN server what our address looks like from there (RFC 8489 §2); returns its address too."""
    request = stun.Message(message_method=stun.Method.BINDING, message_class=stun.Class.REQUEST)
    response, _ = await protocol.request(request, server)
    return response, server[0]


class IceConnection(aioice.Connection):
    """An ICE connection that keeps to `PeerOptions`."""

    def __init__(self, options: PeerOptions, *, controlling: bool) -> None:
        super().__init__(
            ice_controlling=controlling,
            use_ipv6=options.ipv6,
            transport_policy=(
                aioice.TransportPolicy.RELAY
                if options.policy is IcePolicy.RELAY
                else aioice.TransportPolicy.ALL
            ),
        )
        self.options = options
        self.dropped = 0
        self.answers = Answers()
        """To what was asked until there was a path."""
        self.relay_error: MediaError | None = None
        """Why there is no relay candidate, when that was not fatal at once."""
        self.on_media: Callable[[bytes, float], None] | None = None
        """Set when SRTP is ready; told on the loop of each datagram of a checked source and its arrival."""
        self._checked: set[tuple[int, tuple[str, int]]] = set()
        self._published: list[IceCandidate] = []
        self._names: list[str] = []
        self._resolved = 0
        self._signalled = 0
        self._learned = 0
        self._gathering: asyncio.Task[list[Candidate]] | None = None

    # What we tell

    @property
    def published(self) -> tuple[IceCandidate, ...]:
        """The candidates the other side may learn, as the policy allows."""
        return tuple(self._published)

    async def gather_candidates(self) -> None:
        """Open sockets and allocations.

        Raises:
            MediaError: no candidate can be had, with the reason; or `closed` when closed meanwhile.
        """
        if self._local_candidates_start:
            return
        self._local_candidates_start = True
        bind_mdns_to_loop()
        self._gathering = asyncio.ensure_future(self._gather())
        try:
            await asyncio.wait((self._gathering,))
        finally:
            self._gathering.cancel()
        if self._closing or self._gathering.cancelled():
            raise MediaError("closed while gathering", code="closed")
        self._local_candidates += self._gathering.result()
        await self._publish()
        if not self._published:
            if self.relay_error is not None and (
                self.options.policy is IcePolicy.RELAY or self.relay_error.code != "no_relay"
            ):
                raise self.relay_error
            raise MediaError("no usable network address", code="no_network")
        self._local_candidates_end = True

    async def _gather(self) -> list[Candidate]:
        policy = self.options.policy
        hosts: list[StunProtocol] = []
        if policy is not IcePolicy.RELAY:
            hosts = await self._bind_hosts()
        candidates = [protocol.local_candidate for protocol in hosts]
        async with asyncio.TaskGroup() as group:
            relay = group.create_task(self._relay())
            public = [
                group.create_task(self._server_reflexive(protocol))
                for protocol in (hosts if policy is IcePolicy.DIRECT else ())
            ]
        candidates += [task.result() for task in (*public, relay) if task.result() is not None]  # type: ignore[misc]
        return candidates

    async def _bind_hosts(self) -> list[StunProtocol]:
        protocols: list[StunProtocol] = []
        for preference, address in enumerate(local_addresses(self.options)):
            try:
                transport, protocol = open_udp(EdgeStunProtocol(self), local=(address, 0))
            except OSError:
                logger.debug("an address cannot be bound")  # it vanished, or is not usable yet
                continue
            host, port = transport.get_extra_info("sockname")[:2]
            protocol.local_candidate = Candidate(
                foundation=candidate_foundation("host", "udp", host),
                component=1,
                transport="udp",
                # RFC 8445 §5.1.2.1: one preference per address, so that both sides sort alike.
                priority=candidate_priority(1, "host", 65535 - preference),
                host=host,
                port=port,
                type="host",
            )
            protocols.append(protocol)
            self._protocols.append(protocol)
        return protocols

    async def _relay(self) -> Candidate | None:
        options = self.options
        try:
            protocol = await allocate_relay(
                lambda: EdgeStunProtocol(self),
                options.ice_servers,
                options.turn_memory,
                options.turn_ca,
                self.answers,
            )
        except MediaError as error:
            self.relay_error = error
            return None
        host, port = protocol.transport.get_extra_info("sockname")
        protocol.local_candidate = Candidate(
            foundation=candidate_foundation("relay", "udp", host),
            component=1,
            transport="udp",
            priority=candidate_priority(1, "relay"),
            host=host,
            port=port,
            type="relay",
        )
        self._protocols.append(protocol)
        return protocol.local_candidate

    async def _server_reflexive(self, protocol: StunProtocol) -> Candidate | None:
        urls = (parse_ice_url(text) for server in self.options.ice_servers for text in server.urls)
        url = next((url for url in urls if url is not None and not url.relay), None)
        local = protocol.local_candidate
        if url is None or ipaddress.ip_address(local.host).version != 4:
            return None
        try:
            async with timeout(STUN_TIMEOUT_S):
                found = [one for one in await NAMES.resolve(url.host) if ":" not in one]
                asked = [functools.partial(_bind_request, protocol, (one, url.port)) for one in found]
                response, answered = await race(asked, discard=lambda _late: None)
                NAMES.worked(url.host, answered)
            host, port = response.attributes["XOR-MAPPED-ADDRESS"]
        except (OSError, stun.TransactionError, KeyError, IndexError):
            return None
        if (host, port) == (local.host, local.port):
            return None  # not behind a NAT: the host candidate says the same (RFC 8445 §5.1.3)
        return Candidate(
            foundation=candidate_foundation("srflx", "udp", local.host),
            component=1,
            transport="udp",
            priority=candidate_priority(1, "srflx"),
            host=host,
            port=port,
            type="srflx",
        )

    async def _publish(self) -> None:
        policy = self.options.policy
        for candidate in self._local_candidates:
            host = candidate.host
            if candidate.type == "host" and policy is IcePolicy.MDNS:
                host = mdns.create_mdns_hostname()
                try:
                    await (await get_or_create_mdns_protocol(self)).publish(host, candidate.host)
                except OSError:
                    logger.warning("cannot publish mDNS names; the host candidate is left out")
                    continue
                self._names.append(host)
            self._published.append(
                IceCandidate(candidate.foundation, candidate.priority, host, candidate.port, candidate.type)
            )
        if policy is not IcePolicy.DIRECT:
            # aioice's foundation is a bare hash of the address: 2^32 guesses would give it back.
            self._published = [
                IceCandidate(str(index), c.priority, c.address, c.port, c.kind)
                for index, c in enumerate(self._published, 1)
            ]

    # What we are told

    async def add_remote(self, candidate: IceCandidate) -> None:
        """Take a candidate of the peer if the policy lets us contact it; never raises for a bad one."""
        if self._remote_candidates_end or self._signalled >= MAX_REMOTE_CANDIDATES:
            self.dropped += 1
            return
        if self.options.policy is IcePolicy.RELAY and candidate.kind == "host":
            return
        if candidate.is_name:
            self._resolved += 1
            if self._resolved > RESOLVE_LIMIT:
                return
        elif ipaddress.ip_address(candidate.address).version == 6 and not self.options.ipv6:
            return
        self._signalled += 1
        try:
            await self.add_remote_candidate(
                Candidate(
                    foundation=candidate.foundation,
                    component=1,
                    transport="udp",
                    priority=candidate.priority,
                    host=candidate.address,
                    port=candidate.port,
                    type="srflx" if candidate.kind == "prflx" else candidate.kind,
                )
            )
        except (OSError, ValueError) as error:
            logger.debug("a remote candidate was not taken: %s", type(error).__name__)

    async def end_remote(self) -> None:
        """No more candidates will come."""
        if not self._remote_candidates_end:
            await self.add_remote_candidate(None)

    def check_incoming(self, message: stun.Message, addr: tuple[str, int], protocol: StunProtocol) -> None:
        """Take an authenticated check; from now on this source may send data."""
        known = any(c._network_host == addr[0] and c.port == addr[1] for c in self._remote_candidates)
        if not known:
            if self._learned >= MAX_LEARNED:
                self.dropped += 1
                return
            self._learned += 1
        self._checked.add((protocol.id, addr))
        super().check_incoming(message, addr, protocol)
        # Its relay lets us through now, and it hears us: ours may have been lost before that.
        for transaction in protocol.transactions.values():
            if isinstance(transaction, QuickTransaction) and transaction.asks(addr):
                transaction.ask_again(CHECK_AGAIN_S)

    def check_complete(self, pair: CandidatePair) -> None:
        """Note an answered check of ours; from now on this source may send data."""
        if pair.state == CandidatePair.State.SUCCEEDED:
            self._checked.add((pair.protocol.id, pair.remote_addr))
        super().check_complete(pair)

    # Data

    def media_received(
        self, data: bytes, protocol: StunProtocol, source: tuple[str, int], arrival: float
    ) -> None:
        """Hand a (still encrypted) RTP or RTCP packet on at once, on the loop, without a queue."""
        on_media = self.on_media
        if on_media is None:
            self.dropped += 1
        elif self._is_checked(protocol, source):
            on_media(data, arrival)

    def _is_checked(self, protocol: StunProtocol, source: tuple[str, int]) -> bool:
        """Say whether this source may send data; counts it when not."""
        checked = (protocol.id, source) in self._checked
        self.dropped += not checked
        return checked

    def dtls_received(self, data: bytes, protocol: StunProtocol, source: tuple[str, int]) -> None:
        """Queue a handshake datagram."""
        # Before connect() nobody has been checked, and a handshake cannot have begun.
        if (protocol.id, source) not in self._checked or self._queue.qsize() >= MAX_QUEUED_DATAGRAMS:
            self.dropped += 1
            return
        self._queue.put_nowait((data, 1))

    def data_received(self, data: bytes, component: int) -> None:
        """Drop what aioice's parser could not read as STUN; everything else was sorted before."""
        self.dropped += 1

    def send_now(self, data: bytes) -> bool:
        """Send on the chosen pair; False when there is none."""
        pair = self._nominated.get(1)
        if pair is None:
            return False
        pair.protocol.transport.sendto(data, pair.remote_addr)
        return True

    def _chosen_udp(self) -> UdpTransport | None:
        """The socket under the chosen pair; None over TCP and TLS."""
        pair = self._nominated.get(1)
        transport = pair.protocol.transport if pair is not None else None
        if isinstance(transport, RelayTransport):
            return transport.udp
        return transport if isinstance(transport, UdpTransport) else None

    @property
    def sends_in_any_thread(self) -> bool:
        """Whether `send_now` may now be called from any thread."""
        return self._chosen_udp() is not None

    def receive(self) -> list[tuple[bytes, float]]:
        """Return what came on the chosen pair, still encrypted, with arrivals; over TCP and TLS nothing."""
        pair = self._nominated.get(1)
        transport = pair.protocol.transport if pair is not None else None
        if pair is None or not isinstance(transport, UdpTransport | RelayTransport):
            return []
        return [
            (data, arrival)
            for data, source, arrival in transport.receive()
            if self._is_checked(pair.protocol, (source[0], source[1]))
        ]

    async def round_trip(self) -> float | None:
        """Ask the peer for a sign of life on the chosen pair; returns how long it took, None when none came.

        Every ICE peer answers (RFC 8445 §7.3), browsers too.
        """
        pair, password = self._nominated.get(1), self.remote_password
        if pair is None or password is None:
            return None
        began = time.monotonic()
        try:
            await pair.protocol.request(
                self.build_request(pair, nominate=False),
                pair.remote_addr,
                integrity_key=password.encode(),
                retransmissions=0,
            )
        except (stun.TransactionError, OSError):
            return None
        return time.monotonic() - began

    @property
    def route(self) -> str:
        """What stands for the way out that was chosen: kind of candidate and the address it is at."""
        pair = self._nominated.get(1)
        return f"{pair.local_candidate.type} {pair.local_candidate.host}" if pair is not None else ""

    @property
    def tunnel_bytes(self) -> int:
        """Bytes around each datagram on the chosen pair beyond IPv4 and UDP."""
        pair = self._nominated.get(1)
        if pair is None:
            return 0
        transport, tunnel = pair.protocol.transport, 0
        if isinstance(transport, RelayTransport):
            tunnel = TURN_BYTES if transport.udp is not None else TURN_BYTES + STREAM_BYTES
        inner = transport.udp if isinstance(transport, RelayTransport) else transport
        local = inner.get_extra_info("sockname") if inner is not None else None
        return tunnel + (IPV6_BYTES if local is not None and ":" in local[0] else 0)

    @property
    def chosen(self) -> tuple[str, str]:
        """Kinds of the chosen pair's candidates (local, remote); empty before there is one."""
        pair = self._nominated.get(1)
        if pair is None:
            return ("", "")
        return (pair.local_candidate.type, pair.remote_candidate.type)

    async def close(self) -> None:
        """Close sockets, give allocations back, withdraw names."""
        self.on_media = None
        if self._gathering is not None and not self._gathering.done():
            self._closing = True
            self._gathering.cancel()
            await asyncio.wait((self._gathering,))
        if self._names:
            import dns.name  # a library of its own, loaded only where names are used

            zone = (await get_or_create_mdns_protocol(self)).zone
            for name in self._names:
                zone.delete_node(dns.name.from_text(name))
            self._names.clear()
        await super().close()
