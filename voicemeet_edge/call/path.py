"""The peer connections of one call: the one in use, the one being built, and the voice through them.

One rule: nothing is decided here. Which connection is made, used and closed, and whether the path lives, is
call/liveness.py's business; each connection goes by the attempt it was made for.

Voice itself goes through in the sound threads (`send`, `receive`), which wake for it anyway; all else here is
the loop's, and what the threads notice is told there.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from voicemeet_edge.voice.control import SendControl
from voicemeet_edge.voice.packet import RtpAudio
from voicemeet_edge.voice.rtp_clock import RtpClock
from voicemeet_edge.webrtc.events import PeerEvent
from voicemeet_edge.webrtc.ice_server import IceServer
from voicemeet_edge.webrtc.options import Fingerprints, PeerOptions, PeerStats

if TYPE_CHECKING:
    from voicemeet_edge.webrtc.peer import Certificate, Peer

logger = logging.getLogger(__name__)


class MediaPath:
    """All peer connections of one call; see the module's docstring."""

    def __init__(
        self,
        options: PeerOptions,
        certificate: Certificate,
        silence: bytes,
        *,
        on_event: Callable[[int, PeerEvent], None],
        on_heard: Callable[[], None],
        on_rtp: Callable[[RtpAudio], None],
    ) -> None:
        """Prepare; nothing is sent before the first connection is used.

        Args:
            options: of every connection; the servers may be replaced by `use_servers`.
            certificate: of every connection, so that the other side knows that it is still us.
            silence: an Opus frame of silence, for `send_silence`.
            on_event: told on the loop what a connection says, with its attempt.
            on_heard: told on the loop of packets while `is_awaited`.
            on_rtp: given each packet that came on the loop, and not by `receive`.
        """
        self.is_awaited = False
        """Whether a packet over the connection in use is told at once; set on the loop."""
        self.heard_at = 0.0
        """When the last packet came over the connection in use; monotonic, written by whoever takes it in."""
        self._options = options
        self._certificate = certificate
        self._silence = silence
        self._on_event = on_event
        self._on_heard = on_heard
        self._on_rtp = on_rtp
        self._peers: dict[int, Peer] = {}
        self._prepared: int | None = None  # made, though nothing was described yet
        self._current: Peer | None = None
        self._closing: set[asyncio.Task[None]] = set()
        self._closed = False
        self._clock = RtpClock()
        self.control = SendControl(time.monotonic(), options.line_memory)
        """What the path carries, and how to send by it."""
        self._loop = asyncio.get_running_loop()
        # The sound thread sends voice and the loop silence; no packet may take another's sequence number.
        self._sending = threading.Lock()

    # -- connections -------------------------------------------------------------------------

    def use_servers(self, servers: tuple[IceServer, ...]) -> None:
        """Take fresh TURN credentials for connections made from now on."""
        self._options = replace(self._options, ice_servers=servers)

    def begin(self, attempt: int) -> None:
        """Make the connection of this attempt; nothing once closed."""
        prepared, self._prepared = self._prepared, None
        if prepared is not None and prepared != attempt:
            self.drop(prepared)
        if self._closed or attempt in self._peers:
            return
        from voicemeet_edge.webrtc.peer import Peer  # only here: see call_maker.load_call_parts

        peer = Peer(
            self._options,
            on_rtp=lambda packet: self._packet_received(peer, packet),
            on_event=lambda event: self._peer_changed(attempt, peer, event),
            certificate=self._certificate,
        )
        self._peers[attempt] = peer

    def prepare(self, attempt: int) -> None:
        """Make the connection of this attempt and let it gather; what fails is told when it is to answer."""
        self.begin(attempt)
        peer = self._peers.get(attempt)
        if peer is not None:
            peer.prepare()
            self._prepared = attempt

    def close_notify(self) -> None:
        """Tell the peer that it is over, in any thread, when the process ends while its loop hangs."""
        peer = self._current
        if peer is not None:
            peer.close_notify()

    async def offer(self, attempt: int) -> str | None:
        """Return the offer of a connection; None when it is no more. Raises: MediaError."""
        peer = self._peers.get(attempt)
        return await peer.create_offer() if peer is not None else None

    async def answer(self, attempt: int, sdp: str) -> str | None:
        """Return the answer to the peer's offer; None when it is no more. Raises: MediaError, SdpError."""
        peer = self._peers.get(attempt)
        return await peer.create_answer(sdp) if peer is not None else None

    async def take_answer(self, attempt: int, sdp: str) -> None:
        """Finish the connection of this attempt. Raises: MediaError, SdpError."""
        peer = self._peers.get(attempt)
        if peer is not None:
            await peer.accept_answer(sdp)

    async def take_candidate(self, attempt: int, candidate: str | None, mid: str | None) -> None:
        """Take a trickled candidate for the connection of this attempt. Raises: SdpError."""
        peer = self._peers.get(attempt)
        if peer is not None:
            await peer.add_candidate(candidate, mid)

    def use(self, attempt: int) -> None:
        """Let the voice go through this connection from now on, and close the one before it."""
        before, self._current = self._current, self._peers.get(attempt)
        if self._current is not None:
            self._current.carry(self.control, time.monotonic())
        for other in [other for other, peer in self._peers.items() if peer is before]:
            self.drop(other)

    def drop(self, attempt: int) -> None:
        """Close the connection of this attempt; nothing it still says counts."""
        peer = self._peers.pop(attempt, None)
        if peer is None:
            return
        if peer is self._current:
            self._current = None
        task = self._loop.create_task(peer.close())
        self._closing.add(task)  # owned until done; `close` waits for all of them
        task.add_done_callback(self._closing.discard)

    def fingerprints(self, attempt: int) -> Fingerprints | None:
        """Both certificates' fingerprints in this connection, once DTLS has used them."""
        peer = self._peers.get(attempt)
        return peer.fingerprints() if peer is not None else None

    def stats(self) -> PeerStats | None:
        """Figures of the connection in use."""
        peer = self._current
        return peer.stats() if peer is not None else None

    async def close(self) -> None:
        """Free every connection; idempotent."""
        self._closed = True
        self.control.close()
        for attempt in list(self._peers):
            self.drop(attempt)
        while self._closing:
            await asyncio.gather(*self._closing)

    # -- voice -------------------------------------------------------------------------------

    @property
    def red_payload_type(self) -> int | None:
        """What Opus is called inside RFC 2198 payloads on this path; None when they are not taken."""
        peer = self._current
        return peer.red_payload_type if peer is not None else None

    def next_timestamp(self) -> int:
        """Where the call's RTP clock stands now, after whatever pause."""
        return self._clock.at(time.monotonic())

    def send(self, payload: bytes, timestamp: int, *, red: bool = False) -> None:
        """Send one payload of 20 ms, Opus or (`red`) RFC 2198; dropped while there is no connection.

        From another thread than the loop's only while `sends_in_any_thread`.
        """
        with self._sending:
            self._send(payload, timestamp, red=red)

    def _send(self, payload: bytes, timestamp: int, *, red: bool = False) -> None:
        peer = self._current
        if peer is not None:
            self._clock.sent(timestamp, time.monotonic())
            peer.send(payload, timestamp, red=red)

    def receive(self) -> list[RtpAudio]:
        """Return what has come; from the playback thread, right before it needs sound."""
        peer = self._current
        packets = peer.receive() if peer is not None else []
        if packets and peer is self._current:
            self._heard(packets[-1].arrival)
        return packets

    @property
    def sends_in_any_thread(self) -> bool:
        """Whether `send` may be called from any thread now: not over TCP and TLS."""
        peer = self._current
        return peer is not None and peer.sends_in_any_thread

    def send_silence(self) -> None:
        """Send one frame of silence; on the loop."""
        with self._sending:
            self._send(self._silence, self._clock.at(time.monotonic()))

    @property
    def sent_at(self) -> float:
        """When the last frame went out; monotonic, 0 when none did."""
        return self._clock.sent_at or 0.0

    # -- what happens ------------------------------------------------------------------------

    def _packet_received(self, peer: Peer, packet: RtpAudio) -> None:
        if peer is self._current:
            self._heard(packet.arrival)
        elif peer not in self._peers.values():
            return
        self._on_rtp(packet)

    def _heard(self, arrival: float) -> None:
        self.heard_at = arrival
        if self.is_awaited:
            with contextlib.suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(self._on_heard)

    def _peer_changed(self, attempt: int, peer: Peer, event: PeerEvent) -> None:
        if self._peers.get(attempt) is peer:  # else it was dropped: what it still says does not count
            self._on_event(attempt, event)
