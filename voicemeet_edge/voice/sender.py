"""What is sent under which loss: bit rate, in-band FEC and redundancy, from the peer's loss reports.

Two classes of packet size and no more, so that sizes tell nothing: clean, and loss. The one rule: a plan
changes only with the network, never with what is said.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from math import lgamma, log

from voicemeet_edge.voice.opus import OpusEncoder
from voicemeet_edge.voice.red import HEADER_BYTES, RedPacker

# Around each payload: IPv4 20, UDP 8, RTP 12, AES-GCM tag 16 = 56 bytes, 22.4 kb/s; over TURN 4 bytes more.
CLEAN_BYTES = 116  # bytes a packet; 68.8 kb/s on the wire, 70.4 over TURN, under the 72 of the clean budget
LOSS_BYTES = 177  # bytes a packet; 93.2 kb/s on the wire, under 100; whole frames with 0, 1 and 2 copies
REPORTS = 30  # loss reports kept, about 30 s of RTCP at its usual second
ENTER_MEAN = 0.004  # of the last ENTER_REPORTS; two lost packets in ten seconds
ENTER_REPORTS = 10
ENTER_AT_ONCE = 0.03  # in one report; two lost packets in one second
LEAVE_MEAN = 0.001  # of all reports kept; below it redundancy is not worth its bits
HEAVY = 0.15  # loss from which copies two packets deep beat in-band FEC (bench/playout.py)
HEAVY_LEAVE = 0.11  # below it back to in-band FEC
HEAVY_DISTANCES = (1, 2)  # frames back; two losses in a row are healed after 40 ms
BURST_DISTANCES = (3,)  # frames back; all but the first of a burst of four are healed, after 60 ms
BURST_DISPERSION = 4.0  # variance by mean of the packets lost per report when they are lost four in a row
BURST_ENTER = 3.5  # logarithm of the odds; single losses reach it in 1 of 70 calls, bursts after 8 s
BURST_LEAVE = -1.0  # and below which it ends
BURST_MEAN = 0.01  # loss below which the dispersion says nothing
BURST_REPORTS = 5  # reports before bursts are believed
PACKETS_PER_REPORT = 50  # packets of 20 ms in about one second
MAX_FEC_PERCENT = 25  # %; beyond it libopus starves the frame itself


@dataclass(frozen=True, slots=True)
class SendPlan:
    """How to send from now on."""

    packet_bytes: int
    """Size of every RTP payload while the plan lasts."""
    fec_percent: int
    """Loss the encoder is told; 0 switches in-band FEC off."""
    distances: tuple[int, ...] = ()
    """Which earlier frames ride along (RFC 2198), in frames back."""

    def frame_bytes(self, red: bool) -> int:
        """Size of one Opus frame, when wrapped in RED or not."""
        if not red:
            return self.packet_bytes
        copies = len(self.distances)
        return (self.packet_bytes - 1 - HEADER_BYTES * copies) // (copies + 1)


CLEAN = SendPlan(CLEAN_BYTES, 0)


class LossPolicy:
    """Turn loss reports into plans."""

    def __init__(self, red: bool) -> None:
        self._red = red
        self._reports: deque[float] = deque(maxlen=REPORTS)
        self.plan = CLEAN

    def report(self, fraction: float) -> SendPlan:
        """Take one RTCP report's loss, 0 to 1, and return the plan that follows."""
        self._reports.append(min(max(fraction, 0.0), 1.0))
        self.plan = self._decide()
        return self.plan

    def _mean(self, count: int) -> float:
        """Mean of the last `count` reports; those not yet there count as clean."""
        return sum(list(self._reports)[-count:]) / count

    def _decide(self) -> SendPlan:
        reports = self._reports
        enter = reports[-1] >= ENTER_AT_ONCE or self._mean(ENTER_REPORTS) >= ENTER_MEAN
        stay = self.plan is not CLEAN and sum(reports) / len(reports) > LEAVE_MEAN
        if not enter and not stay:
            return CLEAN
        recent = list(reports)[-ENTER_REPORTS:]
        loss = sum(recent) / len(recent)
        if self._red and self._bursty():
            return SendPlan(LOSS_BYTES, 0, BURST_DISTANCES)
        heavy = HEAVY_LEAVE if self.plan.distances == HEAVY_DISTANCES else HEAVY
        if self._red and loss >= heavy:
            return SendPlan(LOSS_BYTES, 0, HEAVY_DISTANCES)
        return SendPlan(LOSS_BYTES, max(1, min(MAX_FEC_PERCENT, round(loss * 100))))

    def _bursty(self) -> bool:
        """Tell bursts from single losses by how unevenly the reports count.

        Single losses spread over the reports as a Poisson distribution does; bursts of about four spread
        as a negative binomial one whose variance is four times its mean. What is summed is the logarithm
        of how much better the second explains the reports than the first.
        """
        counts = [round(fraction * PACKETS_PER_REPORT) for fraction in self._reports]
        while counts and not counts[0]:
            counts.pop(0)  # the time before the loss began says nothing of its kind
        mean = sum(counts) / max(len(counts), 1)
        if len(counts) < BURST_REPORTS or mean < BURST_MEAN * PACKETS_PER_REPORT:
            return False
        evidence = sum(_burst_evidence(count, mean) for count in counts)
        return evidence > (BURST_LEAVE if self.plan.distances == BURST_DISTANCES else BURST_ENTER)


def _burst_evidence(count: int, mean: float) -> float:
    """Return log(probability of this count from bursts / from single losses) at the same mean."""
    size = mean / (BURST_DISPERSION - 1)
    single = count * log(mean) - mean - lgamma(count + 1)
    burst = (
        lgamma(count + size)
        - lgamma(size)
        - lgamma(count + 1)
        - size * log(BURST_DISPERSION)
        + count * log(1 - 1 / BURST_DISPERSION)
    )
    return burst - single


class VoiceSender:
    """From 20 ms of sound to one RTP payload, by the present plan."""

    def __init__(self, *, complexity: int = 6, red_payload_type: int | None = None) -> None:
        """Prepare to send.

        Args:
            complexity: 0 to 10, the encoder's; 6 fits a Raspberry Pi.
            red_payload_type: Opus' own payload type when audio/red was negotiated, else None. Then
                every payload is RED, also where no copy rides along, so one payload type serves.
        """
        self._encoder = OpusEncoder(complexity=complexity)
        self._packer = None if red_payload_type is None else RedPacker(red_payload_type)
        self._policy = LossPolicy(red=self._packer is not None)
        self._plan: SendPlan | None = None
        self._apply(CLEAN)

    @property
    def plan(self) -> SendPlan:
        """The plan in force."""
        return self._policy.plan

    def report_loss(self, fraction: float) -> None:
        """Take the loss of one RTCP receiver report, 0 to 1; call it once for each report."""
        self._policy.report(fraction)

    def encode(self, pcm: bytes, timestamp: int) -> bytes:
        """Encode 960 samples of s16le; returns the RTP payload, `plan.packet_bytes` long."""
        if self._policy.plan is not self._plan:
            self._apply(self._policy.plan)
        frame = self._encoder.encode(pcm)
        return frame if self._packer is None else self._packer.pack(frame, timestamp)

    def _apply(self, plan: SendPlan) -> None:
        former, self._plan = self._plan, plan
        self._encoder.set_bitrate(plan.frame_bytes(self._packer is not None) * 400)
        self._encoder.set_fec(plan.fec_percent > 0)
        self._encoder.set_loss(plan.fec_percent)
        if self._packer is not None and (former is None or former.distances != plan.distances):
            self._packer.set_distances(plan.distances)

    def close(self) -> None:
        """Free the encoder."""
        self._encoder.close()
