"""Our ICE connection: which sockets exist, who may talk to them, how fast they ask again.

A subclass of aioice's connection; its one rule: no address leaves or enters that the policy does not allow,
and no datagram goes further that did not come from a pair which passed an authenticated check.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, cast

import aioice
import ifaddr
from aioice import mdns, stun
from aioice.candidate import Candidate, candidate_foundation, candidate_priority
from aioice.ice import CandidatePair, StunProtocol, get_or_create_mdns_protocol
from aioice.ice import _mdns as mdns_of_thread

from voicemeet_edge.errors import MediaError
from voicemeet_edge.timeouts import timeout
from voicemeet_edge.webrtc.options import IcePolicy, PeerOptions, parse_ice_url
from voicemeet_edge.webrtc.sdp import IceCandidate
from voicemeet_edge.webrtc.turn import QuickTransaction, RelayTransport, climb, retry_delays
from voicemeet_edge.webrtc.udp import UdpTransport, open_udp

logger = logging.getLogger(__name__)

STUN_TIMEOUT_S = 1.0  # seconds for our public address: without it host and relay still work
RESOLVE_LIMIT = 8  # `.local` names looked up for one peer: each is a multicast the whole network hears
MAX_QUEUED_DATAGRAMS = 64  # a DTLS handshake is under ten; what a flood adds is dropped
MAX_ADDRESSES = 8  # local addresses used: each costs a socket and a check per remote candidate
MAX_REMOTE_CANDIDATES = 32  # signalled and learned ones together: pairs grow with the product
CHECK_DELAYS = tuple(retry_delays(12.0))
STUN_DELAYS = tuple(retry_delays(STUN_TIMEOUT_S))

# Both libraries log addresses at INFO; a deployment that wants them sets their level itself.
for _name in ("aioice", "aiortc"):
    if logging.getLogger(_name).level == logging.NOTSET:
        logging.getLogger(_name).setLevel(logging.WARNING)


_mdns_loop = threading.local()


def own_mdns() -> None:
    """Let aioice make its mDNS socket and lock anew for this event loop; it keeps them for a thread."""
    loop = asyncio.get_running_loop()
    if getattr(_mdns_loop, "loop", None) is not loop:
        _mdns_loop.loop = loop
        vars(mdns_of_thread).pop("lock", None)


def local_addresses(options: PeerOptions) -> list[str]:
    """Return the addresses to bind: the ones set, or all usable ones of the chosen interfaces."""
    if options.addresses:
        return list(options.addresses)[:MAX_ADDRESSES]
    usable: list[str] = []
    loopback: list[str] = []
    for adapter in ifaddr.get_adapters():
        if options.interfaces and adapter.name not in options.interfaces:
            continue
        for ip in adapter.ips:
            text = ip.ip if isinstance(ip.ip, str) else ip.ip[0]
            address = ipaddress.ip_address(text)
            if address.version == 6 and not options.ipv6:
                continue
            if address.is_loopback:
                loopback.append(text)
            elif not address.is_link_local or address.version == 4:
                usable.append(text)
    # A demo on a machine without network still has to work.
    return (usable or loopback)[:MAX_ADDRESSES]


class EdgeStunProtocol(StunProtocol):
    """One socket (or allocation): tells STUN, DTLS and SRTP apart (RFC 7983 §7) before anything is parsed."""

    receiver: IceConnection

    def is_media(self, data: bytes) -> bool:
        """Say whether this is RTP or RTCP."""
        return bool(data) and 128 <= data[0] < 192

    def media_received(self, data: bytes, addr: tuple[Any, ...], arrival: float) -> None:
        """Take RTP or RTCP, in whichever thread."""
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
            delays = (0.5,) * (retransmissions + 1)
        transaction = QuickTransaction(request, addr, self, delays=delays, integrity_key=integrity_key)
        self.transactions[request.transaction_id] = transaction
        try:
            return await transaction.run()
        finally:
            del self.transactions[request.transaction_id]


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
        self.relay_error: MediaError | None = None
        """Why there is no relay candidate, when that was not fatal at once."""
        self.on_media: Callable[[bytes, float], None] | None = None
        """Set when SRTP is ready; called for each datagram of a checked source and its monotonic arrival."""
        self._checked: set[tuple[int, tuple[str, int]]] = set()
        self._published: list[IceCandidate] = []
        self._names: list[str] = []
        self._resolved = 0
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
        own_mdns()
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
            protocol = await climb(
                lambda: EdgeStunProtocol(self), options.ice_servers, options.turn_memory, options.turn_ca
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
        loop = asyncio.get_running_loop()
        request = stun.Message(message_method=stun.Method.BINDING, message_class=stun.Class.REQUEST)
        try:
            async with timeout(STUN_TIMEOUT_S):
                found = await loop.getaddrinfo(url.host, url.port, family=2, type=2)
                response, _ = await protocol.request(request, cast(tuple[str, int], found[0][4]))
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
        if self._remote_candidates_end or len(self._remote_candidates) >= MAX_REMOTE_CANDIDATES:
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
        if not known and len(self._remote_candidates) >= MAX_REMOTE_CANDIDATES:
            self.dropped += 1
            return
        self._checked.add((protocol.id, addr))
        super().check_incoming(message, addr, protocol)

    def check_complete(self, pair: CandidatePair) -> None:
        """Note an answered check of ours; from now on this source may send data."""
        if pair.state == CandidatePair.State.SUCCEEDED:
            self._checked.add((pair.protocol.id, pair.remote_addr))
        super().check_complete(pair)

    # Data

    def media_received(
        self, data: bytes, protocol: StunProtocol, source: tuple[str, int], arrival: float
    ) -> None:
        """Hand a (still encrypted) RTP or RTCP packet on at once, in this thread, without a queue."""
        on_media = self.on_media
        if on_media is None or (protocol.id, source) not in self._checked:
            self.dropped += 1
            return
        on_media(data, arrival)

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
    def any_thread(self) -> bool:
        """Whether `send_now` may now be called from any thread."""
        return self._chosen_udp() is not None

    def poll(self) -> None:
        """Take in what came on the chosen pair; from the playback thread, over TCP and TLS without effect."""
        udp = self._chosen_udp()
        if udp is not None:
            udp.poll()

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
