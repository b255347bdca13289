"""One direction of a call in virtual time: our sender, a virtual line, our playout, and the scores.

`python -m bench.virtual_call --line narrow48` takes seconds for a call of a minute, on a busy machine too,
where `bench.call` needs the machine for itself. The one rule: encoder, control, line and playout are the
product's and the tests' own; only sockets, threads and encryption are left out.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from bench import quality
from bench.call import prepare_speech
from bench.line import LINES, Schedule
from voicemeet_edge.testing.line import Way
from voicemeet_edge.voice.control import SendControl
from voicemeet_edge.voice.decimator import Decimator
from voicemeet_edge.voice.format import FRAME_SAMPLES, PERIOD_S, PERIOD_SAMPLES, VOICE_RATE, Samples
from voicemeet_edge.voice.ladder import HEADER_BYTES, Limits, SendPlan
from voicemeet_edge.voice.packet import RtpAudio
from voicemeet_edge.voice.playout import Playout
from voicemeet_edge.voice.sender import VoiceSender
from voicemeet_edge.webrtc.feedback import ArrivalLog, DepartureLog

CARD_MS = 20.0  # ms; capture and playback buffer, as in bench/playout.py
SKEW_S = 1234.5  # s between the two ends' clocks
SETTLE_S = 5.0  # s of which the delay alone is judged, as in bench/call.py
BEGUN_S = 1.0  # s by which a call should have the delay it keeps
WAITED_S = 0.033  # s the first packet lies in the socket until the playback thread knows of the call
SETUP_BYTES = 761  # bytes; a flight of DTLS, which lies in the queue of a narrow line when the call begins,
SETUP_FLIGHTS = 4  # and each of its repeats (seen at 32 kb/s)
OPUS_TYPE = 111
SSRC = 7


class VirtualCall:
    """What happens every millisecond."""

    def __init__(self, schedule: Schedule, speech: Samples, seed: int) -> None:
        self._changes = list(schedule)
        self._speech = speech
        self._dice = random.Random(seed)
        self._way = Way()
        self._control = SendControl(0.0, red=True)
        self._control.connected(
            0.0, route="", limits=Limits(), header_bytes=HEADER_BYTES, red=True, mutual=True
        )
        self._sender = VoiceSender(self._control, red_payload_type=OPUS_TYPE, rate=VOICE_RATE)
        self._decimator = Decimator(1)
        self.playout = Playout()
        self._sent, self._came = DepartureLog(), ArrivalLog()
        self._flying: list[tuple[float, RtpAudio]] = []
        self._reports: list[tuple[float, object]] = []
        self._sequence = 0
        self._report_at = self._own_report_at = 0.1
        self._asked_from: float | None = None
        self._is_ahead = False  # the playout's period of this moment was taken with the one before
        self.heard = np.zeros(len(speech) + 96_000, np.int16)
        self.rates: list[tuple[float, float]] = []
        self.on_plan: Callable[[SendPlan], object] = lambda _plan: None
        """Told of the plan of each packet."""

    def run(self) -> None:
        """Talk until the speech ends."""
        milliseconds = len(self._speech) // 48
        self._way.change(self._changes.pop(0)[1])
        for _ in range(SETUP_FLIGHTS):
            self._way.due(0.0, SETUP_BYTES, self._dice)
        for step in range(milliseconds):
            now = step / 1000
            while self._changes and self._changes[0][0] <= now:
                self._way.change(self._changes.pop(0)[1])
            if step % 20 == 0:
                self._capture(step // 20, now)
            self._tell(now)
            if step % 10 == 3:
                self._play(now)

    def _capture(self, frame: int, now: float) -> None:
        pcm = self._speech[frame * FRAME_SAMPLES :][:FRAME_SAMPLES]
        if len(pcm) < FRAME_SAMPLES:
            return
        packet = self._sender.encode(self._decimator.process(pcm.tobytes()).tobytes(), frame * FRAME_SAMPLES)
        if packet is None:
            return
        payload, timestamp = packet
        self.on_plan(self._control.plan)
        now += 0.02  # a frame leaves when its last sample has been captured
        octets = len(payload) + HEADER_BYTES
        for pair in (False, True)[: 1 + self._control.wants_pair(now)]:
            self._sent.note(self._sequence, now, octets, pair=pair)
            due = self._way.due(now, octets, self._dice)
            if due is not None:
                rtp = RtpAudio(self._sequence, timestamp, SSRC, payload, due + SKEW_S, True)
                self._flying.append((due, rtp))
                self._flying.sort(key=lambda item: item[0])
            self._sequence = self._sequence + 1 & 0xFFFF
        if now >= self._own_report_at:
            interval = self._control.report_interval(now)
            self._own_report_at = max(self._own_report_at + interval, now + interval / 2)
            # The other direction's, on the same line.
            self._way.due(now, int(self._control.report_kbit_s(now) * interval * 125), self._dice)
        self.rates.append((now, self._control.plan.kbit_s()))

    def _tell(self, now: float) -> None:
        while self._flying and self._flying[0][0] <= now:
            due, packet = self._flying.pop(0)
            if self._asked_from is None:
                self._asked_from = due + WAITED_S
            self._came.note(SSRC, packet.sequence, due + SKEW_S)
            self.playout.push(packet, due + SKEW_S)
        if now >= self._report_at:
            self._report_at += self._control.report_interval(now)
            report = self._came.report(now + SKEW_S)
            if report is not None:
                self._reports.append((now + self._way.impairment.delay_s + 0.01, report))
        while self._reports and self._reports[0][0] <= now:
            fates = self._sent.settle(self._reports.pop(0)[1], now)  # type: ignore[arg-type]
            if fates:
                self._control.arrivals(fates, now, self._sent.round_trip_s or 0.0)

    def _play(self, now: float) -> None:
        """Take a period, and the second half of a decoded frame with its first, as audio/playback.py does."""
        if self._asked_from is None or now < self._asked_from:
            return
        if self._is_ahead:
            self._is_ahead = False
            return
        self.playout.wants_packets()
        self._put(now)
        if not self.playout.wants_packets():
            self._is_ahead = True
            self._put(now + PERIOD_S)

    def _put(self, now: float) -> None:
        place = round((now * 1000 + CARD_MS) * 48)
        self.heard[place : place + PERIOD_SAMPLES] = self.playout.pull(now + SKEW_S)


def run(name: str, speech: Samples, seed: int) -> str:
    """Run one line and return its row."""
    call = VirtualCall(LINES[name], speech, seed)
    call.run()
    skip = int(SETTLE_S * 48_000)
    scored = quality.score(speech[skip:], call.heard[skip:])
    pesq = [segment.pesq for segment in scored.segments]
    stoi = [segment.stoi for segment in scored.segments]
    stats = call.playout.stats
    begun = slice(int(BEGUN_S * 48_000), skip)
    start = max((ms for _, ms in quality.score(speech[begun], call.heard[begun]).delays_ms), default=0.0)
    silent = stats.comfort_samples / max(stats.pulled_samples, 1)
    made_up = stats.concealed_samples / max(stats.pulled_samples, 1)
    rate = float(np.mean([kbit for at, kbit in call.rates if at > SETTLE_S]))
    return (
        f"{name:16} {np.median(pesq):5.2f} {np.percentile(pesq, 10):5.2f}  {np.median(stoi):.3f}"
        f" {start:6.0f} {scored.delay(50):6.0f} {scored.delay(95):6.0f}"
        f"  {made_up:7.2%} {silent:7.2%} {rate:6.1f}"
    )


def main(arguments: list[str] | None = None, say: Callable[[str], object] = sys.stdout.write) -> int:
    """Run the lines asked for and print the table."""
    parser = argparse.ArgumentParser(prog="python -m bench.virtual_call", description=__doc__)
    parser.add_argument("--line", choices=sorted(LINES), action="append", help="only these")
    parser.add_argument("--seconds", type=float, default=45.0)
    parser.add_argument("--speech", type=Path, metavar="WAV", help="what is said (default: espeak-ng)")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as scratch:
        said = prepare_speech(options.speech, Path(scratch))
        speech = np.concatenate([quality.load(path) for path in said.values()])
    speech = np.resize(speech, int(options.seconds * 48_000))
    say("line              PESQ   p10   STOI  start    p50    p95   made up  silent   kb/s\n")
    for name in options.line or LINES:
        say(run(name, speech, options.seed) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
