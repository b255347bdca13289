"""The DTLS handshake on aiortc's transport: one peer only, flights sent again early, failures with a reason.

Used of aiortc are the certificate's context factory, the handshake loop of `RTCDtlsTransport`, the gatherer's
connection, and (srtp.py, rtcp.py) its two SRTP sessions and the RTCP packet classes. Never used: its jitter
buffer, decoder thread, RTP sender and receiver. `tests/webrtc/test_libraries.py` fails when a new version
moves any of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.metadata
import logging
from collections import deque
from collections.abc import Sequence

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
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from OpenSSL import SSL, crypto

from voicemeet_edge.errors import LocalError
from voicemeet_edge.timeouts import timeout
from voicemeet_edge.webrtc.ice import IceConnection

logger = logging.getLogger(__name__)

# The insides below, and those of aioice in ice.py and turn.py, are those of these minor versions.
SUPPORTED = {"aiortc": "1.16.", "aioice": "0.13."}
for _name, _wanted in SUPPORTED.items():
    _found = importlib.metadata.version(_name)  # not from the package: that would load all of it
    if not _found.startswith(_wanted):
        raise LocalError(f"{_name} {_wanted}x is needed, not {_found}", code="library_version")

DTLS_1_2 = 0xFEFD  # RFC 6347 §4.1; pyOpenSSL has no name for it
DATAGRAM_BYTES = 1200  # fits every path, relayed and tunnelled ones too (RFC 8831 §5 uses the same)
RECORD_HEADER_BYTES = 13  # RFC 6347 §4.1

# OpenSSL's first retransmission comes after 1 s and pyOpenSSL cannot shorten it. Datagrams sent again
# from outside are harmless: the receiver's replay window drops what it had (RFC 6347 §4.1.2.6).
RESENDS_S = (0.12, 0.16, 0.24, 0.36)
RESEND_CAP_S = 0.5
RESEND_LIMIT = 12  # about five seconds, after which OpenSSL's own timer is long at work
RESENDS_LOSSY_S = (0.02, 0.1, 0.12, 0.16, 0.2, 0.3)  # where packets get lost: at once, and sooner
ANSWER_AGAIN_S = 0.05  # a repeated flight is answered again, but no faster than this
HEARD_LIMIT = 16  # datagrams remembered to recognise a repeated one; a handshake has under ten

# Only forward secrecy and AEAD; every browser and aiortc itself offer the first. The last two are for
# programs with an RSA certificate (FreeSWITCH's own): whose it is, the fingerprint says.
CIPHERS = (
    b"ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-ECDSA-AES256-GCM-SHA384:"
    b"ECDHE-RSA-AES128-GCM-SHA256:ECDHE-RSA-AES256-GCM-SHA384"
)


class EdgeCertificate(RTCCertificate):
    """A certificate for one call, whose context accepts one peer only."""

    expected: tuple[tuple[str, str], ...] = ()
    mismatch = False

    @property
    def sha256(self) -> str:
        """Upper case with colons, as SDP writes it."""
        return certificate_digest(self._cert, "sha-256")

    def for_new_connection(self) -> EdgeCertificate:
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
        """Say whether this is one of the certificates we were told of (RFC 8122 §5).

        Two fingerprints of one hash function are two certificates, of which one is used. A second function
        must fit too, when it was told for as many certificates as the first.
        """
        told: dict[str, list[str]] = {}
        for algorithm, value in self.expected:
            told.setdefault(algorithm, []).append(value)
        most = max(map(len, told.values()), default=0)
        return most > 0 and all(
            certificate_digest(certificate, algorithm) in values
            for algorithm, values in told.items()
            if len(values) == most
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
        self.peer_sha256 = b""
        """Digest of the certificate the peer proved to have; empty before SRTP is ready."""
        self.closed_by_peer = False
        self._refused = False  # the other side was told of another certificate than ours
        self.confirmed = False
        """Set when SRTP of the peer was authenticated: it has our last flight."""
        self._flight: list[bytes] = []
        self._resends = 0
        self._resend_at = 0.0
        self._sent_at = 0.0
        self._lossy = False
        self._received_before: deque[bytes] = deque(maxlen=HEARD_LIMIT)

    async def connect(
        self, fingerprints: Sequence[tuple[str, str]], *, server: bool, lossy: bool = False
    ) -> bool:
        """Handshake with the one peer that has these fingerprints; True when SRTP is ready.

        On a `lossy` path each flight goes twice, which on a narrow one would only fill its queue.
        """
        self._lossy = lossy
        self.certificate.expected = tuple(fingerprints)
        self._set_role("server" if server else "client")
        await self.start(
            RTCDtlsParameters([RTCDtlsFingerprint(algorithm, value) for algorithm, value in fingerprints])
        )
        if self._state is not State.CONNECTED and not self.failure:
            # The handshake itself went through: what is left is aiortc's own two checks.
            matches = self.certificate.matches(self._peer_certificate())
            self.failure = "no_srtp_profile" if matches else "fingerprint_mismatch"
        if self._state is State.CONNECTED:
            self.peer_sha256 = self._peer_certificate().fingerprint(hashes.SHA256())
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

    def _validate_peer_identity(self, remoteParameters: RTCDtlsParameters) -> None:  # noqa: N803 - aiortc's name
        # aiortc wants every fingerprint to fit one certificate.
        if not self.certificate.matches(self._peer_certificate()):
            self._set_state(State.FAILED)

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
            self._resend_at = asyncio.get_running_loop().time() + self._resend_delay()
            await self._send_flight()

    def _resend_delay(self) -> float:
        delays = RESENDS_LOSSY_S if self._lossy else RESENDS_S
        return delays[self._resends] if self._resends < len(delays) else RESEND_CAP_S

    async def _send_flight(self) -> None:
        self._sent_at = asyncio.get_running_loop().time()
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
        if data in self._received_before:
            if self._unanswered() and loop.time() - self._sent_at > ANSWER_AGAIN_S:
                await self._send_flight()
            return
        if not self.encrypted:
            self._received_before.append(data)
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
            self._resend_at = asyncio.get_running_loop().time() + self._resend_delay()
            await self._send_flight()

    def close_notify(self) -> bytes:
        """Return the record that ends the connection (RFC 6347 §4.1, RFC 5246 §7.2.1); empty: not encrypted.

        For a process that ends while its loop hangs: in any thread, and nothing may be sent afterwards.
        """
        if self._ssl is None or not self.encrypted:
            return b""
        try:
            self._ssl.shutdown()
            return self._ssl.bio_read(DATAGRAM_BYTES)
        except SSL.Error:
            return b""

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
