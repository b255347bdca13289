"""The voice's way to the peer: the connection in use, the one being built, and knowing when it is dead.

One rule: the old connection is given up only when a new one carries voice, so a short outage heals by
itself and a changed address by a new connection, whichever is first. While there is nothing to send a
frame of silence goes out now and then: that is how each side knows the other still hears it.

Voice itself goes through in the sound threads (`send`, `poll`), which wake for it anyway; all else here is
the loop's, and what the threads notice is told there.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from voicemeet_edge.errors import MediaError
from voicemeet_edge.voice.packet import RtpAudio
from voicemeet_edge.webrtc.options import (
    Closed,
    Connected,
    Failed,
    Fingerprints,
    IceServer,
    PeerEvent,
    PeerOptions,
    PeerStats,
)
from voicemeet_edge.webrtc.peer import Certificate, Peer

logger = logging.getLogger(__name__)

SILENT_S = 1.6  # seconds without a packet: a call must notice within 2 s, and a Wi-Fi scan takes 1
FIRST_PACKET_S = 8.0  # seconds the peer may take to open its microphone (a browser asks its person)
BYE_GRACE_S = 1.0  # seconds a goodbye may come after the connection was closed; signaling is slower
WATCH_S = 0.1  # seconds between looks; a small part of what has to be noticed
QUIET_S = 0.2  # seconds; nothing sent for so long: silence is sent
RESTART_EVERY_S = 3.0  # seconds one new connection gets before the next is tried
FRAME_S = 0.02  # seconds of one Opus frame
FRAME_TICKS = 960  # RTP clock ticks of it: 48 kHz, RFC 7587 §4.1
GAP_FRAMES = 4  # a gap this long in what we send shows in the timestamps; below it is jitter of our loop
MAX_GAP_FRAMES = 3_000  # a minute; beyond it the exact length tells the peer nothing


@dataclass(frozen=True)
class PathUp:
    """Voice can flow (again)."""


@dataclass(frozen=True)
class PathLost:
    """Nothing arrives any more."""


@dataclass(frozen=True)
class PathWantsRestart:
    """A new connection should be negotiated now."""


@dataclass(frozen=True)
class PathBroken:
    """There is no way, or not with this peer; `code` says why."""

    code: str


PathEvent = PathUp | PathLost | PathWantsRestart | PathBroken


class _Connection:
    """One peer connection and what is known of it."""

    def __init__(self, attempt: int) -> None:
        self.attempt = attempt
        self.peer: Peer | None = None
        self.connected = False


class MediaPath:
    """All peer connections of one call, at most two at a time."""

    def __init__(
        self,
        options: PeerOptions,
        certificate: Certificate,
        silence: bytes,
        *,
        on_event: Callable[[PathEvent], None],
        on_rtp: Callable[[RtpAudio], None],
    ) -> None:
        self.restarts = 0
        self._options = options
        self._certificate = certificate
        self._silence = silence
        self._on_event = on_event
        self._on_rtp = on_rtp
        self._current: _Connection | None = None
        self._pending: _Connection | None = None
        self._closing: set[asyncio.Task[None]] = set()
        self._theirs: bytes | None = None  # the peer's fingerprint of the first connection
        self._lost = False
        self._restart_at = 0.0
        self._heard_by = 0.0  # monotonic time by which the next packet must have come
        self._sent_at = 0.0
        self._ticks = 0
        self._closed = False
        self._loop = asyncio.get_running_loop()
        # The sound thread sends voice and the loop silence; no packet may take another's sequence number.
        self._sending = threading.Lock()

    # -- what the session does ---------------------------------------------------------------

    def use_servers(self, servers: tuple[IceServer, ...]) -> None:
        """Take fresh TURN credentials for connections made from now on."""
        self._options = replace(self._options, ice_servers=servers)

    async def offer(self, attempt: int) -> str:
        """Start a connection and return its offer. Raises: MediaError."""
        return await self._begin(attempt).create_offer()

    async def answer(self, attempt: int, sdp: str) -> str:
        """Start a connection from the peer's offer and return the answer. Raises: MediaError, SdpError."""
        return await self._begin(attempt).create_answer(sdp)

    async def take_answer(self, attempt: int, sdp: str) -> None:
        """Finish the connection of this attempt. Raises: MediaError, SdpError."""
        pending = self._pending
        if pending is not None and pending.peer is not None and pending.attempt == attempt:
            await pending.peer.accept_answer(sdp)

    async def candidate(self, candidate: str | None, mid: str | None) -> None:
        """Take a trickled candidate for the newest connection. Raises: SdpError."""
        newest = self._pending or self._current
        if newest is not None and newest.peer is not None:
            await newest.peer.add_candidate(candidate, mid)

    @property
    def red_payload_type(self) -> int | None:
        """What Opus is called inside RFC 2198 payloads on this path; None when they are not taken."""
        peer = self._peer
        return peer.red_payload_type if peer is not None else None

    def send(self, payload: bytes, *, red: bool = False) -> None:
        """Send one payload of 20 ms, Opus or (`red`) RFC 2198; dropped while there is no connection.

        RTP timestamps are counted here: they must go on through a closed microphone and a new
        connection, which the sound card's clock does not. From another thread than the loop's only
        while `any_thread`.
        """
        with self._sending:
            peer = self._peer
            if peer is None:
                return
            now = time.monotonic()
            gap = round((now - self._sent_at) / FRAME_S)
            frames = 1 if gap < GAP_FRAMES else min(gap, MAX_GAP_FRAMES)
            self._ticks = (self._ticks + frames * FRAME_TICKS) & 0xFFFFFFFF
            self._sent_at = now
            peer.send(payload, self._ticks, red=red)

    def poll(self) -> None:
        """Take in what has come; from the playback thread, right before it needs sound."""
        peer = self._peer
        if peer is not None:
            peer.poll()

    @property
    def any_thread(self) -> bool:
        """Whether `send` may be called from any thread now: not over TCP and TLS."""
        peer = self._peer
        return peer is not None and peer.any_thread

    @property
    def _peer(self) -> Peer | None:
        current = self._current
        return current.peer if current is not None else None

    def stats(self) -> PeerStats | None:
        """Figures of the connection in use."""
        peer = self._peer
        return peer.stats() if peer is not None else None

    def fingerprints(self) -> Fingerprints | None:
        """Both certificates' fingerprints, once DTLS has used them."""
        peer = self._peer
        return peer.fingerprints() if peer is not None else None

    async def watch(self) -> None:
        """Look after the path until cancelled."""
        while True:
            await asyncio.sleep(WATCH_S)
            self._look(time.monotonic())

    async def close(self) -> None:
        """Free every connection; idempotent."""
        self._closed = True
        for connection in (self._current, self._pending):
            self._discard(connection)
        self._current = self._pending = None
        while self._closing:
            await asyncio.gather(*self._closing)

    # -- what happens ------------------------------------------------------------------------

    def _begin(self, attempt: int) -> Peer:
        if self._closed:
            raise MediaError("the call is over", code="closed")
        self._discard(self._pending)
        connection = _Connection(attempt)
        self._pending = connection
        connection.peer = Peer(
            self._options,
            on_rtp=lambda packet: self._heard(connection, packet),
            on_event=lambda event: self._happened(connection, event),
            certificate=self._certificate,
        )
        self._restart_at = time.monotonic() + RESTART_EVERY_S
        return connection.peer

    def _discard(self, connection: _Connection | None) -> None:
        if connection is None or connection.peer is None:
            return
        task = asyncio.get_running_loop().create_task(connection.peer.close())
        connection.peer = None
        self._closing.add(task)  # owned until done; `close` waits for all of them
        task.add_done_callback(self._closing.discard)

    def _heard(self, connection: _Connection, packet: RtpAudio) -> None:
        if connection.peer is None:
            return
        if connection is self._current:
            self._heard_by = packet.arrival + SILENT_S
            if self._lost:
                with contextlib.suppress(RuntimeError):  # the loop is closed
                    self._loop.call_soon_threadsafe(self._found)
        self._on_rtp(packet)

    def _found(self) -> None:
        if self._lost and not self._closed:
            self._lost = False
            self._on_event(PathUp())

    def _happened(self, connection: _Connection, event: PeerEvent) -> None:
        if connection.peer is None:
            return  # discarded: what it still says does not count
        match event:
            case Connected():
                self._connected(connection)
            case Failed():
                self._failed(connection, event.error.code)
            case Closed():
                self._peer_closed(connection)

    def _connected(self, connection: _Connection) -> None:
        theirs = connection.peer.fingerprints().theirs if connection.peer is not None else b""
        if self._theirs is not None and theirs != self._theirs:
            # Same call, other certificate: the check words would no longer say who this is.
            self._discard(connection)
            self._on_event(PathBroken("fingerprint_changed"))
            return
        first = self._theirs is None
        self._theirs = theirs
        if connection is self._pending:
            self._discard(self._current)
            self._current, self._pending = connection, None
        if not first:
            self.restarts += 1
        now = time.monotonic()
        self._heard_by = now + FIRST_PACKET_S
        self._sent_at = now - QUIET_S
        if first or self._lost:
            self._lost = False
            self._on_event(PathUp())

    def _peer_closed(self, connection: _Connection) -> None:
        if connection is self._current:
            # Most often its bye is on the way, and a moment later there is no path to be lost.
            self._heard_by = min(self._heard_by, time.monotonic() + BYE_GRACE_S)
        else:
            self._failed(connection, "peer_closed")

    def _failed(self, connection: _Connection, code: str) -> None:
        logger.info("connection failed: %s", code)
        if code == "fingerprint_mismatch" or self._theirs is None:
            self._discard(connection)
            self._on_event(PathBroken(code))
        elif connection is self._current:
            self._heard_by = 0.0  # the next look finds it lost
        elif connection is self._pending:
            self._discard(connection)
            self._pending = None

    def _look(self, now: float) -> None:
        if self._theirs is None:
            return
        if not self._lost and now > self._heard_by:
            self._lost = True
            self._restart_at = now
            logger.info("the path is silent")
            self._on_event(PathLost())
        if self._lost and now >= self._restart_at:
            self._restart_at = now + RESTART_EVERY_S
            self._on_event(PathWantsRestart())
        if now - self._sent_at >= QUIET_S:
            self.send(self._silence)
