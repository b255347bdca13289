"""How the other side's line is doing, seen from here: for who sends without looking (a browser).

The same congestion control as for our own packets, on the other side's time stamps; what it would do, the
other side is told (call/line_advice.py). Pure. The one rule: advice follows the line, never the voice.
"""

from __future__ import annotations

from typing import NamedTuple

from voicemeet_edge.voice.congestion import KEEP, CongestionControl
from voicemeet_edge.voice.delays import PacketFate
from voicemeet_edge.voice.format import SAMPLE_RATE
from voicemeet_edge.voice.ladder import SendPlan

LOOK_S = 0.25  # s between two looks
MAX_PACKETS = 256  # packets between two looks; more is a flood
MAX_JUMP = 64  # packets missing in a row that count as lost; more is a new stream


class Advice(NamedTuple):
    """What the other side should send."""

    bitrate: int
    """bit/s of Opus."""
    packet_ms: int


# What a browser can be told: bit rate and length of its packets, by what they take on the wire.
ADVICE = (Advice(12_000, 60), Advice(20_000, 60), Advice(24_000, 40), Advice(32_000, 20))
RATES = tuple(
    SendPlan(advice.bitrate * advice.packet_ms // 8000, frame_ms=advice.packet_ms).kbit_s()
    for advice in ADVICE
)
DEFAULT = ADVICE[-1]
"""What a browser sends by itself."""
BEYOND = 1e6  # kb/s; the control's highest rung is for redundancy, which is not ours to ask for
OBEYED_S = 1.0  # s until advice shows in what comes: it is a message, and the browser takes its time


def suits(kbit_s: float) -> Advice:
    """Return what may be asked of the other side where the line carries so much."""
    fits = [advice for advice, rate in zip(ADVICE, RATES, strict=True) if rate <= kbit_s * KEEP]
    return fits[-1] if fits else ADVICE[0]


class IncomingWatch:
    """Follow the packets that come; `advice` is what would suit their line."""

    def __init__(self) -> None:
        self.advice = ADVICE[-1]
        self._control: CongestionControl | None = None
        self._fates: list[PacketFate] = []
        self._highest: int | None = None
        self._clock = 0  # unwrapped RTP timestamp of the last packet
        self._began = 0.0  # when it would have been 0, had the first packet taken no time
        self._looked_at = 0.0

    @property
    def queue_s(self) -> float:
        """How much of the incoming delay is queue."""
        return self._control.queue_s if self._control is not None else 0.0

    def note(self, sequence: int, timestamp: int, octets: int, arrival: float) -> None:
        """Take an authenticated packet."""
        if self._control is None:
            self._control = CongestionControl((*RATES, BEYOND), start=len(RATES) - 1, now=arrival)
            self._control.highest = len(RATES) - 1
            self._control.tests_policers = False
        if self._highest is None:
            self._highest, self._clock = sequence - 1 & 0xFFFF, timestamp
            self._began = arrival - timestamp / SAMPLE_RATE
        self._clock += (timestamp - self._clock + 0x80000000 & 0xFFFFFFFF) - 0x80000000
        sent_at = self._began + self._clock / SAMPLE_RATE
        ahead = (sequence - self._highest + 0x8000 & 0xFFFF) - 0x8000
        if ahead <= 0 and ahead > -MAX_JUMP:
            return  # late or twice; it was counted
        if 0 < ahead <= MAX_JUMP:
            self._fates += [PacketFate(sent_at, octets, None)] * (ahead - 1)
        self._highest = sequence
        if len(self._fates) < MAX_PACKETS:
            self._fates.append(PacketFate(sent_at, octets, arrival))
        if arrival - self._looked_at >= LOOK_S:
            self._looked_at = arrival
            fates, self._fates = self._fates, []
            decision = self._control.report(fates, arrival, OBEYED_S)
            self.advice = ADVICE[decision.rung]
