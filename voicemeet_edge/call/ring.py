"""Which of several desks gets the call, and what a visitor is told while nobody has it yet.

Pure. One rule: the first desk whose `accept` is taken in here has the call, and all others are told so. Each
desk is a *leg*, a conversation of its own; what it tells comes here first, and the call machine hears only
what is true of the call as a whole:

    legs ring ──first accept──► one is chosen, the others are ended ──connected──► the call
      ▲                             └── gone before a word was said: all are rung again ──┐
      └──────────────────────────────────────────────────────────────────────────────────┘

In a closed pool the backend says how many desks are busy or away and which place we have; in an open one a
caller that rings waits as any other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import field

from voicemeet_edge.backend.verbs import MAX_LEGS, Desks, MatchedReply, RingingReply
from voicemeet_edge.call.commands import Tell
from voicemeet_edge.call.machine import Event
from voicemeet_edge.reasons import EndReason, ReasonKind
from voicemeet_edge.records import dataclass

AWAY_S = 5.0  # s that all desks must be away until that is said: one may be changing its mind just now
QUEUED_AFTER_S = 2.0  # s in line before the visitor is told: most desks that are busy ring a moment later
MAX_ROUNDS = 5  # how often all are rung anew because who answered was gone

# Ends of a leg after which the desk may ring again in this round: it only talked to somebody else.
_AGAIN = frozenset({EndReason.BUSY})
# Faults on our side of the line, which any other desk would meet as well: to ring on would only hide them.
_OURS = frozenset({
    EndReason.NO_NETWORK,
    EndReason.NO_RELAY,
    EndReason.TURN_UNREACHABLE,
    EndReason.TURN_UNAUTHORIZED,
    EndReason.TURN_QUOTA,
    EndReason.TURN_REFUSED,
    EndReason.SOUND_UNUSABLE,
    EndReason.MICROPHONE_LOST,
    EndReason.MICROPHONE_REFUSED,
})  # fmt: skip


@dataclass(frozen=True, slots=True)
class Begin:
    """Start the conversation with this desk; who is not eager gathers when its call is taken."""

    matched: MatchedReply
    is_eager: bool


@dataclass(frozen=True, slots=True)
class End:
    """End the conversation with this desk."""

    call_id: str
    reason: EndReason


@dataclass(frozen=True, slots=True)
class Choose:
    """This desk has the call: stop looking for others."""

    call_id: str


@dataclass(frozen=True, slots=True)
class AskNow:
    """Ask the backend at once how the ringing stands."""


@dataclass(frozen=True, slots=True)
class RingAnew:
    """Begin another search, with a new ticket."""


@dataclass(frozen=True, slots=True)
class Queued:
    """Tell the visitor that all desks are busy, and which place he has."""

    place: int


RingCommand = Begin | End | Choose | AskNow | RingAnew | Queued | Tell


@dataclass(slots=True)
class _Round:
    """What is known of one ticket."""

    began: float
    legs: set[str] = field(default_factory=set)
    seen: set[str] = field(default_factory=set)
    again: set[str] = field(default_factory=set)
    desks: Desks | None = None
    place: int = 0
    rang_at: float | None = None
    away_since: float | None = None
    queued_since: float | None = None
    is_declined: bool = False
    """Every desk so far said no; the next answer of the backend shows whether there is any other."""
    is_judged: bool = False


class GroupRing:
    """One press of the button, from its first desk to the end; see the module's docstring.

    Args:
        nobody_s: seconds until a visitor of a closed pool is told that nobody comes.
        ring_s: seconds a desk of an open pool may ring.
    """

    def __init__(self, nobody_s: float, ring_s: float, now: float) -> None:
        self._nobody_s = nobody_s
        self._ring_s = ring_s
        self._round = _Round(now)
        self._rounds = 1
        self._chosen: str | None = None
        self._is_connected = False
        self._is_over = False
        self._is_ringing = False
        self._last_failure: Tell | None = None
        self._told_place = 0

    @property
    def chosen(self) -> str | None:
        """The desk that has the call."""
        return self._chosen

    @property
    def is_over(self) -> bool:
        """Whether nothing more comes of it."""
        return self._is_over

    @property
    def again(self) -> tuple[str, ...]:
        """Calls whose desks may ring again, for the next question to the backend."""
        return tuple(sorted(self._round.again))

    @property
    def deadline(self) -> float | None:
        """The time (seconds, monotonic) at which `handle_timer` wants to be called."""
        if self._is_over or self._chosen is not None:
            return None
        return min((due for due, _ in self._due()), default=None)

    # -- what happens ------------------------------------------------------------------------

    def found(self, reply: RingingReply, now: float) -> list[RingCommand]:
        """The backend says how the ringing stands."""
        this = self._round
        if self._is_over or self._chosen is not None:
            return []
        this.desks, this.place = reply.desks, reply.place or 0
        commands: list[RingCommand] = []
        for matched in reply.calls:
            # No honest backend names more, and each costs a channel and a certificate.
            if matched.call_id not in this.seen and len(this.legs) < MAX_LEGS:
                this.seen.add(matched.call_id)
                this.legs.add(matched.call_id)
                this.is_declined = False
                # One prepared path serves the usual house with one desk; more would cost a relay each.
                commands.append(Begin(matched, is_eager=len(this.seen) == 1))
        this.again &= {matched.call_id for matched in reply.calls}  # what is not told any more needs no word
        if this.legs:
            this.rang_at = now if this.rang_at is None else this.rang_at
            this.away_since = this.queued_since = None
            return commands
        busy, away = (this.desks.busy, this.desks.away) if this.desks is not None else (0, 0)
        if this.is_declined and this.is_judged and not busy:
            return self._give_up(EndReason.DECLINED)
        if this.is_declined and not this.is_judged:
            this.is_judged = True  # by the next answer: this one may be to a question of before
            commands.append(AskNow())
        this.away_since = (this.away_since or now) if away and not busy else None
        this.queued_since = (this.queued_since or now) if busy else None
        return commands + self._tell_place(now)

    def told(self, call_id: str, tell: Tell, now: float) -> list[RingCommand]:
        """The conversation with this desk has news for the machine."""
        if self._is_over:
            return []
        if self._chosen is not None:
            return self._chosen_told(tell, now) if call_id == self._chosen else []
        if call_id not in self._round.legs:
            return []
        match tell.event:
            case Event.PEER_RINGS:
                if self._is_ringing:
                    return []
                self._is_ringing = True
                return [tell]
            case Event.PEER_ACCEPTED:
                return self._choose(call_id, tell)
            case Event.PEER_BYE | Event.FAILED:
                return [End(call_id, tell.reason), *self._lose(call_id, tell, now)]
            case _:
                return []  # MATCHED_CALLING is of one desk; the machine seeks until one answers

    def over(self, call_id: str, reason: EndReason, now: float) -> list[RingCommand]:
        """The conversation with this desk ended without a word to the machine."""
        if self._is_over or self._chosen is not None or call_id not in self._round.legs:
            return []
        return self._lose(call_id, Tell(Event.FAILED, reason), now)

    def handle_timer(self, now: float) -> list[RingCommand]:
        """Do what is due at `now`; harmless when nothing is."""
        if self._is_over or self._chosen is not None:
            return []
        for due, reason in self._due():
            if due > now:
                continue
            return self._give_up(reason) if reason is not None else self._tell_place(now)
        return []

    def end(self, reason: EndReason) -> list[RingCommand]:
        """The person, or the device, wants no more of it."""
        self._is_over = True
        legs = [self._chosen] if self._chosen is not None else sorted(self._round.legs)
        return [End(call_id, reason) for call_id in legs]

    # -- what follows ------------------------------------------------------------------------

    def _due(self) -> list[tuple[float, EndReason | None]]:
        """What falls due when: an end, or (None) a word on the line."""
        this = self._round
        if this.legs:
            began = this.rang_at if this.rang_at is not None else this.began
            if this.desks is None:
                return [(began + self._ring_s, EndReason.NO_ANSWER)]
            # Somebody who is busy now may come; the machine's own limit of a search ends that.
            return [] if this.desks.busy else [(began + self._nobody_s, EndReason.NO_ANSWER)]
        if this.desks is None:
            return []
        if this.queued_since is not None:
            told = self._told_place == this.place
            return [] if told else [(this.queued_since + QUEUED_AFTER_S, None)]
        nobody = EndReason.NO_ANSWER if this.rang_at is not None else EndReason.NOBODY
        due: list[tuple[float, EndReason | None]] = [(this.began + self._nobody_s, nobody)]
        if this.away_since is not None:
            due.insert(0, (this.away_since + AWAY_S, EndReason.AWAY))
        return due

    def _tell_place(self, now: float) -> list[RingCommand]:
        this = self._round
        if this.queued_since is None or now < this.queued_since + QUEUED_AFTER_S or not this.place:
            return []
        if self._told_place == this.place:
            return []
        self._told_place = this.place
        return [Queued(this.place)]

    def _choose(self, call_id: str, tell: Tell) -> list[RingCommand]:
        self._chosen = call_id
        others = sorted(self._round.legs - {call_id})
        ends: Sequence[RingCommand] = [End(other, EndReason.ANSWERED_ELSEWHERE) for other in others]
        return [Choose(call_id), *ends, tell]

    def _lose(self, call_id: str, tell: Tell, now: float) -> list[RingCommand]:
        this = self._round
        this.legs.discard(call_id)
        self._last_failure = tell
        if tell.reason in _AGAIN:
            this.again.add(call_id)
        this.is_declined = tell.reason is EndReason.DECLINED and not this.legs
        this.is_judged = False
        if this.legs:
            return []
        was_ringing, self._is_ringing = self._is_ringing, False
        is_ours = tell.event is Event.FAILED and tell.reason in _OURS
        if is_ours or tell.reason.kind is ReasonKind.DISTRUST:
            # The last one there was. If somebody may sit between, the person must see that.
            self._is_over = True
            return [tell]
        if this.desks is None and this.is_declined:
            return self._give_up(EndReason.DECLINED)
        this.rang_at = this.rang_at if this.rang_at is not None else now
        return [AskNow(), Tell(Event.PEER_LOST)] if was_ringing else [AskNow()]

    def _chosen_told(self, tell: Tell, now: float) -> list[RingCommand]:
        """Everything of the chosen one is the machine's, but that it died before a word was said."""
        if tell.event is Event.CONNECTED:
            self._is_connected = True
        is_end = tell.event in (Event.FAILED, Event.PEER_BYE)
        is_lost = is_end and not self._is_connected and tell.reason.kind is ReasonKind.FAILED
        if not is_lost or self._rounds >= MAX_ROUNDS:
            self._is_over = self._is_over or is_end
            return [tell]
        lost, self._chosen = self._chosen, None
        assert lost is not None
        self._rounds += 1
        self._round = _Round(now)
        self._is_ringing = False
        return [End(lost, tell.reason), RingAnew(), Tell(Event.PEER_LOST)]

    def _give_up(self, reason: EndReason) -> list[RingCommand]:
        self._is_over = True
        ends = [End(call_id, EndReason.NO_ANSWER) for call_id in sorted(self._round.legs)]
        return [*ends, Tell(Event.FAILED, reason)]
