"""The one file that touches aiortc's insides: DTLS handshake, SRTP keys, RTCP packets.

Used are: the certificate's context factory, the handshake loop of `RTCDtlsTransport`, its two SRTP sessions,
the gatherer's connection, and the RTCP packet classes. Never used: its jitter buffer, decoder thread, RTP
sender and receiver. `tests/webrtc/test_seam.py` fails when a new aiortc moves any of it.
"""

from __future__ import annotations

import asyncio
import binascii
import contextlib
import importlib.metadata
import logging
import struct
import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import pylibsrtp
from aiortc.rtcdtlstransport import (
    RTCCertificate,
    RTCDtlsFingerprint,
    RTCDtlsParameters,
    RTCDtlsTransport,
    SRTPProtectionProfile,
    State,
    certificate_digest,
)
from aiortc.rtcicetransport import RTCIceGatherer, RTCIceParameters, RTCIceTransport
from aiortc.rtp import (
    RtcpByePacket,
    RtcpPacket,
    RtcpReceiverInfo,
    RtcpRrPacket,
    RtcpSdesPacket,
    RtcpSenderInfo,
    RtcpSourceInfo,
    RtcpSrPacket,
)
from cryptography import x509
from OpenSSL import SSL, crypto

from voicemeet_edge.errors import OurError
from voicemeet_edge.timeouts import timeout
from voicemeet_edge.webrtc.ice import IceConnection

logger = logging.getLogger(__name__)

SUPPORTED = "1.16."  # the insides below are those of this minor version
_VERSION = importlib.metadata.version("aiortc")  # not from the package: that would load all of it
if not _VERSION.startswith(SUPPORTED):
    raise OurError(f"aiortc {SUPPORTED}x is needed, not {_VERSION}", code="aiortc_version")

DTLS_1_2 = 0xFEFD  # RFC 6347 §4.1; pyOpenSSL has no name for it
DATAGRAM_BYTES = 1200  # fits every path, relayed and tunnelled ones too (RFC 8831 §5 uses the same)
RECORD_HEADER_BYTES = 13  # RFC 6347 §4.1

# OpenSSL's first retransmission comes after 1 s and pyOpenSSL cannot shorten it. Datagrams sent again
# from outside are harmless: the receiver's replay window drops what it had (RFC 6347 §4.1.2.6).
RESEND_FIRST_S = 0.12
RESEND_CAP_S = 0.5
RESEND_LIMIT = 12  # about five seconds, after which OpenSSL's own timer is long at work
ANSWER_AGAIN_S = 0.05  # a repeated flight is answered again, but no faster than this
HEARD_LIMIT = 16  # datagrams remembered to recognise a repeated one; a handshake has under ten

# Only forward secrecy and AEAD; every browser and aiortc itself offer the first.
CIPHERS = b"ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-ECDSA-AES256-GCM-SHA384"


class EdgeCertificate(RTCCertificate):
    """A certificate for one call, whose context accepts one peer only."""

    expected: tuple[tuple[str, str], ...] = ()
    mismatch = False

    @property
    def sha256(self) -> str:
        """Upper case with colons, as SDP writes it."""
        return certificate_digest(self._cert, "sha-256")

    def twin(self) -> EdgeCertificate:
        """The same certificate for another connection of the same call: whom each expects is its own."""
        return EdgeCertificate(self._key, self._cert)

    def _create_ssl_context(self, srtp_profiles: list[SRTPProtectionProfile]) -> SSL.Context:
        context = super()._create_ssl_context(srtp_profiles)
        context.set_min_proto_version(DTLS_1_2)
        context.set_cipher_list(CIPHERS)
        context.set_options(SSL.OP_NO_QUERY_MTU)
        # Inside the handshake, so that a wrong peer gets a fatal alert and neither side completes.
        context.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT, self._verify)
        return context

    def _verify(self, _ssl: SSL.Connection, peer: crypto.X509, _error: int, _depth: int, _ok: int) -> bool:
        matches = self.matches(peer.to_cryptography())
        self.mismatch = self.mismatch or not matches
        return matches

    def matches(self, certificate: x509.Certificate) -> bool:
        """Say whether every fingerprint we were told fits (RFC 8122 §5)."""
        return bool(self.expected) and all(
            certificate_digest(certificate, algorithm) == value for algorithm, value in self.expected
        )


def split_records(data: bytes) -> list[bytes]:
    """Pack whole DTLS records into datagrams (RFC 6347 §4.1.1)."""
    datagrams: list[bytes] = []
    start = position = 0
    while position + RECORD_HEADER_BYTES <= len(data):
        length = int.from_bytes(data[position + 11 : position + 13], "big")
        end = position + RECORD_HEADER_BYTES + length
        if end - start > DATAGRAM_BYTES and position > start:
            datagrams.append(data[start:position])
            start = position
        position = end
    datagrams.append(data[start:])
    return datagrams


def _is_about_us(error: SSL.Error) -> bool:
    """Say whether this is the other side's alert about our certificate (RFC 5246 §7.2.2)."""
    reasons = [str(entry[-1]) for entry in error.args[0]] if error.args else []
    return any("alert" in text and ("certificate" in text or "unknown ca" in text) for text in reasons)


class EdgeDtls(RTCDtlsTransport):
    """aiortc's DTLS transport with our patience: flights sent again early, and a reason for each failure."""

    def __init__(self, ice: RTCIceTransport, certificate: EdgeCertificate) -> None:
        super().__init__(ice, [certificate])
        self.certificate = certificate
        self.failure = ""
        """`fingerprint_mismatch`, `certificate_refused`, `dtls_failed` or `no_srtp_profile`."""
        self.closed_by_peer = False
        self._refused = False  # the other side was told of another certificate than ours
        self.confirmed = False
        """Set when SRTP of the peer was authenticated: it has our last flight."""
        self._flight: list[bytes] = []
        self._resends = 0
        self._resend_at = 0.0
        self._answered_at = 0.0
        self._heard: deque[bytes] = deque(maxlen=HEARD_LIMIT)

    async def connect(self, fingerprints: Sequence[tuple[str, str]], *, server: bool) -> bool:
        """Handshake with the one peer that has these fingerprints; True when SRTP is ready."""
        self.certificate.expected = tuple(fingerprints)
        self._set_role("server" if server else "client")
        await self.start(
            RTCDtlsParameters([RTCDtlsFingerprint(algorithm, value) for algorithm, value in fingerprints])
        )
        if self._state is not State.CONNECTED and not self.failure:
            # The handshake itself went through: what is left is aiortc's own two checks.
            matches = self.certificate.matches(self._peer_certificate())
            self.failure = "no_srtp_profile" if matches else "fingerprint_mismatch"
        return self._state is State.CONNECTED

    def _peer_certificate(self) -> x509.Certificate:
        assert self._ssl is not None
        certificate = self._ssl.get_peer_certificate(as_cryptography=True)
        assert certificate is not None  # the handshake requires one
        return certificate

    @property
    def profile(self) -> str:
        """The negotiated SRTP protection profile."""
        return self._ssl.get_selected_srtp_profile().decode() if self._ssl is not None else ""

    async def _do_handshake(self) -> None:
        assert self._ssl is not None
        self._ssl.set_ciphertext_mtu(DATAGRAM_BYTES)
        try:
            while not self.encrypted:
                try:
                    self._ssl.do_handshake()
                except SSL.WantReadError:
                    await self._write_ssl()
                    await self._recv_next()
                except SSL.Error as error:
                    logger.debug("DTLS failed: %s", error)
                    await self._write_ssl()
                    await self._send_flight()  # the alert, twice: nobody sends it again for us
                    self._fail()
                    return
                else:
                    self.encrypted = True
                    await self._write_ssl()
        except ConnectionError:
            self._fail()

    def _fail(self) -> None:
        self.failure = "certificate_refused" if self._refused else "dtls_failed"
        if self.certificate.mismatch:
            self.failure = "fingerprint_mismatch"
        self._set_state(State.FAILED)

    async def _write_ssl(self) -> None:
        assert self._ssl is not None
        data = b""
        with contextlib.suppress(SSL.Error):  # WantReadError: nothing (more) to send
            while chunk := self._ssl.bio_read(4096):
                data += chunk
        if data:
            self._flight = split_records(data)
            self._resends = 0
            self._resend_at = asyncio.get_running_loop().time() + RESEND_FIRST_S
            await self._send_flight()

    async def _send_flight(self) -> None:
        for datagram in self._flight:
            await self.transport._send(datagram)

    def _unanswered(self) -> bool:
        """Say whether the last flight may still be missing at the other end."""
        if not self._flight or self._resends >= RESEND_LIMIT:
            return False
        # The client's last flight was answered; the server's only SRTP can answer (RFC 6347 §4.2.4).
        return not self.encrypted or (self._role == "server" and not self.confirmed)

    async def _recv_next(self) -> None:
        assert self._ssl is not None
        loop = asyncio.get_running_loop()
        waits = [max(0.0, self._resend_at - loop.time())] if self._unanswered() else []
        own = None if self.encrypted else self._ssl.DTLSv1_get_timeout()
        if own is not None:
            waits.append(own)
        try:
            async with timeout(min(waits) if waits else None):
                data = await self.transport._recv()
        except TimeoutError:
            await self._resend(own)
            return
        if data in self._heard:
            if self._unanswered() and loop.time() - self._answered_at > ANSWER_AGAIN_S:
                self._answered_at = loop.time()
                await self._send_flight()
            return
        if not self.encrypted:
            self._heard.append(data)
        self._ssl.bio_write(data)
        try:
            self._ssl.recv(1500)
        except SSL.ZeroReturnError:
            self.closed_by_peer = True
        except SSL.Error as error:
            self._refused = self._refused or _is_about_us(error)
            # Want-read, or a failure that do_handshake will report; after it a fatal alert ends the path.
            self.closed_by_peer = self.encrypted and bool(self._ssl.get_shutdown() & SSL.RECEIVED_SHUTDOWN)
        await self._write_ssl()
        if self.closed_by_peer:
            raise ConnectionError("closed by the peer")

    async def _resend(self, own: float | None) -> None:
        assert self._ssl is not None
        if own is not None and self._ssl.DTLSv1_get_timeout() == 0:
            with contextlib.suppress(SSL.Error):
                self._ssl.DTLSv1_handle_timeout()
            await self._write_ssl()
        elif self._unanswered():
            self._resends += 1
            delay = min(RESEND_FIRST_S * 2**self._resends, RESEND_CAP_S)
            self._resend_at = asyncio.get_running_loop().time() + delay
            await self._send_flight()

    async def stop(self) -> None:
        """Say close_notify and end the pump."""
        pump = self._task
        await super().stop()
        if pump is not None:
            await asyncio.wait((pump,))
            if not pump.cancelled():
                pump.exception()


def make_ice_transport(connection: IceConnection) -> RTCIceTransport:
    """Put our connection where aiortc expects its own."""
    gatherer = RTCIceGatherer(iceServers=[])
    gatherer._connection = connection
    return RTCIceTransport(gatherer)


async def start_ice(transport: RTCIceTransport, ufrag: str, password: str, *, lite: bool) -> bool:
    """Run the checks; True when a pair was chosen."""
    await transport.start(RTCIceParameters(usernameFragment=ufrag, password=password, iceLite=lite))
    return transport.state == "completed"


class Srtp:
    """Both directions of one call's encryption; whatever does not authenticate is None. From any thread."""

    def __init__(self, dtls: EdgeDtls) -> None:
        self._outgoing: pylibsrtp.Session = dtls._tx_srtp
        self._incoming: pylibsrtp.Session = dtls._rx_srtp
        # libsrtp's sessions are for one thread, and pylibsrtp lets the others run meanwhile.
        self._sending = threading.Lock()
        self._receiving = threading.Lock()

    def protect(self, packet: bytes) -> bytes:
        """Encrypt an RTP packet."""
        with self._sending:
            return self._outgoing.protect(packet)

    def protect_rtcp(self, packet: bytes) -> bytes:
        """Encrypt a compound RTCP packet."""
        with self._sending:
            return self._outgoing.protect_rtcp(packet)

    def unprotect(self, packet: bytes) -> bytes | None:
        """Decrypt an RTP packet."""
        try:
            with self._receiving:
                return self._incoming.unprotect(packet)
        except (pylibsrtp.Error, ValueError):
            return None

    def unprotect_rtcp(self, packet: bytes) -> bytes | None:
        """Decrypt a compound RTCP packet."""
        try:
            with self._receiving:
                return self._incoming.unprotect_rtcp(packet)
        except (pylibsrtp.Error, ValueError):
            return None


@dataclass(frozen=True, slots=True)
class ReceptionReport:
    """One report block (RFC 3550 §6.4.1)."""

    ssrc: int
    fraction_lost: int
    lost: int
    highest: int
    jitter: int
    last_sender_report: int
    delay_since: int
    """In 1/65536 s."""


@dataclass(frozen=True, slots=True)
class SenderReport:
    """What a sender report says of the sender's clocks."""

    ssrc: int
    ntp: int


@dataclass(frozen=True, slots=True)
class ReportFigures:
    """What goes into our own sender report."""

    ssrc: int
    cname: str
    ntp: int
    rtp_timestamp: int
    packets: int
    octets: int


def pack_report(figures: ReportFigures, reception: ReceptionReport | None) -> bytes:
    """Return a compound SR + SDES (RFC 3550 §6.1)."""
    blocks = []
    if reception is not None:
        blocks.append(
            RtcpReceiverInfo(
                ssrc=reception.ssrc,
                fraction_lost=reception.fraction_lost,
                packets_lost=reception.lost,
                highest_sequence=reception.highest,
                jitter=reception.jitter,
                lsr=reception.last_sender_report,
                dlsr=reception.delay_since,
            )
        )
    sender = RtcpSenderInfo(
        ntp_timestamp=figures.ntp,
        rtp_timestamp=figures.rtp_timestamp,
        packet_count=figures.packets & 0xFFFFFFFF,
        octet_count=figures.octets & 0xFFFFFFFF,
    )
    source = RtcpSourceInfo(ssrc=figures.ssrc, items=[(1, figures.cname.encode())])
    return bytes(RtcpSrPacket(ssrc=figures.ssrc, sender_info=sender, reports=blocks)) + bytes(
        RtcpSdesPacket(chunks=[source])
    )


def pack_bye(ssrc: int) -> bytes:
    """Return an empty receiver report and a BYE (RFC 3550 §6.6)."""
    return bytes(RtcpRrPacket(ssrc=ssrc)) + bytes(RtcpByePacket(sources=[ssrc]))


def parse_reports(data: bytes) -> list[SenderReport | ReceptionReport]:
    """Return what a compound RTCP packet reports; empty when malformed."""
    try:
        packets = RtcpPacket.parse(data)
    except (ValueError, struct.error, binascii.Error, IndexError):
        return []
    found: list[SenderReport | ReceptionReport] = []
    for packet in packets:
        if isinstance(packet, RtcpSrPacket):
            found.append(SenderReport(packet.ssrc, packet.sender_info.ntp_timestamp))
        if isinstance(packet, RtcpSrPacket | RtcpRrPacket):
            found.extend(
                ReceptionReport(
                    block.ssrc,
                    block.fraction_lost,
                    block.packets_lost,
                    block.highest_sequence,
                    block.jitter,
                    block.lsr,
                    block.dlsr,
                )
                for block in packet.reports
            )
    return found
