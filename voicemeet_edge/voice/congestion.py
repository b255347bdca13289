"""How much this line carries: congestion told from chance, from a policer and from the queues of others.

Pure: told what arrived when (`PacketFate`), told `now`, asked for `rung`. The one rule: congestion never
raises the rate, and nothing is tried upward that the last look at the line forbids.

What is looked at is one-way delay above its least of late: a queue. It is ours when it grows while we send
more than arrives, and shrinks when we send less. Words: *delay* is of the whole way with both clocks'
difference in it, *queue* is delay above the base. Seconds and kb/s throughout. The numbers have their
reasons beside them; how they were found: `python -m bench.line`.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from typing import NamedTuple

from voicemeet_edge.voice.delays import PacketFate, QueueWatch
from voicemeet_edge.voice.episode import Episode
from voicemeet_edge.voice.losses import (
    POLICED_HALF,
    POLICED_HARD,
    POLICED_MORE,
    ChanceLosses,
    FullQueue,
    PoliceTest,
)
from voicemeet_edge.voice.pairs import PAIRS, Pairs

GROWING = 0.05  # s of queue each s: 5 %; noise of 20 ms sd makes 0.01 over a second
STEEP = 0.15  # the same over half a second; noise makes 0.03
QUEUE_S = 0.025  # s of standing queue below which growth is not acted on
DEEP_S = 0.1  # s of standing queue that is acted on if it only does not shrink
EMPTY_S = 0.012  # s of standing queue that counts as none
PROBE_QUEUE_S = 0.015  # s by which a probe may raise the queue
KEEP = 0.885  # of what the line carried is used: a report between two packets makes the next ones wait
BLIND_KEEP = 0.7  # of the rate is sent when reports end, again and again
BLIND_S = 5.0  # s after which it is too late to go back at once
BLIND_LOST = 0.1  # of the packets that may be lost in a report that lets us go back
DRAIN_S = 1.0  # s in which a queue is to be gone
DRAINING_S = 0.025  # s by which the least delay falls in SETTLE_S while a queue drains that was there before
HIDDEN_S = 0.04  # s of such a queue, at least, that is drained faster
HIDDEN_KEEP = 0.7  # of what the line carries is sent then; with less, longer packets raise the delay for 20 s
SETTLE_S = 0.5  # s after a step, beside the round trip, before another
UP_S = 5.0  # s of calm before a step up
FIRST_UP_S = 1.0  # s of calm before a step up while nothing bad was ever seen
PROBE_S = 1.5  # s a step up is on trial
RETURN_FACTOR = 8.0  # times UP_S / 2 at most, before going back to where pairs say that the line carries us
MAX_WAIT_S = 60.0  # s; each failed trial doubles the wait up to this
FAILED_S = 10.0  # s after a trial within which trouble counts as its failure
FORGET_S = 60.0  # s after which what the line carried is no longer a limit
BEGUN_S = 3.0  # s within which what was lost before a fall was lost in the queue that led to it
PAIR_S = 1.0  # s between two pairs of packets
FIRST_PAIRS_S = 0.09  # s between two in the first half second
RARE_PAIR_S = 20.0  # s between two where the last ones agree and the line is as it was
RAREST_PAIR_S = 60.0  # s where its second packet makes others wait for 50 ms: that is heard
RAREST_BELOW = 5  # the rungs for which that is so: packets of 60 ms and more
SETTLED_S = 3.0  # s without a change until that is so
PAIR_SHARE = 0.885  # of what pairs say is tried
PAIR_MOST = 0.9  # of what pairs say is left as it is: what came before they did may have been overrated
OPEN_FACTOR = 1.3  # pairs that say the line carries so many times the highest rung: go there at once
FAST = 2.0  # times the present rung that a pair shows: no such line holds our packets up
NARROW_FACTOR = 1.0  # pairs were below this share of the highest rung: the line was narrow then
START_AGAIN = 9  # the rung to stand on in a queue of others: 54.4 kb/s, a 20th of what fills such a queue
FOREIGN_S = 20.0  # s a queue is taken for somebody else's before it is looked at again
STUCK_S = 5.0  # s on the lowest rung with a queue, of which hardly anything gets lost: nothing helps there
FOREIGN_LEAST = 4  # the least rung there: below it there is no room for copies
FOREIGN_LOSS = 0.1  # of the packets lost in such a queue before we give way: our share is smaller
FULL_LEAST_S = 0.3  # s of queue reckoned with where it was full before we came
FULL_S = 0.05  # s of queue that may be all a short one holds
CONGESTED_LOSS = 0.05  # of the packets lost beside a queue that is not deep: it is a short one, and full
LOST_DEEP_S = 0.04  # s of queue beside a lost packet, at least, for congestion to have dropped it
LOST_SHARE = 0.5  # and of the longest queue of late
POLICE_TEST_S = 3.0  # s less is sent to find out
POLICE_S = 30.0  # s its rate is kept to


class Decision(NamedTuple):
    """What is to be sent from now on."""

    rung: int
    probing: bool
    """It is a trial: redundancy instead of quality where there is a choice."""


class CongestionControl:
    """Choose the rung by what became of the packets sent."""

    def __init__(
        self,
        rates: Sequence[float],
        *,
        start: int,
        now: float,
        carries_kbit_s: float | None = None,
        watch: QueueWatch | None = None,
    ) -> None:
        """Begin a call.

        Args:
            rates: kb/s on the wire of each rung, rising.
            start: the rung to begin on.
            now: seconds, monotonic.
            carries_kbit_s: what this line was found to carry in the last call, None when nothing stopped it.
            watch: how to look at the queue; the usual one needs a report on every packet.
        """
        self.highest = len(rates) - 1
        """The highest rung that is wanted; the owner moves it."""
        self.tests_policers = True
        """Whether less is sent for a moment to find out why much is lost."""
        self.report_kbit_s = 0.0
        """What our own reports take on the same line."""
        self.rung = start
        self.probing = False
        self.foreign = False
        """The queue is somebody else's."""
        self._rates = tuple(rates)
        self._watch = watch or QueueWatch()
        self._carries = carries_kbit_s
        self._carries_at = now
        self._pairs = Pairs()
        self._pair_at = -inf
        self._began = now
        self._trouble = carries_kbit_s is not None
        self._was_narrow = carries_kbit_s is not None
        self._growing = 0
        self._hold_until = now
        self._since = now  # on this rung
        self._moved_at = now  # and when it was another
        self._calm_since = now
        self._failures = 0
        self._next_up_at = now
        self._fell_at = -inf
        self._back = start  # where a failed trial returns to
        self._probe_until = 0.0
        self._probe_queue = 0.0
        self._episode: Episode | None = None
        self._foreign_until = 0.0
        self.losses = ChanceLosses()
        self._full = FullQueue()
        self._came: PacketFate | None = None  # the last packet that did
        self._police = PoliceTest()
        self._tested_from: int | None = None
        self._policed_to = -1  # the rung a policer is believed to let through
        self._policed = False  # a policer was found in this call
        self._sighted: int | None = None  # the rung before reports ended

    # What the owner tells and asks

    def wants_pair(self, now: float) -> bool:
        """Say whether a packet may be sent right behind another now; True once for each time it is due."""
        if self.rung >= min(self.highest, len(self._rates) - 2) and not self.probing:
            return False
        interval = FIRST_PAIRS_S if now - self._began < PAIR_S / 2 else PAIR_S
        if self._is_settled(now):
            interval = RAREST_PAIR_S if self.rung < RAREST_BELOW else RARE_PAIR_S
        if now - self._pair_at < interval:
            return False
        self._pair_at = now
        return True

    def _is_settled(self, now: float) -> bool:
        """Say whether another pair would only make the next packet wait: a faster line shows by itself."""
        if self._pairs.agree() is None or now - self._began < SETTLED_S:
            return False
        known = self._known_rung()
        return 0 < known <= self.rung and now - max(self._watch.base_fell_at, self._since) > SETTLED_S

    @property
    def queue_s(self) -> float:
        """How much of the delay is queue, by the last report."""
        return self._watch.queue_s

    @property
    def carries_kbit_s(self) -> float | None:
        """What the line was found to carry; None while nothing stopped us."""
        return self._carries

    def report(self, fates: Sequence[PacketFate], now: float, round_trip_s: float) -> Decision:
        """Take what became of packets since the last report, in the order sent."""
        self._take(fates, now)
        arrived = [fate for fate in fates if fate.arrived_at is not None]
        if arrived:
            self._see_again(1 - len(arrived) / len(fates), now)
            self._decide(now, round_trip_s)
        self._judge_police(now)
        if self.rung > self.highest and not self.probing:
            self._stand(self.highest, now)
        return Decision(self.rung, self.probing)

    def go_blind(self, now: float) -> None:
        """Nothing was reported for long, though the other side is there: send less until something is."""
        if self._sighted is None:
            self._sighted = self._back if self.probing else self.rung
        self._stand(self._highest_within(self._rates[self.rung] * BLIND_KEEP), now)

    def _see_again(self, lost: float, now: float) -> None:
        """Go back to where we stood when reports ended, unless a full queue is what ended them."""
        sighted = self._sighted
        if sighted is None:
            return
        if self.queue_s > EMPTY_S or now - self._since > BLIND_S:
            self._sighted = None
        elif lost <= BLIND_LOST and now - self._watch.base_fell_at >= SETTLE_S and not self._full.is_likely():
            self._sighted = None
            self._stand(sighted, now)

    # Looking

    def _take(self, fates: Sequence[PacketFate], now: float) -> None:
        # A packet's own time on the narrowest link is no queue.
        per_octet = 0.008 / self._carries if self._carries is not None else 0.0
        watch = self._watch
        watch.begin(fates, per_octet, now)
        lost: list[PacketFate] = []
        former: PacketFate | None = None
        came = self._came
        for fate in fates:
            if fate.arrived_at is None:
                lost.append(fate)
                former = fate
                continue
            if came is not None and came.sent_at >= self._since:
                self._full.add(came, lost, fate)
            came = fate
            watch.add(fate, per_octet)
            if fate.pair and not fate.behind and former is not None and former.arrived_at is not None:
                gap = fate.arrived_at - former.arrived_at
                self._pairs.add(fate.octets, gap)
            self._count(lost, now)
            lost.clear()
            self.losses.add(False)
            self._police.add(False, self._leaving(fate))
            former = fate
        self._count(lost, now)
        self._came = came
        watch.end(now)

    def _leaving(self, fate: PacketFate) -> float:
        """Return when a packet left; where clocks differ, as if it were after every change of rate."""
        return fate.sent_at if self.tests_policers else inf

    def _count(self, lost: Sequence[PacketFate], now: float) -> None:
        """Sort losses by the queue beside them."""
        if not lost:
            return
        watch = self._watch
        deep = max(watch.queue_s, watch.beside())
        queued = deep >= max(LOST_DEEP_S, LOST_SHARE * watch.longest(now)) or self._full_speed() is not None
        # In a queue of others nothing changes by what we send: to us it is chance, and copies help.
        congested = queued and not self.foreign
        # One that was full before we came has no depth until it drains, and after a fall that takes a second.
        drains = now - watch.base_fell_at < SETTLE_S or self._drains(now)
        for fate in lost:
            after_fall = self._leaving(fate) < self._fell_at + DRAIN_S
            doubtful = not (queued or self.foreign) and (drains or after_fall)
            self.losses.add(True, chance=not (congested or doubtful), doubtful=doubtful)
            self._police.add(not congested, self._leaving(fate))

    # Deciding

    def _decide(self, now: float, round_trip_s: float) -> None:
        slow, steep = self._watch.growth(slow=True), self._watch.growth(slow=False)
        queue = self.queue_s
        if queue > EMPTY_S and self._watch.least_s > EMPTY_S:
            self._calm_since = now
        if self.foreign:
            self._among_others(now, round_trip_s)
            return
        threshold = QUEUE_S + (self._probe_queue if self.probing else 0.0)
        self._growing = self._growing + 1 if queue > threshold and slow > GROWING else 0
        congested = (
            (queue > threshold and steep > STEEP)
            or self._growing >= 2
            or (queue > DEEP_S and steep > -GROWING)
            or self._full_speed() is not None
            or (queue > FULL_S and self.losses.congested() > CONGESTED_LOSS)
            or (now - self._began < PAIR_S and queue > EMPTY_S and steep > 0 and self._is_slow())
        )
        episode = self._episode
        if episode is not None and now >= self._hold_until and episode.drains_from is None:
            self._look_back(episode, now)
        elif episode is not None:
            episode.look(now, self._rates[self.rung] + self.report_kbit_s, queue)
        if self._is_stuck(now):
            self._give_up_on_queue(now)
        elif congested and now >= self._hold_until and not self._is_fast(now):
            if episode is not None and episode.is_foreign(now, queue):
                self._give_up_on_queue(now)
            else:
                self._fall(now, round_trip_s)
        elif episode is not None and not congested:
            if now < episode.shows_at:
                return
            if self._drains(now):
                self._drain_hidden(episode, now)
                return
            if now - self._watch.base_fell_at < SETTLE_S:
                return  # what was taken for the line's own delay is draining
            if queue <= EMPTY_S or (queue < QUEUE_S and now - self._since > UP_S):
                self._episode = None
                self._settle(episode.rung, now)
        elif not congested and queue <= EMPTY_S:
            if self.probing:
                self._conclude_probe(now)
            elif (fits := self._lower_by_pairs()) is not None:
                self._stand(fits, now)
            elif self._carries is not None and self._drains(now):  # so slowly that the fall was over before
                base = self._watch.base_s + self._watch.base_fell(now, SETTLE_S)
                self._episode = Episode(self.rung, now, self._carries, base, now)
                self._drain_hidden(self._episode, now)
            elif (
                self._tested_from is None
                and not self._full.is_likely()
                and (
                    (self.rung >= START_AGAIN and self._police.share < POLICED_HARD)
                    or not self._police.unexplained(now)
                )
            ):
                self._maybe_rise(now)
        elif self.probing:
            self._conclude_probe(now)

    def _is_slow(self) -> bool:
        """Say whether the first pairs show that less gets through than is sent."""
        return len(self._pairs) == PAIRS and self._pairs.fastest() < self._rates[self.rung]

    def _is_fast(self, now: float) -> bool:
        """Say whether one of the first pairs got through so fast that what grows is jitter."""
        return now - self._began < PAIR_S and self._pairs.fastest() > FAST * self._rates[self.rung]

    def _full_speed(self) -> float | None:
        """Return kb/s of a line whose queue was full before we came, if we can do anything about it."""
        # One that was seen to grow is no secret, and beside it chance takes packets of a busy line, too.
        return self._full.speed() if self.rung and self.queue_s <= FULL_S else None

    def _highest_within(self, kbit_s: float) -> int:
        fits = [rung for rung, rate in enumerate(self._rates) if rate + self.report_kbit_s <= kbit_s]
        return fits[-1] if fits else 0

    def _stand(self, rung: int, now: float) -> None:
        if rung != self.rung:
            self._police.rate_changes(self._rates[self.rung], self._rates[rung], now)
            self._full.forget()
            self._moved_at = now
        self.rung = rung
        self.probing = False
        self._since = now

    def _fall(self, now: float, round_trip_s: float) -> None:
        """Step down so far that what stands in the queue is gone in a second."""
        self._trouble = True
        self._sighted = None  # where we stood when reports ended was too high
        sent = self._rates[self.rung]
        carried = self._carried(sent) + self.report_kbit_s
        full = self._full_speed()
        if full is not None:
            carried = min(carried, full)
        if self.probing or now - self._since < FAILED_S:
            self._failures += 1
        self._next_up_at = now + min(UP_S * 2.0**self._failures, MAX_WAIT_S)
        self._was_narrow = True
        self._policed_to = -1
        self._carries, self._carries_at = carried, now
        if self._episode is None:
            before = self._back if self.probing else self.rung
            shows_at = now + round_trip_s + SETTLE_S
            self._episode = Episode(before, now, carried, self._watch.base_s, shows_at)
        queue = max(self.queue_s, FULL_LEAST_S if full is not None else 0.0)
        room = carried * min(KEEP, max(1.0 - queue / DRAIN_S, 0.3))
        below = self._back if self.probing else self.rung - 1
        self._stand(max(0, min(self._highest_within(room), below)), now)
        self._hold_until = now + round_trip_s + SETTLE_S
        self._growing = 0
        self._fell_at = now
        self.losses.forgive(mistaken=full is not None or now - self._began < BEGUN_S)

    def _carried(self, sent: float) -> float:
        """Return kb/s of voice that the line lets through, by what is known now."""
        known = [rate for rate in (self._watch.arriving(), self._pairs.middle()) if rate is not None]
        return min(sent, *known) if known else sent * 0.85

    def _look_back(self, episode: Episode, now: float) -> None:
        """All that was sent before the fall has come out: now it is known what got through."""
        arriving = self._watch.arriving(episode.began)
        if arriving is not None:
            carried = min(arriving + self.report_kbit_s, episode.carried)
            episode.carried = self._carries = carried
            self._carries_at = now
        episode.drains_from = now, self.queue_s

    def _drains(self, now: float) -> bool:
        """Say whether what was taken for the line's own delay is a queue, and is draining."""
        return self._watch.base_fell(now, SETTLE_S) > DRAINING_S

    def _drain_hidden(self, episode: Episode, now: float) -> None:
        """A queue that was there before us is longer than it looked: send less until it is gone."""
        if episode.base - self._watch.base_s > HIDDEN_S:
            rung = self._highest_within(episode.carried * HIDDEN_KEEP)
            if rung < self.rung:
                self._stand(rung, now)

    def _settle(self, before: int, now: float) -> None:
        """The queue is gone: stand where the line was found to carry us."""
        if self._carries is not None:
            alike = self._pairs.agree(2)
            if alike is not None:
                self._carries = max(self._carries, alike)  # measured without a queue
            rung = min(self._highest_within(self._carries * KEEP), before)
            if rung > self.rung:
                self._stand(rung, now)
        self._calm_since = now

    def _conclude_probe(self, now: float) -> None:
        if self.rung < len(self._rates) - 1 and self._police.worse(suspected=self._policed):
            passes = self._police.verdict(late=True)
            self._failures += 1
            self._next_up_at = now + min(UP_S * 2.0**self._failures, MAX_WAIT_S)
            self._stand(self._back, now)
            if passes:
                self._keep_to_police(passes, now)
            return
        if now < self._probe_until:
            return
        if self._watch.least_s > self._probe_queue + PROBE_QUEUE_S:
            self._failures += 1
            self._next_up_at = now + min(UP_S * 2.0**self._failures, MAX_WAIT_S)
            self._stand(self._back, now)
            return
        self.probing = False
        self._since = self._calm_since = now
        if self._carries is not None and self._carries < self._rates[self.rung] + self.report_kbit_s:
            self._carries, self._carries_at = self._rates[self.rung] + self.report_kbit_s, now

    def _maybe_rise(self, now: float) -> None:
        if now - self._carries_at > FORGET_S:
            self._carries = None
        if self.rung >= self.highest:
            if now - self._since > MAX_WAIT_S / 2:
                self._failures = 0
            return
        target = self._opened(now)
        if target is None and now >= self._next_up_at:
            calm_s = UP_S if self._trouble else FIRST_UP_S
            if self.rung == len(self._rates) - 2:
                calm_s = 0.0  # redundancy is wanted now
            if now - max(self._calm_since, self._since) >= calm_s and self._may(self.rung + 1):
                target = self.rung + 1
        known = self._known_rung()
        if known > max(self.rung, target or 0) and self._may_return(now):
            target = known
        if target is None:
            return
        self._back, self._probe_queue = self.rung, self._watch.least_s
        self._probe_until = now + PROBE_S
        self._stand(target, now)
        self.probing = True

    def _known_rung(self) -> int:
        """Return the rung that pairs which agree say the line carries; the lowest when they do not."""
        alike = self._pairs.agree()
        wide = OPEN_FACTOR * self._rates[-2]  # pairs pass through a policer as if there were none
        if alike is None or self._pairs.fastest() > wide or self._policed_to >= 0:
            return 0
        return min(self._highest_within(alike * PAIR_SHARE), self.highest, len(self._rates) - 2)

    def _lower_by_pairs(self) -> int | None:
        """Return where to stand instead when pairs that agree say that it is too high; None: it is not."""
        speed = self._pairs.middle() if self._pairs.agree() is not None else None
        if speed is None or self._carries is None or self._policed_to >= 0:
            return None
        if self._rates[self.rung] + self.report_kbit_s <= speed * PAIR_MOST:
            return None
        fits = max(self._highest_within(speed * PAIR_SHARE), 1)
        return fits if fits < self.rung else None

    def _may_return(self, now: float) -> bool:
        """Say whether the fall is long enough ago to go where the line is known to carry us."""
        wait_s = UP_S / 2 * min(2.0**self._failures, RETURN_FACTOR)
        return now - max(self._calm_since, self._since) >= FIRST_UP_S and now - self._fell_at >= wait_s

    def _may(self, rung: int) -> bool:
        wanted = self._rates[rung] + self.report_kbit_s
        speed = self._pairs.middle()
        if speed is not None and speed * PAIR_SHARE < wanted:
            return False
        return self._carries is None or wanted <= self._carries or speed is not None

    def _opened(self, now: float) -> int | None:
        """Say where to go at once when pairs show that the line became, or is, far wider than all we want."""
        wanted = self._rates[min(self.highest, len(self._rates) - 2)]
        speed = self._pairs.middle()
        if speed is None or not self._police.ready:
            return None
        if speed < NARROW_FACTOR * wanted:
            self._was_narrow = True
        enough = all(pair > OPEN_FACTOR * wanted for pair in self._pairs.last(2))
        if not enough or (self._trouble and not self._was_narrow):
            return None
        if self.rung >= min(self.highest, len(self._rates) - 2):
            return None
        self._was_narrow = False
        self._trouble = True
        self._failures = 0
        self._carries = None
        return min(self.highest, len(self._rates) - 2)

    # Queues of others

    def _is_stuck(self, now: float) -> bool:
        """Say whether the least that can be sent drains no queue, while the line lets it through."""
        stands = self._episode is not None and not self.rung and now - self._moved_at > STUCK_S
        return stands and self._watch.least_s > QUEUE_S and self.losses.share() <= FOREIGN_LOSS

    def _give_up_on_queue(self, now: float) -> None:
        """Sending less does not help: send as before, or nearly."""
        assert self._episode is not None
        self.foreign = True
        self._foreign_until = now + FOREIGN_S
        self._stand(min(max(self._episode.rung, FOREIGN_LEAST), START_AGAIN), now)
        self._carries = self._episode = None

    def _among_others(self, now: float, round_trip_s: float) -> None:
        """In a queue that we cannot shorten: give way only when our own share gets lost."""
        lost = self.losses.share() > FOREIGN_LOSS
        if lost and now >= self._hold_until and self.rung > FOREIGN_LEAST:
            self._stand(self.rung - 1, now)
            self._hold_until = now + round_trip_s + SETTLE_S
            self._next_up_at = now + UP_S
        if now >= self._foreign_until or self.queue_s < QUEUE_S:
            self.foreign = False
            self._carries = None
            self._calm_since = now

    # Policers

    def _judge_police(self, now: float) -> None:
        if self.rung <= self._policed_to and self._police.still():
            if self._police.helped() and self.rung:
                self._policed_to = self.rung - 1  # it lets a little less through
                self._stand(self.rung - 1, now)
                return
            # It is lost below that rate too: it was no policer.
            self._policed_to = -1
            self._policed = False
            self._tested_from = None
            self._police.is_chance(now)
            self._carries = None
            self._next_up_at = now
            self._stand(min(self.highest, len(self._rates) - 2), now)
            return
        if self._police.explained(now):
            self._tested_from = None
            return
        late = self._tested_from is not None and now - self._since > POLICE_TEST_S
        verdict = self._police.verdict(late)
        if verdict is None:
            self._suspect_police(now)
            return
        tested_from, self._tested_from = self._tested_from, None
        if verdict <= 0.0:
            self._police.is_chance(now)
            if tested_from is not None and self._carries is None:
                self._stand(min(tested_from, self.highest), now)
            return
        self._failures += 1
        self._keep_to_police(verdict, now)

    def _keep_to_police(self, passes: float, now: float) -> None:
        """Send no more than a policer was found to let through, for half a minute and longer each time."""
        self._carries, self._carries_at = passes + self.report_kbit_s, now - FORGET_S + POLICE_S
        self._trouble = self._policed = True
        self._next_up_at = now + POLICE_S * min(2.0**self._failures, 4.0) / 2
        self._stand(min(self._highest_within(self._carries * KEEP), self.rung), now)
        self._policed_to = self.rung
        self.losses.forgive()

    def _suspect_police(self, now: float) -> None:
        """Send less for a moment where much is lost without a reason, to see whether that helps.

        Chance is far more frequent than a policer, and long packets keep the delay up. So where packets
        are short they stay so, and from there the way to find out is up: what is lost by chance stays alike.
        """
        if not self.tests_policers or not self.rung or now - self._since < PAIR_S:
            return
        if not self._police.suspicious(now):
            return
        share = self._police.share
        if share < POLICED_HARD and now - self._since < 2 * PAIR_S:
            return
        tried = self.rung == START_AGAIN and self._failures and share >= POLICED_MORE
        least = START_AGAIN if self.rung >= START_AGAIN and share < POLICED_HALF and not tried else 0
        passes = self._rates[self.rung] * (1 - share) * KEEP
        target = max(0, least, min(self._highest_within(passes), self.rung - 1))
        if target < self.rung:
            self._tested_from = self.rung
            self._stand(target, now)
