"""What a directed way does to packets: loses, delays, holds them back in a queue. Pure, told `now`.

The relay of testing/network.py puts real packets through it and the simulator of the congestion control
virtual ones: a figure of the one means the same in the other. All chance comes from the dice given.
"""

from __future__ import annotations

import heapq
import random
from dataclasses import field

from voicemeet_edge.records import dataclass

WANDER_S = 0.1  # s between two changes of a line that wanders: about what LTE schedulers do
WANDER_KEPT = 0.7  # of the last deviation; the rest is new
RIVAL_BYTES = 1_500  # bytes of somebody else's packet: a full Ethernet frame
RIVAL_RTT_S = 0.04  # s of somebody else's round trip without the queue
RIVAL_WINDOW = 2.0  # packets a rival begins with
MAX_RIVAL_WINDOW = 400.0  # packets; 600 kB, as a receiver's window


@dataclass(frozen=True, slots=True)
class Impairment:
    """What happens to packets on one directed way."""

    loss: float = 0.0
    """Share of packets lost, 0..1."""
    burst: int = 1
    """Packets lost in a row each time; the share stays `loss`."""
    delay_s: float = 0.0
    jitter_s: float = 0.0
    """Standard deviation of a normal distribution added to the delay, never below zero in all."""
    keep_order: bool = False
    """Hold early packets back instead of letting them overtake."""
    kbit_s: float = 0.0
    """Bandwidth of the way; 0 is unlimited."""
    queue_s: float = 0.5
    """How long a packet waits for bandwidth at most: one that would wait longer is dropped."""
    police_kbit_s: float = 0.0
    """A rate above which packets are dropped at once, without a queue; 0 is none."""
    police_bytes: int = 1_500
    """How much the policer lets through in one go."""
    wander: float = 0.0
    """How far bandwidth and delay stray each 100 ms, as a share (standard deviation)."""
    rivals: int = 0
    """Downloads (TCP, Reno) of somebody else that share the queue."""
    duplicate: float = 0.0
    """Share of packets that arrive twice."""
    outage: bool = False
    """Nothing passes."""


@dataclass(slots=True)
class _Rival:
    """One TCP download: additive increase, halved at a loss (RFC 5681), at most once a round trip."""

    window: float = RIVAL_WINDOW
    in_flight: int = 0
    deaf_until: float = 0.0


@dataclass(slots=True)
class Way:
    """One directed way; `impairment` may be changed at any time."""

    impairment: Impairment = field(default_factory=Impairment)
    _burst_left: int = 0
    _free_at: float = 0.0
    _last_due: float = 0.0
    _tokens: float = 0.0
    _policed_at: float | None = None
    _strayed: tuple[float, float] = (0.0, 0.0)
    _strays_at: float | None = None
    _rivals: list[_Rival] = field(default_factory=list)
    _acks: list[tuple[float, int]] = field(default_factory=list)

    def change(self, impairment: Impairment) -> None:
        """Let something else happen from now on."""
        self.impairment = impairment
        self._burst_left = 0

    def due(self, now: float, length: int, dice: random.Random) -> float | None:
        """Return when this packet (bytes, IP header and all) comes out, or None when it is lost."""
        way = self.impairment
        if way.outage or self._is_lost(dice) or self._is_policed(now, length):
            return None
        self._stray(now, dice)
        moment = now
        if way.kbit_s:
            self._let_rivals(now)
            waited = self._enqueue(now, length)
            if waited is None:
                return None
            moment = waited
        moment += max(0.0, dice.gauss(way.delay_s, way.jitter_s) if way.jitter_s else way.delay_s)
        moment += way.delay_s * abs(self._strayed[1])
        if way.keep_order or way.wander:
            moment = max(moment, self._last_due)
        self._last_due = max(moment, self._last_due)
        return moment

    def queue_s(self, now: float) -> float:
        """Return how long a packet that came now would wait for its turn."""
        return max(self._free_at - now, 0.0)

    def _is_lost(self, dice: random.Random) -> bool:
        way = self.impairment
        if self._burst_left:
            self._burst_left -= 1
            return True
        if way.loss and dice.random() < way.loss / (way.burst - (way.burst - 1) * way.loss):
            self._burst_left = way.burst - 1
            return True
        return False

    def _is_policed(self, now: float, length: int) -> bool:
        """Drop what exceeds a token bucket."""
        way = self.impairment
        if not way.police_kbit_s:
            return False
        if self._policed_at is None:
            self._tokens = way.police_bytes
        else:
            earned = (now - self._policed_at) * way.police_kbit_s * 125
            self._tokens = min(self._tokens + earned, way.police_bytes)
        self._policed_at = now
        if self._tokens < length:
            return True
        self._tokens -= length
        return False

    def _stray(self, now: float, dice: random.Random) -> None:
        """Draw a new deviation of bandwidth and delay each 100 ms."""
        way = self.impairment
        if not way.wander:
            self._strayed, self._strays_at = (0.0, 0.0), None
            return
        if self._strays_at is None or now - self._strays_at > 50 * WANDER_S:
            self._strays_at = now
        while self._strays_at <= now:
            self._strays_at += WANDER_S
            rate, delay = (
                WANDER_KEPT * old + dice.gauss(0.0, way.wander) * (1 - WANDER_KEPT**2) ** 0.5
                for old in self._strayed
            )
            self._strayed = (rate, delay)

    def _enqueue(self, now: float, length: int) -> float | None:
        """Return when the last bit has left, or None when the queue is full."""
        way = self.impairment
        if self._free_at - now > way.queue_s:
            return None
        # Half the rate to twice the rate at one deviation of 0.7 either way.
        rate = way.kbit_s * min(max(2.0 ** (self._strayed[0] / 0.7), 0.25), 4.0)
        self._free_at = max(self._free_at, now) + length * 8 / (rate * 1000)
        return self._free_at

    # Somebody else's downloads

    def _let_rivals(self, now: float) -> None:
        """Let the downloads do what they did since the last packet of ours."""
        wanted = self.impairment.rivals
        if len(self._rivals) != wanted:
            self._rivals = [_Rival() for _ in range(wanted)]
            self._acks = [(now, number) for number in range(wanted)]
            heapq.heapify(self._acks)
        while self._acks and self._acks[0][0] <= now:
            at, number = heapq.heappop(self._acks)
            rival = self._rivals[number]
            if rival.in_flight:
                rival.in_flight -= 1
                rival.window = min(rival.window + 1 / rival.window, MAX_RIVAL_WINDOW)
            self._send_rival(at, number, rival)

    def _send_rival(self, at: float, number: int, rival: _Rival) -> None:
        while rival.in_flight < int(rival.window):
            left = self._enqueue(at, RIVAL_BYTES)
            if left is None:
                if at >= rival.deaf_until:
                    rival.window = max(rival.window / 2, 1.0)
                    rival.deaf_until = at + self.queue_s(at) + RIVAL_RTT_S
                if not rival.in_flight:
                    heapq.heappush(self._acks, (at + RIVAL_RTT_S + self.queue_s(at), number))
                return
            rival.in_flight += 1
            heapq.heappush(self._acks, (left + RIVAL_RTT_S, number))
