"""One peer connection, from description to silence: the only WebRTC thing the rest of the house sees.

Its one rule: nothing is sent and nothing is handed on before the other side's certificate was the one its
description promised. Voice goes through without a task or a queue of ours in either direction.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import secrets
import time
from collections.abc import Callable

from voicemeet_edge.errors import MediaError, SdpError
from voicemeet_edge.timeouts import timeout
from voicemeet_edge.voice.packet import RtpAudio
from voicemeet_edge.webrtc import rtp, seam
from voicemeet_edge.webrtc.ice import IceConnection
from voicemeet_edge.webrtc.options import (
    Closed,
    Connected,
    Failed,
    Fingerprints,
    IceServer,
    PeerEvent,
    PeerOptions,
    PeerStats,
    TurnMemory,
)
from voicemeet_edge.webrtc.sdp import (
    MAX_CANDIDATES,
    IceCandidate,
    LocalDescription,
    RemoteDescription,
    parse,
    parse_candidate,
    write,
)

__all__ = [
    "Certificate",
    "Closed",
    "Connected",
    "Failed",
    "Fingerprints",
    "IceServer",
    "Peer",
    "PeerEvent",
    "PeerOptions",
    "PeerStats",
    "TurnMemory",
    "new_certificate",
]

logger = logging.getLogger(__name__)

REPORT_INTERVAL_S = 1.0  # seconds between RTCP reports, varied by half either way (RFC 3550 §6.2)
FIRST_REPORT_S = 0.3  # seconds after connecting: the encoder wants to hear of loss early
NTP_EPOCH = 2208988800  # seconds from 1900 to 1970 (RFC 868)
RTT_SMOOTHING = 0.85  # weight of the past in the round trip shown
MAX_STREAMS = 8  # SSRCs followed at once; a peer has one, and one more after each restart


Certificate = seam.EdgeCertificate


def new_certificate() -> Certificate:
    """Make the certificate of one call."""
    return Certificate.generateCertificate()


class Peer:
    """A connection to one other party; make a new one for each call.

    A call that lost its path makes another with the same certificate, so that the other side (and the
    check words) know it is still us.
    """

    def __init__(
        self,
        options: PeerOptions,
        *,
        on_rtp: Callable[[RtpAudio], None],
        on_event: Callable[[PeerEvent], None],
        certificate: Certificate | None = None,
    ) -> None:
        self._options = options
        self._on_rtp = on_rtp
        self._on_event = on_event
        self._certificate = (certificate or new_certificate()).twin()
        self._connection = IceConnection(options, controlling=True)
        self._ice = seam.make_ice_transport(self._connection)
        self._dtls = seam.EdgeDtls(self._ice, self._certificate)
        self._srtp: seam.Srtp | None = None
        self._remote: RemoteDescription | None = None
        self._offered = False
        self._waiting: list[IceCandidate | None] = []
        self._fed = False  # from then on candidates go straight to the connection
        self._task: asyncio.Task[None] | None = None
        self._closing: asyncio.Task[None] | None = None
        self._over = asyncio.Event()
        self._ended = False  # a last event was given, or nobody wants one any more
        self._times = (0.0, 0.0)
        # Fresh for every call, so that no number links two of them.
        self._ssrc = secrets.randbits(32) | 1
        self._cname = secrets.token_urlsafe(12)
        # RFC 3550 §5.1: random; the lower half, so that no early loss hides a wrap from SRTP.
        self._sequence = secrets.randbits(15)
        self._timestamp_offset = secrets.randbits(32)
        self._last_timestamp = 0
        self._sent = (0, 0, 0)  # packets, bytes on the wire, octets of payload
        self._received = (0, 0)
        self._dropped = 0
        self._streams: dict[int, rtp.ReceiverStatistics] = {}
        self._current: int | None = None
        self._last_rtp_at: float | None = None
        self._sender_report: tuple[int, float] | None = None  # middle of its NTP, arrival
        self._loss_there = 0.0
        self._round_trip_s: float | None = None
        self._reports = 0

    # Descriptions

    async def create_offer(self) -> str:
        """Gather candidates and return our offer.

        Raises:
            MediaError: no path: `turn_unauthorized`, `turn_unreachable`, `no_relay`, `no_network`, …
        """
        await self._connection.gather_candidates()
        self._offered = True
        return write(self._describe("actpass", None))

    async def create_answer(self, offer: str) -> str:
        """Read an offer, gather candidates, return our answer and begin to connect.

        Raises:
            SdpError: the offer is refused.
            MediaError: as `create_offer`.
        """
        if self._offered or self._remote is not None:
            raise SdpError("an offer out of turn", code="unexpected_offer")
        remote = parse(offer)
        self._remote = remote
        # RFC 8445 §6.1.1: the offerer controls, except when it is only half an ICE agent.
        self._connection.ice_controlling = remote.ice_lite
        await self._connection.gather_candidates()
        # RFC 8842 §5.3 would rather have the answerer active. But the DTLS server picks the SRTP profile, and
        # Chromium's picks one without AEAD although it offers the better ones.
        server = remote.setup != "passive"
        answer = write(self._describe("passive" if server else "active", remote))
        self._start(remote, server=server)
        return answer

    async def accept_answer(self, answer: str) -> None:
        """Read the answer to our offer and begin to connect.

        Raises:
            SdpError: the answer is refused, or comes twice.
        """
        if not self._offered or self._remote is not None:
            raise SdpError("an answer out of turn", code="unexpected_answer")
        remote = parse(answer)
        if remote.setup == "actpass":
            raise SdpError("an answer must choose its DTLS role", code="no_setup")  # RFC 5763 §5
        self._remote = remote
        self._start(remote, server=remote.setup == "active")

    async def add_candidate(self, candidate: str | None, mid: str | None) -> None:
        """Take a trickled candidate; None or an empty one ends them. `mid` must be ours, or None.

        Raises:
            SdpError: it is not a candidate.
        """
        if mid is not None and self._remote is not None and mid != self._remote.mid:
            return
        parsed = parse_candidate(candidate.removeprefix("a=")) if candidate else None
        if candidate and parsed is None:
            return
        if not self._fed:
            if len(self._waiting) < MAX_CANDIDATES:
                self._waiting.append(parsed)
        elif parsed is None:
            await self._connection.end_remote()
        else:
            await self._connection.add_remote(parsed)

    def _describe(self, setup: str, answer_to: RemoteDescription | None) -> LocalDescription:
        return LocalDescription(
            session_id=secrets.randbits(62),
            ufrag=self._connection.local_username,
            password=self._connection.local_password,
            fingerprint=self._certificate.sha256,
            setup=setup,
            ssrc=self._ssrc,
            cname=self._cname,
            candidates=self._connection.published,
            red=self._options.red and (answer_to is None or answer_to.red_type is not None),
            answer_to=answer_to,
        )

    # Connecting

    def _start(self, remote: RemoteDescription, *, server: bool) -> None:
        if self._closing is None:
            self._task = asyncio.create_task(self._run(remote, server=server))

    async def _run(self, remote: RemoteDescription, *, server: bool) -> None:
        try:
            async with timeout(self._options.connect_timeout_s):
                await self._establish(remote, server=server)
        except TimeoutError:
            self._finish(Failed(self._connect_error("connect_timeout", "no path in time")))
            return
        except MediaError as error:
            self._finish(Failed(error))
            return
        except Exception as error:  # the top of this task: whoever waits for an event must get one
            # The text of a foreign exception may hold an address; its kind never does.
            logger.error("connecting broke: %s", type(error).__name__)
            logger.debug("connecting broke", exc_info=True)
            self._finish(Failed(MediaError("connecting broke", code="internal")))
            return
        delay = FIRST_REPORT_S
        while not self._over.is_set():
            with contextlib.suppress(TimeoutError):
                async with timeout(delay):
                    await self._over.wait()
                    return
            self._send_report()
            delay = REPORT_INTERVAL_S * (0.5 + random.random())

    async def _establish(self, remote: RemoteDescription, *, server: bool) -> None:
        began = time.monotonic()
        feed = asyncio.create_task(self._feed(remote))
        try:
            chosen = await seam.start_ice(self._ice, remote.ufrag, remote.password, lite=remote.ice_lite)
        finally:
            # A name that nobody answers for takes a second; a path that was found need not wait for it.
            feed.cancel()
            await asyncio.wait((feed,))
            self._fed = True
        if not feed.cancelled():
            feed.result()
        if not chosen:
            raise self._connect_error("ice_failed", "no path to the other side")
        checked = time.monotonic()
        if not await self._dtls.connect(remote.fingerprints, server=server):
            raise MediaError("the encrypted path failed", code=self._dtls.failure)
        self._times = (checked - began, time.monotonic() - checked)
        self._dtls.on("statechange", self._dtls_changed)
        self._srtp = seam.Srtp(self._dtls)
        self._connection.on_media = self._media
        logger.info("connected: ice %.3f s, dtls %.3f s", *self._times)
        self._on_event(Connected(*self._times))
        self._dtls_changed()  # it may have closed between its last word and our listening

    async def _feed(self, remote: RemoteDescription) -> None:
        """Hand over the peer's candidates; names are looked up side by side, while checks already run."""
        pending: list[IceCandidate | None] = [*remote.candidates, *self._waiting]
        ends = remote.candidates_end
        while pending:
            self._waiting.clear()
            ends = ends or None in pending
            found = [candidate for candidate in pending if candidate is not None]
            # Addresses first: they must be there when the checks begin, and need no waiting.
            for candidate in found:
                if not candidate.is_name:
                    await self._connection.add_remote(candidate)
            async with asyncio.TaskGroup() as group:
                for candidate in found:
                    if candidate.is_name:
                        group.create_task(self._connection.add_remote(candidate))
            pending = list(self._waiting)  # what was trickled meanwhile
        self._fed = True
        if ends:
            await self._connection.end_remote()

    def _connect_error(self, code: str, message: str) -> MediaError:
        # Without a relay because the credentials were refused: that is the reason worth telling.
        relay = self._connection.relay_error
        if relay is not None and relay.code in ("turn_unauthorized", "turn_quota"):
            return relay
        return MediaError(message, code=code)

    def _dtls_changed(self) -> None:
        if self._dtls.state != "closed":
            return
        if self._dtls.closed_by_peer:
            self._finish(Closed())
        else:
            self._finish(Failed(MediaError("the path is gone", code="path_lost")))

    def _finish(self, event: PeerEvent) -> None:
        self._srtp = None
        self._connection.on_media = None
        self._over.set()
        if not self._ended:
            self._ended = True
            self._on_event(event)

    # Voice

    @property
    def red_payload_type(self) -> int | None:
        """What Opus is called inside RFC 2198 payloads to this peer; None when it does not take them."""
        remote = self._remote
        if remote is None or remote.red_type is None or not self._options.red:
            return None
        return remote.opus_type

    @property
    def any_thread(self) -> bool:
        """Whether `send` and `poll` reach a socket now; over TCP and TLS only the loop may send."""
        return self._connection.any_thread

    def poll(self) -> None:
        """Take in what has come: `on_rtp` is called here. From any thread, but one at a time."""
        if self._srtp is not None:
            self._connection.poll()

    def send(self, payload: bytes, timestamp: int, *, red: bool = False) -> None:
        """Send one payload of 20 ms, Opus or (`red`) RFC 2198; dropped before connected and after the end.

        From one thread at a time; from another than the loop's only while `any_thread`.
        """
        srtp, remote = self._srtp, self._remote
        if srtp is None or remote is None:
            return
        payload_type = remote.red_type if red else remote.opus_type
        if payload_type is None:
            return
        timestamp = timestamp + self._timestamp_offset & 0xFFFFFFFF
        packets, on_wire, octets = self._sent
        packet = rtp.pack_rtp(
            payload_type, self._sequence, timestamp, self._ssrc, payload, marker=not packets
        )
        self._sequence = self._sequence + 1 & 0xFFFF
        self._last_timestamp = timestamp
        protected = srtp.protect(packet)
        if self._connection.send_now(protected):
            self._sent = (packets + 1, on_wire + len(protected), octets + len(payload))

    def _media(self, data: bytes, arrival: float) -> None:
        """Take one encrypted datagram of a checked source; on the loop, or in the thread that polls."""
        srtp, remote = self._srtp, self._remote
        if srtp is None or remote is None:
            return
        if rtp.is_rtcp(data):
            plain = srtp.unprotect_rtcp(data)
            if plain is not None:
                self._dtls.confirmed = True
                self._take_reports(plain)
            else:
                self._dropped += 1
            return
        plain = srtp.unprotect(data)
        header = rtp.parse_rtp(plain) if plain is not None else None
        if plain is None or header is None:
            self._dropped += 1
            return
        self._dtls.confirmed = True
        payload = plain[header.start : header.end]
        red = self._options.red and header.payload_type == remote.red_type
        if not payload or not (red or header.payload_type == remote.opus_type):
            self._dropped += 1
            return
        self._last_rtp_at = arrival
        packets, on_wire = self._received
        self._received = (packets + 1, on_wire + len(data))
        self._count(header, arrival)
        self._on_rtp(RtpAudio(header.sequence, header.timestamp, header.ssrc, payload, arrival, red))

    def _count(self, header: rtp.RtpHeader, arrival: float) -> None:
        statistics = self._streams.get(header.ssrc)
        if statistics is None:
            while len(self._streams) >= MAX_STREAMS:
                del self._streams[next(iter(self._streams))]
            statistics = self._streams[header.ssrc] = rtp.ReceiverStatistics()
        self._current = header.ssrc
        statistics.add(header.sequence, header.timestamp, arrival)

    # Reports

    def _send_report(self) -> None:
        srtp = self._srtp
        if srtp is None:
            return
        packets, _, octets = self._sent
        figures = seam.ReportFigures(
            ssrc=self._ssrc,
            cname=self._cname,
            ntp=int((time.time() + NTP_EPOCH) * 2**32) & 0xFFFFFFFFFFFFFFFF,
            rtp_timestamp=self._last_timestamp,
            packets=packets,
            octets=octets,
        )
        reception = None
        current = self._current
        statistics = self._streams.get(current) if current is not None else None
        if current is not None and statistics is not None:
            middle, since = 0, 0
            if self._sender_report is not None:
                middle = self._sender_report[0]
                since = int((time.monotonic() - self._sender_report[1]) * 65536) & 0xFFFFFFFF
            reception = seam.ReceptionReport(
                ssrc=current,
                fraction_lost=statistics.take_fraction(),
                lost=statistics.lost,
                highest=statistics.highest,
                jitter=statistics.jitter_ticks,
                last_sender_report=middle,
                delay_since=since,
            )
        self._connection.send_now(srtp.protect_rtcp(seam.pack_report(figures, reception)))

    def _take_reports(self, data: bytes) -> None:
        for report in seam.parse_reports(data):
            if isinstance(report, seam.SenderReport):
                self._sender_report = (report.ntp >> 16 & 0xFFFFFFFF, time.monotonic())
            elif report.ssrc == self._ssrc:
                self._take_reception(report)

    def _take_reception(self, report: seam.ReceptionReport) -> None:
        self._loss_there = report.fraction_lost / 256
        self._reports += 1
        if report.last_sender_report and report.delay_since:
            # RFC 3550 §6.4.1: now - LSR - DLSR, in the middle 32 bits of NTP.
            now = int((time.time() + NTP_EPOCH) * 65536) & 0xFFFFFFFF
            ticks = now - report.last_sender_report - report.delay_since & 0xFFFFFFFF
            if ticks < 0x80000000:
                sample = ticks / 65536
                before = self._round_trip_s
                self._round_trip_s = (
                    sample if before is None else RTT_SMOOTHING * before + (1 - RTT_SMOOTHING) * sample
                )

    # Looking and ending

    def fingerprints(self) -> Fingerprints:
        """Return both certificates' SHA-256 fingerprints.

        Raises:
            MediaError: the other side's description is not known yet.
        """
        if self._remote is None:
            raise MediaError("no remote description", code="no_description")
        ours = bytes.fromhex(self._certificate.sha256.replace(":", ""))
        return Fingerprints(ours, self._remote.fingerprint_sha256())

    def stats(self) -> PeerStats:
        """Return the figures of this moment."""
        current = self._streams.get(self._current) if self._current is not None else None
        local_kind, remote_kind = self._connection.chosen
        return PeerStats(
            packets_sent=self._sent[0],
            bytes_sent=self._sent[1],
            packets_received=self._received[0],
            bytes_received=self._received[1],
            packets_dropped=self._dropped + self._connection.dropped,
            loss_there=self._loss_there,
            loss_reports=self._reports,
            loss_here=current.last_fraction / 256 if current is not None else 0.0,
            round_trip_s=self._round_trip_s,
            jitter_s=current.jitter_s if current is not None else 0.0,
            local_kind=local_kind,
            remote_kind=remote_kind,
            last_rtp_at=self._last_rtp_at,
            srtp_profile=self._dtls.profile if self._srtp is not None else "",
            ice_s=self._times[0],
            dtls_s=self._times[1],
        )

    async def close(self) -> None:
        """Say goodbye, free sockets and the TURN allocation; idempotent, about a second at worst."""
        if self._closing is None:
            self._closing = asyncio.create_task(self._close())
        await asyncio.shield(self._closing)

    async def _close(self) -> None:
        self._ended = True
        if self._srtp is not None:
            self._connection.send_now(self._srtp.protect_rtcp(seam.pack_bye(self._ssrc)))
        self._srtp = None
        self._over.set()
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait((self._task,))
        await self._dtls.stop()
        await self._ice.stop()
        self._dtls.remove_all_listeners()
