"""One matched call from its first hello to its goodbye: what is said, what is believed, and when it is over.

One rule: what the peer or the server sends can end this call or be dropped, never more. Pure: messages, news
of the connections and the time (seconds, monotonic) go in, commands come out, and one `deadline` says when
to look again. Whoever carries the commands out (call/session.py) decides nothing.

Smaller cores are inside: the envelope and the filter say what is a message of the peer at all,
`Negotiation` who says what when, `WordsExchange` whether somebody sits between, `Liveness` whether the path
lives, `Renewal` when the token is old. Only this file ends a call, and only once:

    open ──end──► leaving ──somebody is there, or 1.5 s──► over
      └──abandon, the peer's bye, nobody came────────────►
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from enum import Enum

from voicemeet_edge.backend.verbs import MatchedReply, RenewReply
from voicemeet_edge.call.commands import (
    CheckNetwork,
    Command,
    Leave,
    MakeAnswer,
    MakeOffer,
    Publish,
    TakeAnswer,
    Tell,
    UseConnection,
    WordsKnown,
    WordsMissing,
)
from voicemeet_edge.call.door_lock import DoorAnswer, DoorLock, Unlock
from voicemeet_edge.call.liveness import Liveness, LivenessCommand, RestartPath
from voicemeet_edge.call.machine import Event
from voicemeet_edge.call.negotiation import Kind, Negotiation, NegotiationCommand, Send
from voicemeet_edge.call.renewal import Renewal
from voicemeet_edge.call.words import WordsExchange
from voicemeet_edge.errors import MessageError, SealError
from voicemeet_edge.reasons import EndReason
from voicemeet_edge.records import dataclass
from voicemeet_edge.secret import Secret
from voicemeet_edge.signaling.channel import ChannelState
from voicemeet_edge.signaling.messages import (
    Bye,
    DoorState,
    Hello,
    Message,
    MessageFilter,
    Open,
    Reveal,
    parse,
    serialize,
)
from voicemeet_edge.signaling.sealed import Envelope, Refusal
from voicemeet_edge.webrtc.options import Fingerprints

ADVISE_EVERY_S = 1.0  # s between two words on the line; rungs follow each other faster than messages
DEFAULT_ADVICE = (32_000, 20)  # bit/s, ms; what every browser sends by itself
JOIN_TIMEOUT_S = 10.0  # s for us to get into the channel
HELLO_TIMEOUT_S = 10.0  # s from then on for the matched party to appear in it
# The same for a caller, who is not worth more: others may be waiting. It has its socket open and asks every
# 3.6 s at most (or is pushed), so this is the longest it takes when the push was lost.
CALLER_TIMEOUT_S = 4.0
WORDS_TIMEOUT_S = 3.0  # s of talk after which missing check words are said; they take a round trip
ANSWER_TIMEOUT_S = 6.0  # s for who took the call to answer our offer; a page does it in a fraction
ARRIVE_TIMEOUT_S = 1.5  # s a bye waits for somebody to hear it; a matched party joins in a fraction

# A hello that does not open for one of these reasons is the peer's own: one side has a key, the other
# has none or another one.
_KEY_TROUBLE = frozenset({Refusal.PEER_NOT_SEALED, Refusal.PEER_SEALED, Refusal.WRONG_KEY})

_MATCHED = {Kind.MEET: Event.MATCHED_TALK, Kind.CALLING: Event.MATCHED_CALLING}


class _Phase(Enum):
    OPEN = "open"
    LEAVING = "leaving"  # over for us; a goodbye waits for somebody who hears it
    OVER = "over"


class _Timer(Enum):
    HELLO = "hello"  # we must be in the channel, and then the other side must have shown itself
    WORDS = "words"  # the check words must be there
    ANSWER = "answer"  # who took the call must answer the offer
    ARRIVE = "arrive"  # a goodbye waits no longer


@dataclass
class ConversationCounters:
    """What was received and refused here; the filter, the envelope and the negotiation have their own."""

    malformed: int = 0
    unsealed: int = 0


@dataclass(frozen=True, slots=True)
class Manner:
    """How this end behaves in a call."""

    name: str = ""
    """What it calls itself; said only where `hello` may say it."""
    open_s: float = 0.0
    """For how long a desk may open the door here, seconds; 0: not at all."""
    is_eager: bool = True
    """Gather for the offer while it rings, not only when somebody took the call."""


DEFAULT_MANNER = Manner()


class Conversation:
    """One end of one call; see the module's docstring.

    Args:
        matched: what the backend gave us of this call.
        kind: how it came about.
        envelope: seals and opens; of this call and slot.
        fingerprint: SHA-256 of the certificate that all our connections of this call use.
        manner: how this end behaves.
    """

    def __init__(
        self,
        matched: MatchedReply,
        kind: Kind,
        envelope: Envelope,
        fingerprint: str,
        manner: Manner = DEFAULT_MANNER,
    ) -> None:
        self.words: tuple[str, ...] | None = None
        self._slot = matched.slot
        self._kind = kind
        self._envelope = envelope
        self._filter = MessageFilter(matched.slot)
        self._exchange = WordsExchange(matched.slot, matched.call_id, fingerprint)
        is_offerer = matched.offerer == matched.slot
        self._negotiation = Negotiation(
            matched.slot,
            kind,
            offerer=is_offerer,
            words=self._exchange,
            name=manner.name,
            is_eager=manner.is_eager,
        )
        # Without a seal nobody can be told from the backend: then there is no lock at all.
        self._lock = DoorLock(manner.open_s if envelope.sealed else 0.0)
        self._liveness = Liveness()
        self._renewal = Renewal(matched.token, matched.token_ttl_s)
        self._counters = ConversationCounters()
        self._advised = DEFAULT_ADVICE
        self._advised_at = 0.0
        self._phase = _Phase.OPEN
        self._timers: dict[_Timer, float] = {}
        self._is_joined = False
        self._was_joined = False
        self._is_heard = False  # somebody is in the channel, friend or foe
        self._is_shown = False  # the machine knows that this call exists
        self._peer_left = False
        self._is_failed = False
        self._reason = EndReason.SHUTDOWN  # until somebody says another
        self._talk_began: float | None = None
        self._prints: Fingerprints | None = None

    # -- what is asked -----------------------------------------------------------------------

    @property
    def deadline(self) -> float | None:
        """The time at which `handle_timer` wants to be called; None when the call is over."""
        if self._phase is _Phase.OVER:
            return None
        times: list[float | None] = [*self._timers.values()]
        if self._phase is _Phase.OPEN:
            times += [self._liveness.deadline, self._renewal.deadline, self._lock.deadline]
        return min((time for time in times if time is not None), default=None)

    @property
    def token(self) -> Secret:
        """The newest call token; a report needs it after the call too."""
        return self._renewal.token

    @property
    def is_lost(self) -> bool:
        """Whether a packet that comes must be told at once; may be asked in any thread."""
        return self._liveness.is_lost

    def refused(self) -> dict[str, int]:
        """What was received and not obeyed, by reason; only what happened at all."""
        counts = Counter({why.value: count for why, count in self._envelope.counters.refused.items()})
        for counters in (self._counters, self._negotiation.dropped, self._filter.counters):
            counts.update(asdict(counters))
        del counts["accepted"]
        return dict(+counts)  # only what is above zero

    # -- what we do --------------------------------------------------------------------------

    def start(self, now: float) -> list[Command]:
        """Begin; the channel is being joined."""
        if self._phase is not _Phase.OPEN:
            return []  # it was over before it began
        self._timers = {_Timer.HELLO: now + JOIN_TIMEOUT_S}
        self._renewal.start(now)
        # A desk rings when its caller is there, not before: a match alone may be somebody who just left.
        self._is_shown = self._kind is not Kind.CALLED
        shown: list[Command] = [Tell(_MATCHED[self._kind])] if self._is_shown else []
        return shown + self._carry_out(self._negotiation.start(), now)

    def accept(self, now: float) -> list[Command]:
        """The person here took the call."""
        return self._carry_out(self._negotiation.accept(), now) if self._phase is _Phase.OPEN else []

    def end(self, reason: EndReason, now: float) -> list[Command]:
        """End the call for this reason; once somebody is there to hear it, or soon. Idempotent."""
        if self._phase is not _Phase.OPEN:
            return []
        self._phase = _Phase.LEAVING
        self._reason = reason
        if self._is_heard or self._peer_left or reason is EndReason.PEER_ABSENT:
            return self._leave(now)
        # A call can fail before the other side has joined, and would leave it waiting.
        self._timers = {_Timer.ARRIVE: now + ARRIVE_TIMEOUT_S}
        return []

    def abandon(self, now: float) -> list[Command]:
        """End the call without waiting for anybody: the device stops. Idempotent."""
        return [] if self._phase is _Phase.OVER else self._leave(now)

    def handle_timer(self, now: float) -> list[Command]:
        """Do what is due at `now`; harmless when nothing is."""
        commands: list[Command] = []
        for timer in [timer for timer, due in self._timers.items() if due <= now]:
            if self._timers.pop(timer, None) is None:
                continue  # what came before it ended the call
            match timer:
                case _Timer.HELLO:
                    if not self._negotiation.peer_present:
                        commands += self._fail(EndReason.PEER_ABSENT, now)
                case _Timer.ANSWER:
                    commands += self._fail(EndReason.PEER_ABSENT, now)
                case _Timer.WORDS:
                    commands += self._miss_words(now)
                case _Timer.ARRIVE:
                    commands += self._leave(now)
        if self._phase is _Phase.OPEN:
            commands += self._follow(self._liveness.handle_timer(now), now)
            commands += self._renewal.handle_timer(now)
            for answer in self._lock.handle_timer(now):
                commands += self._say_door(answer, now)
        return commands

    # -- the channel -------------------------------------------------------------------------

    def channel_changed(self, state: ChannelState, now: float) -> list[Command]:
        """The channel was joined (again), lost, closed or refused."""
        self._is_joined = state is ChannelState.JOINED
        if (
            self._phase is _Phase.LEAVING
            and self._is_joined
            and self._kind is Kind.CALLED
            and not self._is_heard
        ):
            # Whoever calls may have said hello before we were here, and takes no bye from an end it does not
            # know. A caller that gave up says no hello: it would ring.
            return [self._sealed(one.message) for one in self._negotiation.joined() if isinstance(one, Send)]
        if self._phase is not _Phase.OPEN:
            return []
        if state is ChannelState.JOINED:
            if not self._was_joined:  # a rejoin gives nobody more time
                self._was_joined = True
                is_called = self._kind is Kind.CALLED
                self._timers[_Timer.HELLO] = now + (CALLER_TIMEOUT_S if is_called else HELLO_TIMEOUT_S)
            return self._carry_out(self._negotiation.joined(), now)
        if state is ChannelState.TOKEN_WANTED:
            self._renewal.hurry(now)
        elif state is ChannelState.REFUSED and self._talk_began is None:
            return self._fail(EndReason.SIGNALING_REFUSED, now)
        return []

    def receive(self, event: str, payload: object, now: float) -> list[Command]:
        """Take a broadcast of the channel: obey it, or drop and count it."""
        if self._phase is _Phase.OVER:
            return []
        self._is_heard = True  # whatever it is: nobody else is in this channel
        message = self._read(event, payload)
        if self._phase is _Phase.LEAVING:
            self._peer_left = isinstance(message, Bye)
            return self._leave(now)
        if isinstance(message, SealError):
            # Once the peer has proved itself it can only be somebody else's noise, and noise must not
            # end a call. Its bye counts too: whoever hears the other first says nothing else.
            is_peers = event in ("hello", "bye") and not self._envelope.verified
            if is_peers and message.code in _KEY_TROUBLE:
                return self._fail(EndReason.of(message.code), now)
            return []
        if message is None:
            return []
        if not self._envelope.verified:
            # It has our key, but may be of an earlier call. Only what answers our own hello is of this one.
            return self._carry_out(self._negotiation.joined(), now) if isinstance(message, Hello) else []
        return self._take(message, now)

    def _read(self, event: str, payload: object) -> Message | SealError | None:
        try:
            message = parse(event, self._envelope.open(event, payload))
        except SealError as error:
            self._counters.unsealed += 1
            return error
        except MessageError:
            self._counters.malformed += 1
            return None
        # What is not of this call for sure must not move the filter's window.
        return message if not self._envelope.verified or self._filter.accept(message) else None

    def _take(self, message: Message, now: float) -> list[Command]:
        self._liveness.spoken_to()
        if isinstance(message, Open):
            return self._take_request(message, now)
        orders = self._negotiation.receive(message)
        commands: list[Command] = []
        if self._negotiation.peer_present and not self._is_shown:
            self._is_shown = True
            is_announced = self._negotiation.announced
            commands.append(Tell(Event.MATCHED_ANNOUNCED if is_announced else Event.MATCHED_CALLED))
        commands += self._carry_out(orders, now)
        if isinstance(message, Hello | Reveal):
            commands += self._check_words(now)
        if isinstance(message, Hello) and self._is_talking:
            commands += self._say_ready(now)
        return commands

    # -- the door ----------------------------------------------------------------------------

    def unlocked(self, request: str, now: float, *, is_open: bool) -> list[Command]:
        """What came of `Unlock`."""
        return self._say_door(self._lock.unlocked(request, now, is_open=is_open), now)

    @property
    def _is_talking(self) -> bool:
        return self._talk_began is not None and not self._liveness.is_lost

    def _take_request(self, message: Open, now: float) -> list[Command]:
        if not self._envelope.sealed:
            self._counters.unsealed += 1
            return []
        is_talking = self._is_talking and not self._negotiation.announced
        decided = self._lock.receive(message, now, is_talking=is_talking)
        if isinstance(decided, Unlock):
            return [decided]
        return [] if decided is None else self._say_door(decided, now)

    def _say_ready(self, now: float) -> list[Command]:
        if not self._lock.open_s or self._negotiation.announced:
            return []
        return self._say_door(DoorAnswer(DoorState.READY, seconds=self._lock.open_s), now)

    def _say_door(self, answer: DoorAnswer, now: float) -> list[Command]:
        return self._carry_out(self._negotiation.say_door(answer), now)

    # -- the connections ---------------------------------------------------------------------

    def described(self, attempt: int, sdp: str, now: float) -> list[Command]:
        """The description that `MakeOffer` or `MakeAnswer` asked for."""
        if self._phase is not _Phase.OPEN:
            return []
        ready = self._negotiation.offer_ready if self._negotiation.offerer else self._negotiation.answer_ready
        return self._carry_out(ready(sdp, attempt), now)

    def refused_description(
        self, attempt: int, reason: EndReason, now: float, *, by_peer: bool
    ) -> list[Command]:
        """A connection could not be made or finished from what there was; `by_peer`: what it sent is no good.

        That ends a call which never was one. Later the path asks for the next attempt by itself.
        """
        if self._phase is not _Phase.OPEN or attempt != self._liveness.pending:
            return []
        if self._talk_began is None:
            return self._fail(reason, now)
        self._counters.malformed += by_peer
        return []

    def connected(self, attempt: int, prints: Fingerprints, now: float) -> list[Command]:
        """The connection of this attempt is up, between these two certificates."""
        commands = self._liveness.connected(attempt, prints.theirs, now)
        if UseConnection(attempt) in commands:
            self._prints = prints
        return self._follow(commands, now)

    def connection_failed(self, attempt: int, reason: EndReason, now: float) -> list[Command]:
        """The connection of this attempt will not (or no longer) work."""
        return self._follow(self._liveness.failed(attempt, reason, now), now)

    def connection_closed(self, attempt: int, now: float) -> list[Command]:
        """The peer closed the connection of this attempt."""
        return self._follow(self._liveness.closed_by_peer(attempt, now), now)

    def traffic(self, heard_at: float, sent_at: float, now: float) -> list[Command]:
        """When the last packet came and the last one went, over the connection in use.

        Told before each `handle_timer`, and at once when a packet comes while `is_lost`.
        """
        self._liveness.sent(sent_at)
        return self._follow(self._liveness.heard(heard_at), now)

    def line_hopeless(self, now: float) -> list[Command]:
        """The line carries not even the thinnest voice any more, and that for long."""
        return self._fail(EndReason.PATH_LOST, now)

    def line_seen(self, bitrate: int, packet_ms: int, now: float) -> list[Command]:
        """The other side's packets say what their line carries: tell it when that is news."""
        if self._phase is not _Phase.OPEN or (bitrate, packet_ms) == self._advised:
            return []
        if now - self._advised_at < ADVISE_EVERY_S:
            return []
        commands = self._carry_out(self._negotiation.advise(bitrate, packet_ms), now)
        if commands:
            self._advised, self._advised_at = (bitrate, packet_ms), now
        return commands

    def _follow(self, orders: Sequence[LivenessCommand], now: float) -> list[Command]:
        """Pass on what the path's core asks for, and do what is ours of it."""
        commands: list[Command] = []
        for order in orders:
            if self._phase is not _Phase.OPEN:
                break  # what came before it ended the call
            match order:
                case RestartPath():
                    # A dead path may be a dead allocation too: fresh credentials, over living signaling.
                    commands.append(CheckNetwork())
                    self._renewal.hurry(now)
                    commands += self._carry_out(self._negotiation.restart(), now)
                case Tell(Event.FAILED):
                    commands += self._fail(order.reason, now)
                case Tell(Event.CONNECTED):
                    if self._talk_began is None:
                        self._talk_began = now
                        self._timers[_Timer.WORDS] = now + WORDS_TIMEOUT_S
                    commands += self._check_words(now)
                    if not self._is_failed:
                        commands.append(order)
                        commands += self._say_ready(now)
                case _:
                    commands.append(order)
        return commands

    def _check_words(self, now: float) -> list[Command]:
        """Compute the words as soon as both certificates and both nonces are known."""
        if self._prints is None or self.words is not None or self._phase is not _Phase.OPEN:
            return []
        ours, theirs = self._prints.ours.hex(), self._prints.theirs.hex()
        a, b = (ours, theirs) if self._slot == "a" else (theirs, ours)
        try:
            self.words = self._exchange.words(a, b)
        except MessageError as error:
            return self._fail(EndReason.of(error.code), now)
        return [WordsKnown(self.words)] if self.words is not None else []

    def _miss_words(self, now: float) -> list[Command]:
        """Between our own ends the words are not optional: who takes them out has something to hide."""
        if self.words is not None:
            return []
        if self._envelope.sealed:
            return self._fail(EndReason.WORDS_MISSING, now)
        return [WordsMissing()]

    # -- tokens ------------------------------------------------------------------------------

    def renewed(self, reply: RenewReply, now: float) -> list[Command]:
        """What `Renew` asked for."""
        grant = self._renewal.renewed(reply, now)
        return [grant] if self._phase is _Phase.OPEN else []

    def renewal_failed(self, now: float, *, is_retryable: bool, asked_s: float | None = None) -> None:
        """The backend did not give it; `asked_s`: how long it wants us to wait."""
        self._renewal.failed(now, is_retryable=is_retryable, asked_s=asked_s)

    # -- what goes out, and the end ----------------------------------------------------------

    def _carry_out(self, orders: Sequence[NegotiationCommand], now: float) -> list[Command]:
        """Pass on what the negotiation asks for, and do what is ours of it."""
        commands: list[Command] = []
        for order in orders:
            if self._phase is not _Phase.OPEN:
                break  # what came before it ended the call
            match order:
                case Send():
                    commands.append(self._sealed(order.message))
                case MakeOffer() | MakeAnswer():
                    commands += self._follow(self._liveness.building(order.attempt, now), now)
                    commands.append(order)
                case Tell(Event.PEER_BYE):
                    self._peer_left = True
                    commands += self._told_end(order, now)
                case Tell(Event.FAILED):
                    commands += self._fail(order.reason, now)
                case Tell(Event.PEER_ACCEPTED) if self._negotiation.offerer:
                    self._timers[_Timer.ANSWER] = now + ANSWER_TIMEOUT_S
                    commands.append(order)
                case TakeAnswer():
                    self._timers.pop(_Timer.ANSWER, None)
                    commands.append(order)
                case _:
                    commands.append(order)
        return commands

    def _sealed(self, message: Message) -> Publish:
        # In order: sequence numbers and nonces only grow.
        event, payload = serialize(message)
        return Publish(event, self._envelope.seal(event, payload))

    def _fail(self, reason: EndReason, now: float) -> list[Command]:
        if self._is_failed or self._phase is not _Phase.OPEN:
            return []
        self._is_failed = True
        return self._told_end(Tell(Event.FAILED, reason), now)

    def _told_end(self, end: Tell, now: float) -> list[Command]:
        """Tell the machine, which ends the call; one that never rang ends here, and nobody has to know."""
        return [end] if self._is_shown else self.end(end.reason, now)

    def _leave(self, now: float) -> list[Command]:
        self._phase = _Phase.OVER
        self._timers.clear()
        bye: Publish | None = None
        if self._is_joined and not self._peer_left:  # to one that is gone ours would reach nobody
            bye = self._sealed(self._negotiation.bye(self._reason.said))
        talked_s = 0 if self._talk_began is None else round(now - self._talk_began)
        return [Leave(bye, talked_s)]
