"""One peer connection: descriptions, ICE, DTLS and SRTP up to voice in both directions, and its end.

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
from voicemeet_edge.voice.control import PROBE_S, LineView, SendControl
from voicemeet_edge.voice.incoming import DEFAULT, Advice, suits
from voicemeet_edge.voice.packet import RtpAudio
from voicemeet_edge.webrtc import rtp
from voicemeet_edge.webrtc.candidates import MAX_CANDIDATES, IceCandidate, best, parse_candidate
from voicemeet_edge.webrtc.dtls import EdgeCertificate, EdgeDtls, make_ice_transport, start_ice
from voicemeet_edge.webrtc.events import Closed, Connected, Failed, PeerEvent
from voicemeet_edge.webrtc.feedback import Feedback
from voicemeet_edge.webrtc.ice import IceConnection
from voicemeet_edge.webrtc.options import Fingerprints, PeerOptions, PeerStats
from voicemeet_edge.webrtc.rtcp import Reporter
from voicemeet_edge.webrtc.sdp import OPUS_TYPE, RED_TYPE, LocalDescription, RemoteDescription, parse, write
from voicemeet_edge.webrtc.srtp import Srtp

logger = logging.getLogger(__name__)

MUTUAL_FACTOR = 4  # times as rare where arrivals are reported, which say all of it: RFC 3550's usual 5 s
UDP_IP_BYTES = 28  # bytes of IPv4 and UDP around a datagram
RTP_BYTES = 28  # bytes of RTP and the AEAD tag around a payload
CLOSE_NOTIFIES = 3  # times, in one go: nobody is left who could send it again
REPORT_INTERVAL_S = 1.0  # s between RTCP reports, varied by half either way (RFC 3550 §6.2)
FIRST_REPORT_S = 0.3  # s after connecting: the encoder wants to hear of loss early

Certificate = EdgeCertificate


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
        self._certificate = (certificate or new_certificate()).for_new_connection()
        self._connection = IceConnection(options, controlling=True)
        self._ice = make_ice_transport(self._connection)
        self._dtls = EdgeDtls(self._ice, self._certificate)
        self._srtp: Srtp | None = None
        self._remote: RemoteDescription | None = None
        self._path_bytes = UDP_IP_BYTES  # around each datagram
        self._types: dict[int, bool] = {}  # payload types taken from the peer, and whether each is RED
        self._offered = False
        self._waiting: list[IceCandidate | None] = []
        self._candidates_added = False  # from then on candidates go straight to the connection
        self._gathering: asyncio.Task[None] | None = None
        self._task: asyncio.Task[None] | None = None
        self._closing: asyncio.Task[None] | None = None
        self._over = asyncio.Event()
        self._ended = False  # a last event was given, or nobody wants one any more
        self._times = (0.0, 0.0)
        # Fresh for every call, so that no number links two of them.
        self._ssrc = secrets.randbits(32) | 1
        self._reporter = Reporter(self._ssrc)
        self._feedback = Feedback(self._ssrc)
        # RFC 3550 §5.1: random; the lower half, so that no early loss hides a wrap from SRTP.
        self._sequence = secrets.randbits(15)
        self._timestamp_offset = secrets.randbits(32)
        self._dropped = 0
        self._unix_offset = time.time() - time.monotonic()

    # Descriptions

    def prepare(self) -> None:
        """Begin to gather before there is anything to describe; what fails is told by what describes."""
        if self._gathering is None and self._closing is None:
            self._gathering = asyncio.create_task(self._connection.gather_candidates())

    async def _gather(self) -> None:
        self.prepare()
        assert self._gathering is not None or self._closing is not None
        if self._gathering is None:
            raise MediaError("closed while gathering", code="closed")
        await asyncio.wait((self._gathering,))
        self._gathering.result()

    async def create_offer(self) -> str:
        """Gather candidates and return our offer.

        Raises:
            MediaError: no path: `turn_unauthorized`, `turn_unreachable`, `no_relay`, `no_network`, …
        """
        await self._gather()
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
        self._take_types(remote)
        self._remote = remote
        # RFC 8445 §6.1.1: the offerer controls, except when it is only half an ICE agent.
        self._connection.ice_controlling = remote.ice_lite
        await self._gather()
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
        self._take_types(remote)
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
        if not self._candidates_added:
            if len(self._waiting) < MAX_CANDIDATES:
                self._waiting.append(parsed)
        elif parsed is None:
            await self._connection.end_remote()
        else:
            await self._connection.add_remote(parsed)

    def _take_types(self, remote: RemoteDescription) -> None:
        """Note the peer's numbers for Opus and RED, and ours when it answers (RFC 3264 §6.1).

        An answer may name other numbers than the offer: those are for what we send. What the peer sends
        should have the numbers of our offer; where programs send their own, these are taken too.
        """
        self._types = {} if remote.red_type is None else {remote.red_type: True}
        self._types[remote.opus_type] = False
        if self._offered:
            self._types |= (
                {OPUS_TYPE: False} if remote.red_type is None else {OPUS_TYPE: False, RED_TYPE: True}
            )

    def _describe(self, setup: str, answer_to: RemoteDescription | None) -> LocalDescription:
        advice = self._advice(answer_to)
        return LocalDescription(
            session_id=secrets.randbits(62),
            ufrag=self._connection.local_username,
            password=self._connection.local_password,
            fingerprint=self._certificate.sha256,
            setup=setup,
            ssrc=self._ssrc,
            cname=self._reporter.cname,
            candidates=self._connection.published,
            red=self._options.red and (answer_to is None or answer_to.red_type is not None),
            answer_to=answer_to,
            packet_ms=advice.packet_ms,
            max_bitrate=advice.bitrate if advice is not DEFAULT else None,
        )

    def _advice(self, answer_to: RemoteDescription | None) -> Advice:
        """Say what to ask of who will not notice by itself, where our line was narrow in the last calls.

        Only in answers to ends that report no arrivals: for all others it would hold a line down that
        has recovered.
        """
        carries = self._options.line_memory.narrowest()
        if carries is None or answer_to is None or answer_to.arrival_feedback:
            return DEFAULT
        return suits(carries)

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
            logger.error("connecting ended with an unexpected error: %s", type(error).__name__)
            logger.debug("the unexpected error in full", exc_info=True)
            self._finish(Failed(MediaError("connecting ended with an unexpected error", code="internal")))
            return
        probing = None if remote.arrival_feedback else asyncio.create_task(self._probe_line())
        try:
            await self._report()
        finally:
            if probing is not None:
                probing.cancel()

    async def _report(self) -> None:
        delay = FIRST_REPORT_S
        while not self._over.is_set():
            with contextlib.suppress(TimeoutError):
                async with timeout(delay):
                    await self._over.wait()
                    return
            self._send_report()
            delay = REPORT_INTERVAL_S * (0.5 + random.random())
            if self._feedback.mutual:
                delay *= MUTUAL_FACTOR

    async def _probe_line(self) -> None:
        """Measure round trips, where nobody reports how our packets arrive."""
        while True:
            control = self._feedback.control
            if control is None:
                await asyncio.sleep(PROBE_S)
                continue
            began = time.monotonic()
            seconds = await self._connection.round_trip()
            now = time.monotonic()
            # No answer at all says as much as a late one.
            control.round_trip(now - began if seconds is None else seconds, now)
            await asyncio.sleep(max(PROBE_S - (now - began), PROBE_S / 4))

    async def _establish(self, remote: RemoteDescription, *, server: bool) -> None:
        began = time.monotonic()
        adding = asyncio.create_task(self._add_candidates(remote))
        try:
            chosen = await start_ice(self._ice, remote.ufrag, remote.password, lite=remote.ice_lite)
        finally:
            # A name that nobody answers for takes a second; a path that was found need not wait for it.
            adding.cancel()
            await asyncio.wait((adding,))
            self._candidates_added = True
        if not adding.cancelled():
            adding.result()
        if not chosen:
            raise self._connect_error("ice_failed", "no path to the other side")
        checked = time.monotonic()
        if not await self._dtls.connect(
            remote.fingerprints, server=server, lossy=self._connection.answers.lossy
        ):
            raise MediaError("the encrypted path failed", code=self._dtls.failure)
        self._times = (checked - began, time.monotonic() - checked)
        self._path_bytes = UDP_IP_BYTES + self._connection.tunnel_bytes
        self._dtls.on("statechange", self._dtls_changed)
        self._srtp = Srtp(self._dtls)
        self._connection.on_media = self._media
        logger.info("connected: ice %.3f s, dtls %.3f s", *self._times)
        self._on_event(Connected(*self._times))
        self._dtls_changed()  # it may have closed between its last word and our listening

    async def _add_candidates(self, remote: RemoteDescription) -> None:
        """Hand over the peer's candidates; names are looked up side by side, while checks already run."""
        ends = remote.candidates_end
        pending: list[IceCandidate | None] = [*remote.candidates, *self._waiting]
        while pending:
            self._waiting.clear()
            ends = ends or None in pending
            found = best(candidate for candidate in pending if candidate is not None)
            # Addresses first: they must be there when the checks begin, and need no waiting.
            for candidate in found:
                if not candidate.is_name:
                    await self._connection.add_remote(candidate)
            async with asyncio.TaskGroup() as group:
                for candidate in found:
                    if candidate.is_name:
                        group.create_task(self._connection.add_remote(candidate))
            pending = list(self._waiting)  # what was trickled meanwhile
        self._candidates_added = True
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
    def sends_in_any_thread(self) -> bool:
        """Whether `send` and `receive` reach a socket now; over TCP and TLS only the loop may send."""
        return self._connection.sends_in_any_thread

    def receive(self) -> list[RtpAudio]:
        """Return what has come; from any thread, but one at a time. Meanwhile `on_rtp` is not called."""
        if self._srtp is None:
            return []
        packets = [self._open(data, arrival) for data, arrival in self._connection.receive()]
        return [packet for packet in packets if packet is not None]

    def send(self, payload: bytes, timestamp: int, *, red: bool = False) -> None:
        """Send one payload of 20 ms, Opus or (`red`) RFC 2198; dropped before connected and after the end.

        From one thread at a time; from another than the loop's only while `sends_in_any_thread`.
        """
        srtp, remote = self._srtp, self._remote
        if srtp is None or remote is None:
            return
        payload_type = remote.red_type if red else remote.opus_type
        if payload_type is None:
            return
        timestamp = timestamp + self._timestamp_offset & 0xFFFFFFFF
        is_first = not self._reporter.sent[0]
        packet = rtp.pack_rtp(payload_type, self._sequence, timestamp, self._ssrc, payload, marker=is_first)
        protected = srtp.protect(packet)
        now = time.monotonic()
        self._tell_arrivals(self._feedback.ahead(now))
        if self._connection.send_now(protected):
            self._reporter.count_sent(timestamp, len(payload), len(protected))
            self._feedback.sent(self._sequence, timestamp, len(protected) + self._path_bytes, now)
            self._tell_arrivals(self._feedback.due(now))
        self._sequence = self._sequence + 1 & 0xFFFF

    def _media(self, data: bytes, arrival: float) -> None:
        packet = self._open(data, arrival)
        if packet is not None:
            self._on_rtp(packet)

    def _open(self, data: bytes, arrival: float) -> RtpAudio | None:
        """Decrypt one datagram of a checked source; None when it is no voice for us."""
        srtp, remote = self._srtp, self._remote
        if srtp is None or remote is None:
            return None
        if rtp.is_rtcp(data):
            plain = srtp.unprotect_rtcp(data)
            if plain is not None:
                self._dtls.confirmed = True
                self._take_rtcp(plain)
            else:
                self._dropped += 1
            return None
        plain = srtp.unprotect(data)
        header = rtp.parse_rtp(plain) if plain is not None else None
        if plain is None or header is None:
            self._dropped += 1
            return None
        self._dtls.confirmed = True
        payload = plain[header.start : header.end]
        red = self._types.get(header.payload_type)
        if not payload or red is None or (red and not self._options.red):
            self._dropped += 1
            return None
        self._reporter.count_received(header, len(data), arrival)
        self._feedback.received(header, len(data) + self._path_bytes, arrival)
        return RtpAudio(header.sequence, header.timestamp, header.ssrc, payload, arrival, red)

    def _take_rtcp(self, plain: bytes) -> None:
        (now, unix), reports = self._clocks(), self._reporter.reports
        self._reporter.take_in(plain, now, unix)
        control = self._feedback.control
        if control is not None and self._reporter.reports != reports:
            control.loss(self._reporter.remote_loss, now)
        self._feedback.take_in(plain, now)

    def _tell_arrivals(self, report: bytes | None) -> None:
        srtp = self._srtp
        if srtp is not None and report is not None:
            self._connection.send_now(srtp.protect_rtcp(report))

    def carry(self, control: SendControl, now: float) -> None:
        """From now on this connection carries the voice of the call that `control` is for."""
        remote = self._remote
        if remote is None:
            return
        self._feedback.mutual = remote.arrival_feedback
        self._feedback.control = control
        control.connected(
            now,
            route=self._connection.route,
            limits=remote.limits,
            header_bytes=self._path_bytes + RTP_BYTES,
            red=self.red_payload_type is not None,
            mutual=remote.arrival_feedback,
        )

    def _clocks(self) -> tuple[float, float]:
        """Return monotonic and unix time; the second as it was at the start, whatever NTP does meanwhile."""
        now = time.monotonic()
        return now, now + self._unix_offset

    def _send_report(self) -> None:
        srtp = self._srtp
        if srtp is not None:
            report = self._reporter.report(*self._clocks())
            self._connection.send_now(srtp.protect_rtcp(report))

    # Looking and ending

    def fingerprints(self) -> Fingerprints:
        """Return both certificates' SHA-256 fingerprints.

        Raises:
            MediaError: the other side's description is not known yet, or it tells of several certificates
                and none was shown yet.
        """
        if self._remote is None:
            raise MediaError("no remote description", code="no_description")
        theirs = self._dtls.peer_sha256 or self._remote.fingerprint_sha256()
        if theirs is None:
            raise MediaError("which certificate is used shows in the handshake", code="no_certificate")
        return Fingerprints(bytes.fromhex(self._certificate.sha256.replace(":", "")), theirs)

    def stats(self) -> PeerStats:
        """Return the figures of this moment."""
        reporter, incoming = self._reporter, self._reporter.incoming
        local_kind, remote_kind = self._connection.chosen
        control = self._feedback.control
        line = control.view() if control is not None else LineView()
        return PeerStats(
            packets_sent=reporter.sent[0],
            bytes_sent=reporter.sent[1],
            packets_received=reporter.received[0],
            bytes_received=reporter.received[1],
            packets_dropped=self._dropped + self._connection.dropped,
            remote_loss=reporter.remote_loss,
            loss_reports=reporter.reports,
            local_loss=incoming.last_fraction / 256 if incoming is not None else 0.0,
            round_trip_s=reporter.round_trip_s,
            jitter_s=incoming.jitter_s if incoming is not None else 0.0,
            send_kbit_s=line.kbit_s,
            rung=line.rung,
            queue_s=line.queue_s,
            carries_kbit_s=line.carries_kbit_s,
            local_kind=local_kind,
            remote_kind=remote_kind,
            last_rtp_at=reporter.last_rtp_at,
            srtp_profile=self._dtls.profile if self._srtp is not None else "",
            ice_s=self._times[0],
            dtls_s=self._times[1],
        )

    def close_notify(self) -> None:
        """Tell the peer that it is over, in any thread: the process ends now, and its loop hangs."""
        record = self._dtls.close_notify() if self._connection.sends_in_any_thread else b""
        for _ in range(CLOSE_NOTIFIES if record else 0):
            self._connection.send_now(record)

    async def close(self) -> None:
        """Say goodbye, free sockets and the TURN allocation; idempotent, about a second at worst."""
        if self._closing is None:
            self._closing = asyncio.create_task(self._close())
        await asyncio.shield(self._closing)

    async def _close(self) -> None:
        self._ended = True
        if self._srtp is not None:
            self._connection.send_now(self._srtp.protect_rtcp(self._reporter.bye()))
        self._srtp = None
        self._over.set()
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait((self._task,))
        await self._dtls.stop()
        await self._ice.stop()
        if self._gathering is not None:
            self._gathering.cancel()  # it may not even have begun
            await asyncio.wait((self._gathering,))
            if not self._gathering.cancelled():
                self._gathering.exception()  # nobody asked
        self._dtls.remove_all_listeners()
