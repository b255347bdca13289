"""What `bench.instructions` counts: a call of two ends in virtual time, or a start up to READY.

A child process runs this under a counter; each `mark` is a call of getpriority(2), which nothing else makes,
so whatever counts can tell one stretch from the next. The one rule: encoder, canceller, playout, encryption,
RTP, reports and the steps of both sound threads are the product's own; card, line and clock are not.
Not in it: the kernel, the sound driver, the loop and waiting.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np

DELAY_S = 0.02  # s; the line's
JITTER_S = 0.003  # s; at most, on top
ROOM_DELAY_MS = 85  # ms; said there, played here and heard by the microphone again
ROOM_GAIN = 0.1  # -20 dB
OPUS_TYPE, RED_TYPE = 111, 63
KEY_BYTES = 44  # AES-256 and its salt (RFC 7714 §12)


def mark() -> None:
    """End one stretch and begin the next."""
    os.getpriority(os.PRIO_PROCESS, 0)


def tell_maps() -> None:
    """Leave word of what lies where, for a counter that knows addresses only."""
    if "INSTRUCTIONS_MAPS" in os.environ:
        Path(os.environ["INSTRUCTIONS_MAPS"]).write_text(Path("/proc/self/maps").read_text())


class Clock:
    """Time as the thread at work sees it: a sleep is over at once."""

    def __init__(self) -> None:
        self.now = 1000.0
        setattr(time, "monotonic", lambda: self.now)  # noqa: B010 - a function, to mypy
        setattr(time, "sleep", self._sleep)  # noqa: B010

    def _sleep(self, seconds: float) -> None:
        self.now += max(seconds, 0.0)


class Line:
    """One end's door for voice, and its half of the wire: what webrtc/peer.py does for each packet."""

    def __init__(self, clock: Clock, keys: tuple[bytes, bytes], ssrc: int) -> None:
        from pylibsrtp import Policy, Session

        from voicemeet_edge.voice.control import SendControl
        from voicemeet_edge.voice.ladder import HEADER_BYTES, Limits
        from voicemeet_edge.webrtc.feedback import Feedback
        from voicemeet_edge.webrtc.rtcp import Reporter
        from voicemeet_edge.webrtc.srtp import Srtp

        profile = Policy.SRTP_PROFILE_AEAD_AES_256_GCM
        outgoing = Session(Policy(key=keys[0], ssrc_type=Policy.SSRC_ANY_OUTBOUND, srtp_profile=profile))
        incoming = Session(Policy(key=keys[1], ssrc_type=Policy.SSRC_ANY_INBOUND, srtp_profile=profile))
        self._srtp = Srtp(cast(Any, SimpleNamespace(_tx_srtp=outgoing, _rx_srtp=incoming)))
        self._clock, self._ssrc, self._dice = clock, ssrc, random.Random(ssrc)
        self._sequence = 0
        self._reporter, self._feedback = Reporter(ssrc), Feedback(ssrc)
        self.control = SendControl(clock.now, red=True)
        self._feedback.control, self._feedback.mutual = self.control, True
        self.control.connected(
            clock.now, route="", limits=Limits(), header_bytes=HEADER_BYTES, red=True, mutual=True
        )
        self.flying: deque[tuple[float, bytes]] = deque()
        """(when it arrives, datagram), to this end."""
        self.other: Line | None = None
        self.taken: list[Any] = []
        """Every packet of voice that came."""

    red_payload_type = OPUS_TYPE
    sends_in_any_thread = True

    def next_timestamp(self) -> int:
        """A call begins."""
        return 0

    def _fly(self, datagram: bytes) -> None:
        assert self.other is not None
        self.other.flying.append((self._clock.now + DELAY_S + self._dice.uniform(0.0, JITTER_S), datagram))

    def send(self, payload: bytes, timestamp: int, *, red: bool = False) -> None:
        """Send one payload, and the report that is due."""
        from voicemeet_edge.webrtc import rtp

        protected = self._srtp.protect(
            rtp.pack_rtp(RED_TYPE, self._sequence, timestamp, self._ssrc, payload, marker=False)
        )
        now = self._clock.now
        self._report(self._feedback.ahead(now))
        self._fly(protected)
        self._reporter.count_sent(timestamp, len(payload), len(protected))
        self._feedback.sent(self._sequence, timestamp, len(protected) + 28, now)
        self._report(self._feedback.due(now))
        self._sequence = self._sequence + 1 & 0xFFFF

    def _report(self, report: bytes | None) -> None:
        if report is not None:
            self._fly(self._srtp.protect_rtcp(report))

    def receive(self) -> list[Any]:
        """Return what has come."""
        packets = []
        while self.flying and self.flying[0][0] <= self._clock.now:
            packet = self._open(*self.flying.popleft())
            if packet is not None:
                packets.append(packet)
        self.taken += packets
        return packets

    def _open(self, arrival: float, data: bytes) -> Any:
        from voicemeet_edge.voice.packet import RtpAudio
        from voicemeet_edge.webrtc import rtp

        if rtp.is_rtcp(data):
            plain = self._srtp.unprotect_rtcp(data)
            if plain is not None:
                self._feedback.take_in(plain, self._clock.now)
            return None
        plain = self._srtp.unprotect(data)
        header = rtp.parse_rtp(plain) if plain is not None else None
        assert plain is not None
        assert header is not None
        self._reporter.count_received(header, len(data), arrival)
        self._feedback.received(header, len(data) + 28, arrival)
        payload = plain[header.start : header.end]
        return RtpAudio(header.sequence, header.timestamp, header.ssrc, payload, arrival, True)


class Replay:
    """A door through which comes what came before, decrypted."""

    red_payload_type = OPUS_TYPE
    sends_in_any_thread = True

    def __init__(self, clock: Clock, packets: list[Any], later_s: float) -> None:
        from voicemeet_edge.voice.control import SendControl

        self._clock = clock
        self._packets = deque(packet._replace(arrival=packet.arrival + later_s) for packet in packets)
        self.control = SendControl(clock.now, red=True)

    def next_timestamp(self) -> int:
        """A call begins."""
        return 0

    def send(self, payload: bytes, timestamp: int, *, red: bool = False) -> None:
        """Nothing is sent."""

    def receive(self) -> list[Any]:
        """Return what has come."""
        packets = []
        while self._packets and self._packets[0].arrival <= self._clock.now:
            packets.append(self._packets.popleft())
        return packets


class Turns:
    """The sound threads, each run when its time has come, in one real thread."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._threads: list[tuple[Callable[[], object], list[float]]] = []

    def add(self, step: Callable[[], object]) -> None:
        """Take a thread that begins now."""
        self._threads.append((step, [self._clock.now]))

    def run(self, until: float) -> None:
        """Let all work up to this time."""
        while True:
            step, at = min(self._threads, key=lambda thread: thread[1][0])
            if at[0] >= until:
                return
            self._clock.now = at[0]
            step()
            at[0] = self._clock.now


def add_end(turns: Turns, line: Any, loop: asyncio.AbstractEventLoop, hears: Any, echo: str) -> None:
    """Add one end's playback thread, and its capture thread where it hears something."""
    from voicemeet_edge.audio.call_audio import CallAudio
    from voicemeet_edge.audio.capture import CaptureThread
    from voicemeet_edge.audio.codec import OpusCodec
    from voicemeet_edge.audio.echo_reference import EchoReference
    from voicemeet_edge.audio.playback import PlaybackThread
    from voicemeet_edge.settings import AudioSettings
    from voicemeet_edge.testing.sound import VirtualCard
    from voicemeet_edge.voice.echo import choose

    card, reference = VirtualCard(hears), EchoReference()
    capture = CaptureThread(card, choose(echo), reference, lambda _: None, real_time=False)
    call = CallAudio(line, OpusCodec(AudioSettings()), loop, capture.rate)
    playback = PlaybackThread(card, reference, lambda _: None, real_time=False)
    playback.call = call
    loudspeaker = card.open_playback()
    turns.add(lambda: playback._step(loudspeaker))
    if hears is not None:
        capture.call = call
        microphone = card.open_capture()
        turns.add(lambda: capture._step(microphone))


def talk(clock: Clock, hears: list[Any], echo: str, warm_s: float, seconds: float) -> tuple[float, list[Any]]:
    """Let two ends talk; marks begin and end of what counts. Returns when it began and what one end got."""
    loop, turns, began = asyncio.new_event_loop(), Turns(clock), clock.now
    keys = [bytes([number]) * KEY_BYTES for number in (1, 2)]
    lines = [Line(clock, (keys[0], keys[1]), 1001), Line(clock, (keys[1], keys[0]), 2002)]
    lines[0].other, lines[1].other = lines[1], lines[0]
    for line, heard in zip(lines, hears, strict=True):
        add_end(turns, line, loop, heard, echo)
    turns.run(began + warm_s)
    mark()
    turns.run(began + warm_s + seconds)
    mark()
    loop.close()
    return began, lines[0].taken


def listen(clock: Clock, packets: list[Any], former: float, warm_s: float, seconds: float) -> None:
    """Let one end hear again what it heard before."""
    loop, turns, began = asyncio.new_event_loop(), Turns(clock), clock.now
    add_end(turns, Replay(clock, packets, began - former), loop, None, "off")
    turns.run(began + warm_s)
    mark()
    turns.run(began + warm_s + seconds)
    mark()
    loop.close()


def call(said: list[Path], echo: str, warm_s: float, seconds: float) -> None:
    """A call with the canceller, one without, and one end's playout alone."""
    from voicemeet_edge.audio.wav import read_wav

    length = int((warm_s + seconds + 1.0) * 48_000)
    voices = [np.resize(read_wav(path), length) for path in said]
    heard = []
    for own, far in (voices, voices[::-1]):
        echoed = np.roll(far, ROOM_DELAY_MS * 48) * np.float32(ROOM_GAIN)
        heard.append(np.clip(own + echoed, -32768, 32767).astype(np.int16))
    clock = Clock()
    talk(clock, heard, echo, warm_s, seconds)
    began, packets = talk(clock, heard, "off", warm_s, seconds)
    listen(clock, packets, began, warm_s, seconds)


def start(config: str) -> None:
    """Start a device as its unit does, and mark when systemd is told that it is ready."""
    from voicemeet_edge.system.notify import Notifier

    def ready(self: Notifier, status: str = "") -> None:
        """Say nothing to anybody."""
        mark()
        tell_maps()
        os.kill(os.getpid(), signal.SIGTERM)

    setattr(Notifier, "ready", ready)  # noqa: B010 - a method, to mypy
    from voicemeet_edge.cli import main

    main(["run", "--config", config])


def run(arguments: list[str]) -> None:
    """Do what the first word says."""
    what, *rest = arguments
    if what == "call":
        echo, warm_s, seconds, *said = rest
        call([Path(path) for path in said], echo, float(warm_s), float(seconds))
        tell_maps()
    else:
        start(rest[0])


if __name__ == "__main__":
    run(sys.argv[1:])
