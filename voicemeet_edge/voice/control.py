"""What one call sends: the rung by what arrived, copies and FEC by what was lost by chance.

The one place where congestion control and loss policy meet. One rule: reports come in one thread (whoever
receives), frames go out in another (the microphone's), and between them stands `plan`, one assignment.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from math import inf
from typing import NamedTuple

from voicemeet_edge.voice.congestion import LOST_DEEP_S, CongestionControl
from voicemeet_edge.voice.delays import SPARSE, PacketFate, QueueWatch
from voicemeet_edge.voice.incoming import IncomingWatch
from voicemeet_edge.voice.ladder import (
    HEADER_BYTES,
    LADDER,
    START,
    TOP,
    Limits,
    SendPlan,
    allowed,
    rates,
    report_interval,
)
from voicemeet_edge.voice.loss_policy import LossPolicy

REPORT_WIRE_BYTES = 68  # bytes of a report on the wire, and two more for each packet told of
REPORT_STEP = 4  # packets by which reports differ in length (there)
REPORT_AGAIN = 6  # packets told of twice (webrtc/feedback.py)
LOSS_S = 1.0  # s of packets that count as one loss report, as RTCP's
LOSS_PACKETS = 12  # packets at least in it
STALE_S = 3.0  # s without a report of arrivals after which plain receiver reports count again
HOPELESS_LOSS = 0.4  # of the packets lost on the lowest rung: nothing is understood
HOPELESS_S = 10.0  # s of that before it is said
UNHEARD = 2.4  # intervals without a report of arrivals after which ours go first: two are missing
AHEAD_S = 10.0  # s for which they go first then
BLIND_S = 2.6  # s without one after which less is sent: five are missing, though voice comes
FIRST_BLIND_S = 1.2  # s at the beginning of a call, where they are to come five times as often
PROBE_S = 0.5  # s between two looks at the round trip where the other side reports no arrivals
PROBE_BYTES = 130  # bytes of such a look on the wire, there and back


class LineMemory:
    """Where calls ended, by route: in memory, the last few routes, and nothing of who was called."""

    MAX_ROUTES = 8

    def __init__(self) -> None:
        self._routes: dict[str, tuple[int, float | None]] = {}

    def recall(self, route: str) -> tuple[int, float | None]:
        """Return the rung to begin on, and what the line carried (None: nothing stopped us)."""
        return self._routes.get(route, (START, None))

    def narrowest(self) -> float | None:
        """Return the least that a line was found to carry in kb/s, None when none stopped us."""
        return min((carries for _, carries in self._routes.values() if carries is not None), default=None)

    def keep(self, route: str, rung: int, carries_kbit_s: float | None) -> None:
        """Note where a call stood."""
        self._routes.pop(route, None)
        while len(self._routes) >= self.MAX_ROUTES:
            del self._routes[next(iter(self._routes))]
        self._routes[route] = rung, carries_kbit_s


class LineView(NamedTuple):
    """What the sending side sees of its line."""

    kbit_s: float = 0.0
    """What is sent, on the wire."""
    rung: int = 0
    queue_s: float = 0.0
    carries_kbit_s: float | None = None


class SendControl:
    """Choose the plan of each frame."""

    def __init__(self, now: float, memory: LineMemory | None = None, *, red: bool = False) -> None:
        """Begin; before `connected` all is sent as on a good line.

        Args:
            now: seconds, monotonic.
            memory: what earlier calls found.
            red: whether the other side takes copies.
        """
        self.plan = LADDER[START].clean
        """Read by the capture thread before each packet."""
        self._hopeless_since: float | None = None  # since then the lowest rung loses nearly half
        self._memory = memory or LineMemory()
        self._red = red
        self._limits = Limits()
        self._header_bytes = HEADER_BYTES
        self._route = ""
        self._policy = LossPolicy(red=red)
        self._congestion = CongestionControl(rates(), start=START, now=now)
        self._began = now
        self._allowed: Sequence[int] = range(TOP + 1)
        self._told_at = -inf  # when arrivals were last reported
        self._blind_at = inf  # when less is sent if nothing is reported until then
        self._unheard_until = -inf
        self._mutual = False
        self._loss_at = now
        self._connected = False
        self._lock = threading.Lock()
        self.incoming = IncomingWatch()
        """How the other side's packets come, where it does not report on ours."""
        self._choose()

    # From the connection, when it is there

    def connected(
        self, now: float, *, route: str, limits: Limits, header_bytes: int, red: bool, mutual: bool
    ) -> None:
        """A path is there, for the first time or another.

        Args:
            now: seconds, monotonic.
            route: what stands for this way out: kind of candidate and relay, never the other side.
            limits: what the other side's description allows.
            header_bytes: bytes around each payload on this path.
            red: whether the other side takes copies.
            mutual: whether it reports arrivals, as we do.
        """
        rung, carries = self._memory.recall(route)
        self._route, self._limits, self._header_bytes = route, limits, header_bytes
        self._allowed = allowed(limits, header_bytes)
        self._congestion = CongestionControl(
            rates(header_bytes),
            start=min(rung, TOP - 1),
            now=now,
            carries_kbit_s=carries,
            watch=QueueWatch() if mutual else QueueWatch(SPARSE),
        )
        self._connected = True
        self._began = now
        if red != self._red:
            self._red = red
            self._policy = LossPolicy(red=red)
        self._told_at = -inf
        self._mutual = mutual
        self._blind_at = now + FIRST_BLIND_S
        self._choose()

    # From whoever receives

    def arrivals(self, fates: Sequence[PacketFate], now: float, round_trip_s: float) -> None:
        """Take a report of what arrived (RFC 8888)."""
        with self._lock:
            congestion = self._congestion
            self._told_at = now
            self._blind_at = now + BLIND_S
            congestion.report_kbit_s = self.report_kbit_s(now)
            congestion.highest = self._highest()
            congestion.report(fates, now, round_trip_s)
            losses = congestion.losses
            if losses.take_mistake():
                self._policy = LossPolicy(red=self._red)
            if now - self._loss_at >= LOSS_S and losses.counted >= LOSS_PACKETS:
                self._loss_at = now
                self._policy.report(losses.take(), losses.take_runs())
            self._watch_hope(now)
            self._choose()

    def loss(self, fraction: float, now: float) -> None:
        """Take the loss of a plain receiver report, 0 to 1; where arrivals are told it says nothing new."""
        if now - self._told_at > STALE_S and self._congestion.queue_s < LOST_DEEP_S:
            with self._lock:
                self._policy.report(min(max(fraction, 0.0), 1.0))
                self._choose()

    def round_trip(self, seconds: float, now: float) -> None:
        """Take a look at the round trip, where nobody reports arrivals: what is not our queue is theirs."""
        if now - self._told_at <= STALE_S:
            return
        with self._lock:
            congestion = self._congestion
            congestion.report_kbit_s = PROBE_BYTES * 0.008 / PROBE_S
            congestion.highest = self._highest()
            sent_at = now - seconds
            came_at = sent_at + max(seconds - self.incoming.queue_s, 0.0)
            congestion.report([PacketFate(sent_at, PROBE_BYTES, came_at)], now, seconds)
            self._choose()

    def report_interval(self, now: float) -> float:
        """Return s until the next report of what arrived here: our reports share the line with our voice."""
        return report_interval(now - self._began, self._congestion.rung)

    def report_kbit_s(self, now: float) -> float:
        """Return what such reports take."""
        interval = max(self.report_interval(now), 0.25)
        packets = interval * 1000 / self.plan.frame_ms + REPORT_AGAIN + REPORT_STEP / 2
        return (REPORT_WIRE_BYTES + 2 * packets) * 0.008 / interval

    # From the capture thread

    def is_unheard(self, now: float) -> bool:
        """Say whether reports of the other side were missing: ours may be lost in a full queue, too."""
        heard_at = max(self._told_at, self._began)
        if now - heard_at > UNHEARD * self.report_interval(now):
            self._unheard_until = now + AHEAD_S
        return self._mutual and now < self._unheard_until

    def is_there(self, now: float) -> None:
        """The other side's voice comes: when no reports do, a full queue may be what swallows them."""
        if now < self._blind_at:
            return
        with self._lock:
            self._blind_at = now + BLIND_S
            self._congestion.go_blind(now)
            self._choose()

    def wants_pair(self, now: float) -> bool:
        """Say whether the next packet goes out twice in a row: how far apart the two come tells the speed."""
        return now - self._told_at < STALE_S and self._congestion.wants_pair(now)

    @property
    def chance_percent(self) -> int:
        """How much is lost by chance, in %."""
        return round(100 * self._policy.loss)

    # For whoever looks

    def view(self) -> LineView:
        """Return the figures of this moment."""
        congestion = self._congestion
        return LineView(
            self.plan.kbit_s(self._header_bytes),
            congestion.rung,
            congestion.queue_s,
            congestion.carries_kbit_s,
        )

    def is_hopeless(self, now: float) -> bool:
        """Say whether the line carries not even the least for so long that the call should end (RFC 8083)."""
        return self._hopeless_since is not None and now - self._hopeless_since >= HOPELESS_S

    def close(self) -> None:
        """The call is over: remember what its line was like."""
        if self._route and self._connected:
            congestion = self._congestion
            self._memory.keep(self._route, min(congestion.rung, TOP - 1), congestion.carries_kbit_s)
            self._route = ""

    # Deciding

    def _highest(self) -> int:
        clean = max((rung for rung in self._allowed if rung < TOP), default=0)
        wants_top = clean == TOP - 1 and TOP in self._allowed and self._policy.lossy
        return TOP if wants_top else clean

    def _watch_hope(self, now: float) -> None:
        bad = self._congestion.rung == min(self._allowed) and self._congestion.losses.share() > HOPELESS_LOSS
        if not bad:
            self._hopeless_since = None
        elif self._hopeless_since is None:
            self._hopeless_since = now

    def _choose(self) -> None:
        lossy = self._policy.lossy
        rung = self._congestion.rung
        if not self._connected:
            # Nothing is known of the line: the plan of the loss alone, as on a good line.
            rung = self._highest()
        if rung not in self._allowed:
            rung = max((fit for fit in self._allowed if fit <= rung), default=min(self._allowed))
        if rung == TOP:
            plan = self._policy.plan
        elif lossy and self._red and not self._passes_by(rung):
            plan = LADDER[rung].lossy
        elif lossy and LADDER[rung].clean.frame_ms == 20:
            clean = LADDER[rung].clean
            plan = SendPlan(clean.packet_bytes, self._policy.fec_percent)
        else:
            plan = LADDER[rung].clean
        if plan != self.plan:
            self.plan = plan

    def _passes_by(self, rung: int) -> bool:
        """Say whether this rung is only on the way: long packets there would raise the delay for 20 s."""
        return rung >= START and self._congestion.carries_kbit_s is None
