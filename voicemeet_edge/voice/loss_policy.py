"""Which redundancy chance losses call for: in-band FEC, copies, and how far back, from loss reports. Pure.

The one rule: a plan changes only with the network, never with what is said.
"""

from __future__ import annotations

from collections import deque
from math import lgamma, log

from voicemeet_edge.voice.ladder import CLEAN_BYTES, LOSS_BYTES, SendPlan

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
RUN_MEAN = 4.0  # packets lost in a row when they are lost in bursts
RUN_ENDS = 2  # such rows, at least: one alone may be an outage
LEAST_CHANCE = 0.03  # of the packets: fewer losses say little of how they come
BURST_LEAVE = -1.0  # and below which it ends
BURST_MEAN = 0.01  # loss below which the dispersion says nothing
BURST_REPORTS = 5  # reports before bursts are believed
PACKETS_PER_REPORT = 50  # packets of 20 ms in about one second
MAX_FEC_PERCENT = 25  # %; beyond it libopus starves the frame itself


CLEAN = SendPlan(CLEAN_BYTES)


class LossPolicy:
    """Turn loss reports into plans."""

    def __init__(self, red: bool) -> None:
        self._red = red
        self._reports: deque[float] = deque(maxlen=REPORTS)
        self._runs: deque[tuple[int, int]] = deque(maxlen=REPORTS)
        self.plan = CLEAN
        self.loss = 0.0
        """Mean of the last reports."""

    def report(self, fraction: float, runs: tuple[int, int] | None = None) -> SendPlan:
        """Take one report's loss and return the plan that follows.

        Args:
            fraction: 0 to 1.
            runs: where each packet is reported: losses followed by another, and losses followed by none.
        """
        self._reports.append(min(max(fraction, 0.0), 1.0))
        if runs is not None:
            self._runs.append(runs)
        recent = list(self._reports)[-ENTER_REPORTS:]
        self.loss = sum(recent) / len(recent)
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
        loss = self.loss
        if self._red and self._bursty():
            return SendPlan(LOSS_BYTES, 0, BURST_DISTANCES)
        heavy = HEAVY_LEAVE if self.plan.distances == HEAVY_DISTANCES else HEAVY
        if self._red and loss >= heavy:
            return SendPlan(LOSS_BYTES, 0, HEAVY_DISTANCES)
        return SendPlan(LOSS_BYTES, self.fec_percent)

    @property
    def lossy(self) -> bool:
        """Whether redundancy is worth its bits."""
        return self.plan is not CLEAN

    @property
    def fec_percent(self) -> int:
        """The loss the encoder is to reckon with."""
        return max(1, min(MAX_FEC_PERCENT, round(self.loss * 100)))

    def _bursty(self) -> bool:
        """Tell bursts from single losses by how unevenly the reports count.

        Single losses spread over the reports as a Poisson distribution does; bursts of about four spread
        as a negative binomial one whose variance is four times its mean. What is summed is the logarithm
        of how much better the second explains the reports than the first.
        """
        if self._runs:
            return self._in_runs()
        counts = [round(fraction * PACKETS_PER_REPORT) for fraction in self._reports]
        while counts and not counts[0]:
            counts.pop(0)  # the time before the loss began says nothing of its kind
        mean = sum(counts) / max(len(counts), 1)
        if len(counts) < BURST_REPORTS or mean < BURST_MEAN * PACKETS_PER_REPORT:
            return False
        evidence = sum(_burst_evidence(count, mean) for count in counts)
        return evidence > (BURST_LEAVE if self.plan.distances == BURST_DISTANCES else BURST_ENTER)

    def _in_runs(self) -> bool:
        """Tell bursts from single losses by what follows a lost packet: two bursts are enough to see."""
        followed = sum(count for count, _ in self._runs)
        ended = sum(count for _, count in self._runs)
        chance = min(max(sum(self._reports) / len(self._reports), LEAST_CHANCE), 0.5)
        evidence = followed * log((1 - 1 / RUN_MEAN) / chance) + ended * log(1 / RUN_MEAN / (1 - chance))
        if self.plan.distances == BURST_DISTANCES:
            return evidence > BURST_LEAVE
        return ended >= RUN_ENDS and evidence > BURST_ENTER


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
