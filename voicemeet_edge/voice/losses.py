"""Losses: by chance, by congestion, or by a policer that lets a rate through and no more. Pure.

The one rule: a policer is believed only when another rate showed it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from math import log, sqrt

from voicemeet_edge.voice.delays import RATE_LEAST_S, PacketFate

FULL_WINDOW = 32  # packets looked at for a line that is never idle
FULL_LEAST = 10  # of them before that is said
FULL_ROWS = 4  # of them, at least, that came behind lost ones
FULL_SPREAD = 0.2  # of the line's speed by which they may stray: behind one lost by chance it is half of it
FULL_STRANGE = 0.2  # of them may stray further: machines stand still, and reports are sent between
FULL_STRETCH = 1.05  # times as long as for their leaving they take to come where they wait for each other
LOSS_WINDOW = 50  # packets a loss is counted over
POLICED = 0.05  # of the packets lost without delay: chance or a policer
POLICED_HARD = 0.35  # of the packets lost: no redundancy helps, so it is looked at first
POLICED_HALF = 0.5  # of the packets lost: chance hardly does that, so a far lower rate is tried
POLICE_TEST_PACKETS = 20  # packets sent at a lower or higher rate before the two are told apart
POLICE_ODDS = 6.0  # logarithm of the odds for a policer
CHANCE_ODDS = 2.0  # and for chance, which is more frequent
LATE_ODDS = 3.0  # for a policer when it must be decided
POLICE_PARTS = tuple(part / 20 for part in range(4, 41))  # of the lower rate: what it may pass
CHANCE_S = 600.0  # s in which loss that was chance is not suspected again
POLICED_MORE = 0.25  # of the packets more than that: something else happened
WORSE = 0.08  # of the packets more lost on trial than before: the trial failed
WORSE_SIGMA = 2.5  # standard deviations, at least
STILL = 0.04  # of the packets lost at the rate a policer was to let through: it is none


class ChanceLosses:
    """Count losses over the last packets, by chance or by congestion."""

    def __init__(self) -> None:
        self._window: deque[tuple[bool, bool]] = deque(maxlen=LOSS_WINDOW)
        self.counted = 0
        """Packets since `take`."""
        self._chance = 0
        self._followed = self._ended = 0
        self._former = False
        self._mistaken = False

    def add(self, lost: bool, *, chance: bool = False, doubtful: bool = False) -> None:
        """Count a packet; `doubtful`: nobody can say whether chance or congestion took it."""
        self._window.append((lost, lost and not (chance or doubtful)))
        self.counted += 1
        by_chance = lost and chance
        self._chance += by_chance
        if self._former and by_chance:
            self._followed += 1
        elif self._former and not lost:
            self._ended += 1
        self._former = by_chance

    def share(self) -> float:
        """Return the share lost, whatever the cause."""
        return sum(lost for lost, _ in self._window) / max(len(self._window), 1)

    def congested(self) -> float:
        """Return the share of the last packets that was lost to congestion."""
        return sum(congested for _, congested in self._window) / LOSS_WINDOW

    def take(self) -> float:
        """Return the share lost by chance since the last call, and begin anew."""
        share = self._chance / self.counted if self.counted else 0.0
        self.counted = self._chance = 0
        return share

    def take_runs(self) -> tuple[int, int]:
        """Return how many losses by chance were followed by another since the last call, how many by none."""
        runs = self._followed, self._ended
        self._followed = self._ended = 0
        return runs

    def forgive(self, *, mistaken: bool = False) -> None:
        """Forget what turned out to be no chance; `mistaken`: also what was told of before."""
        self._window.clear()
        self.counted = self._chance = 0
        self._mistaken = self._mistaken or mistaken

    def take_mistake(self) -> bool:
        """Say whether what was told until now is to be forgotten; once."""
        mistaken, self._mistaken = self._mistaken, False
        return mistaken


class FullQueue:
    """Tell a queue that has always been full from chance, though its delay is steady as if there were none.

    Where chance takes a packet, the others come when they would have come, and there is a gap. Where a full
    queue drops one, those behind it close up: the line is never idle, and packet comes behind packet at its
    speed whatever was lost between them. And between two of which none was lost they take longer than they
    took to leave, all in all, while no delay grows: in jitter what one is late the next makes good.
    """

    def __init__(self) -> None:
        self._came: deque[tuple[float, bool]] = deque(maxlen=FULL_WINDOW)  # kb/s, behind a lost one
        self._gaps: deque[tuple[float, float]] = deque(maxlen=FULL_WINDOW)  # s of coming and of leaving
        self._lost: deque[int] = deque(maxlen=FULL_WINDOW)

    def add(self, before: PacketFate, lost: Sequence[PacketFate], after: PacketFate) -> None:
        """Take who came, who came before it, and who was lost between them."""
        self._lost.append(len(lost))
        if before.pair or any(fate.pair or fate.behind for fate in (*lost, after)):
            return  # the line had something else to do between them
        if before.arrived_at is not None and after.arrived_at is not None:
            gap = max(after.arrived_at - before.arrived_at, RATE_LEAST_S)
            self._came.append((after.octets * 0.008 / gap, bool(lost)))
            if not lost:
                self._gaps.append((gap, after.sent_at - before.sent_at))

    def is_likely(self) -> bool:
        """Say whether what was seen until now speaks for it: nothing is tried upward then."""
        return self.speed(FULL_LEAST // 2, FULL_ROWS // 2) is not None

    def speed(self, least: int = FULL_LEAST, least_rows: int = FULL_ROWS) -> float | None:
        """Return kb/s of the line when it is never idle although packets get lost; else None.

        Where packets come slower than they leave, any that are lost are enough.
        """
        rows = sum(behind for _, behind in self._came)
        if (
            len(self._came) < least
            or sum(self._lost) < least_rows
            or (rows < least_rows and not self._is_slow())
        ):
            return None
        middle = sorted(rate for rate, _ in self._came)[len(self._came) // 2]
        strange = [behind for rate, behind in self._came if abs(rate - middle) > FULL_SPREAD * middle]
        few = sum(strange) <= FULL_STRANGE * rows and len(strange) <= FULL_STRANGE * len(self._came)
        return middle if few else None

    def _is_slow(self) -> bool:
        """Say whether packets come slower than they leave."""
        return sum(came for came, _ in self._gaps) > FULL_STRETCH * sum(left for _, left in self._gaps)

    def forget(self) -> None:
        """The rate is another from now on."""
        self._came.clear()
        self._gaps.clear()
        self._lost.clear()


class PoliceTest:
    """Tell a policer from chance by what a change of rate does to the loss.

    A policer lets the same rate through whatever is sent; chance takes the same share.
    """

    def __init__(self) -> None:
        self._chance_until = 0.0
        self._chance = 0.0  # share lost by chance
        self._suffered = 0.0  # share lost at the higher rate
        self._before: tuple[float, int, int] | None = None  # rate, packets lost, packets
        self._rate = 0.0
        self._changed_at = 0.0
        self._window: deque[bool] = deque(maxlen=LOSS_WINDOW)
        self._lost = self._sent = self._runs = 0
        self._former = False

    @property
    def ready(self) -> bool:
        """Whether a change of rate now would tell."""
        return len(self._window) >= POLICE_TEST_PACKETS

    def unexplained(self, now: float) -> bool:
        """Say whether much is lost and nobody knows why."""
        share = self.share - self._chance if now < self._chance_until else self.share
        return share >= (POLICED if now >= self._chance_until else POLICED_MORE)

    def explained(self, now: float) -> bool:
        """Say whether what is lost is known to be chance; no test is needed then."""
        if now >= self._chance_until or self.unexplained(now):
            return False
        self._before = None
        return True

    def suspicious(self, now: float) -> bool:
        """Say whether it should be found out now."""
        if len(self._window) < LOSS_WINDOW or not self.unexplained(now):
            return False
        if self.share >= POLICED_HARD:
            self._before = None  # what was seen at a rate where nearly as much got lost tells little
            return True
        return self._before is None or self._sent >= 2 * LOSS_WINDOW

    def still(self) -> bool:
        """Say whether as much as before gets lost at the present rate."""
        return len(self._window) == LOSS_WINDOW and self.share >= STILL and self._runs >= 2

    def helped(self) -> bool:
        """Say whether far less is lost now than before the policer was believed in."""
        return self.share < self._suffered / 2

    def worse(self, *, suspected: bool) -> bool:
        """Say whether clearly more is lost since the rate was changed; where a policer is, any is enough."""
        if suspected and self._runs >= 2 and self._lost > STILL * self._sent:
            return True
        if self._before is None or self._runs < 3 or self._sent < POLICE_TEST_PACKETS:
            return False
        _, lost, sent = self._before
        before, since = lost / sent, self._lost / self._sent
        both = (lost + self._lost) / (sent + self._sent)
        noise = sqrt(both * (1 - both) * (1 / sent + 1 / self._sent) * self._lost / self._runs)
        return since - before > max(WORSE, WORSE_SIGMA * noise)

    def is_chance(self, now: float) -> None:
        """What is lost now, is lost by chance."""
        self._chance_until = now + CHANCE_S

    @property
    def share(self) -> float:
        """Share lost of the last packets."""
        return sum(self._window) / max(len(self._window), 1)

    def add(self, lost: bool, sent_at: float) -> None:
        """Count a packet that was not lost to congestion, unless it left before the last change of rate."""
        if sent_at < self._changed_at:
            return
        self._window.append(lost)
        self._sent += 1
        self._lost += lost
        self._runs += lost and not self._former
        self._former = lost

    def rate_changes(self, before: float, after: float, now: float) -> None:
        """Another rate is sent from now on."""
        self._changed_at = now
        if self.ready:
            self._before = before, sum(self._window), len(self._window)
        self._rate = after
        self._lost = self._sent = self._runs = 0
        self._window.clear()

    def verdict(self, late: bool) -> float | None:
        """Return the policer's rate in kb/s, 0 for chance, None while undecided; when it is late, decide."""
        if self._before is None or self._sent < POLICE_TEST_PACKETS:
            return None
        rate, lost, sent = self._before
        if lost + self._lost < 2:
            return 0.0 if late else None
        chance = (lost + self._lost) / (sent + self._sent)
        by_chance = _likelihood(chance, lost, sent) + _likelihood(chance, self._lost, self._sent)
        lowest = min(rate, self._rate)
        by_police, passes = max(
            (
                _likelihood(1 - lowest * part / rate, lost, sent)
                + _likelihood(1 - lowest * part / self._rate, self._lost, self._sent),
                lowest * part,
            )
            for part in POLICE_PARTS
        )
        odds = by_police - by_chance
        if self._runs:
            odds *= self._runs / self._lost  # what is lost together is one event
        if -CHANCE_ODDS < odds < POLICE_ODDS and not late:
            return None
        self._before = None
        self._chance = chance
        self._suffered = max(lost / sent, self._lost / self._sent)
        return passes if odds > LATE_ODDS else 0.0


def _likelihood(share: float, lost: int, sent: int) -> float:
    """Return the logarithm of how likely these losses are."""
    share = min(max(share, 0.01), 0.99)
    return lost * log(share) + (sent - lost) * log(1 - share)
