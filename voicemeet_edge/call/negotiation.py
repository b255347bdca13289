"""Who says what in one call's channel: pure, told what happened, answers with what to do.

One rule: everything is said again after a rejoin and understood once. Realtime delivers at most once,
so `joined()` and a `hello` that asks for a reply make both sides repeat what still counts; duplicates
and stale messages are recognised by `attempt` and content, and dropped.

Flow (wire contract v1, docs/contract.md):

    meet     both pressed call:   hello · hello → offer → answer
    calling  we asked for a desk: hello · hello → (ring) → (accept) → offer → answer
    called   somebody asks us:    hello · hello → ring → accept → (offer) → answer

The server names the offerer, either side in each of the three, so there is no glare: an offer from the
side that was told to answer is dropped and counted.
"""

from __future__ import annotations

from dataclasses import replace
from enum import Enum

from voicemeet_edge.call.commands import MakeAnswer, MakeOffer, Prepare, TakeAnswer, TakeCandidate, Tell
from voicemeet_edge.call.door_lock import DoorAnswer
from voicemeet_edge.call.machine import Event
from voicemeet_edge.call.words import HelloFields, WordsExchange, WordsStep
from voicemeet_edge.errors import MessageError
from voicemeet_edge.reasons import EndReason
from voicemeet_edge.records import dataclass
from voicemeet_edge.signaling.messages import (
    Accept,
    Answer,
    Bye,
    Candidate,
    Door,
    Hello,
    Line,
    Message,
    Offer,
    Open,
    Restart,
    Reveal,
    Ring,
    Slot,
)

MAX_ATTEMPTS = 2_000  # media restarts in one call: an hour of trying every two seconds


class Kind(Enum):
    """How this call came about."""

    MEET = "meet"
    CALLING = "calling"
    CALLED = "called"


@dataclass(frozen=True)
class Send:
    """Say this to the other side."""

    message: Message


NegotiationCommand = Send | Prepare | MakeOffer | MakeAnswer | TakeAnswer | TakeCandidate | Tell


@dataclass
class Dropped:
    """Messages that were understood and not obeyed, by kind."""

    glare: int = 0
    second_offer: int = 0
    stale: int = 0
    unasked: int = 0


class Negotiation:
    """One side of one call; see the module's docstring."""

    def __init__(
        self,
        slot: Slot,
        kind: Kind,
        *,
        offerer: bool,
        words: WordsExchange | None = None,
        name: str = "",
        is_eager: bool = True,
    ) -> None:
        """`name` is said in each hello; who is not eager gathers only when its call is taken."""
        self.slot = slot
        self.announced = False
        """What the peer's first hello said: the microphone here stays closed in this call."""
        self._name = name
        self._is_eager = is_eager
        self.kind = kind
        self.offerer = offerer
        self.dropped = Dropped()
        self.accepted = kind is Kind.MEET
        self.attempt = 0
        self._words = words
        self._seq = 0
        self.peer_present = False
        self._repeat_due = False  # we (re)joined: what we said before may be lost
        self._reveal_due = False
        self._offer: Offer | None = None  # ours, of the current attempt
        self._offer_sent = False
        self._answered = False  # offerer: the current attempt has its answer
        self._remote_offer: Offer | None = None  # theirs, of the current attempt
        self._answering = False
        self._answer: Answer | None = None  # ours, of the current attempt

    # -- what we do --------------------------------------------------------------------------

    def start(self) -> list[NegotiationCommand]:
        """Begin: both gather while the channel is still being joined; who is rung, when the call is taken."""
        if not self.offerer and self.accepted:
            return [Prepare(self.attempt)]
        return [MakeOffer(self.attempt)] if self.offerer and (self._is_eager or self.accepted) else []

    def joined(self) -> list[NegotiationCommand]:
        """The channel is (again) joined: say hello and ask for one."""
        self._repeat_due = True
        return [self._hello(reply=True)]

    def accept(self) -> list[NegotiationCommand]:
        """The person here took the call."""
        if self.kind is not Kind.CALLED or self.accepted:
            return []
        self.accepted = True
        return [self._accept(), *self._late_offer(), *self._describe_if_possible()]

    def offer_ready(self, sdp: str, attempt: int) -> list[NegotiationCommand]:
        """The offer that `MakeOffer` asked for."""
        if attempt != self.attempt or not self.offerer:
            return []
        self._offer = Offer(self.slot, 1, sdp, attempt)
        self._offer_sent = False
        return self._offer_if_possible()

    def answer_ready(self, sdp: str, attempt: int) -> list[NegotiationCommand]:
        """The answer that `MakeAnswer` asked for."""
        if self._remote_offer is None or attempt != self._remote_offer.attempt:
            return []
        self._answer = Answer(self.slot, 1, sdp, attempt)
        return [self._stamped(self._answer)]

    def restart(self) -> list[NegotiationCommand]:
        """The path is gone: the offerer offers again, the other side asks it to."""
        if not self.offerer:
            return [Send(Restart(self.slot, self._next_seq(), self.attempt + 1))]
        if self.attempt >= MAX_ATTEMPTS:
            return []
        self.attempt += 1
        self._offer = None
        self._answered = False
        return [MakeOffer(self.attempt)]

    def bye(self, reason: EndReason) -> Bye:
        """Return our goodbye."""
        return Bye(self.slot, self._next_seq(), reason.value)

    def say_door(self, answer: DoorAnswer) -> list[NegotiationCommand]:
        """Say something of our door."""
        return [
            Send(
                Door(
                    self.slot,
                    self._next_seq(),
                    answer.state,
                    answer.request,
                    answer.challenge,
                    answer.seconds,
                    answer.reason,
                )
            )
        ]

    # -- what the other side does ------------------------------------------------------------

    def advise(self, bitrate: int, packet_ms: int) -> list[NegotiationCommand]:
        """Tell the other side what its line carries, once somebody is there."""
        if not self.peer_present:
            return []
        return [Send(Line(self.slot, self._next_seq(), bitrate, packet_ms))]

    def receive(self, message: Message) -> list[NegotiationCommand]:
        """Take one message that the inbox let through."""
        match message:
            case Hello():
                return self._on_hello(message)
            case Reveal():
                return self._on_reveal(message)
            case Offer():
                return self._on_offer(message)
            case Answer():
                return self._on_answer(message)
            case Candidate():
                if message.attempt != self.attempt:
                    self.dropped.stale += 1
                    return []
                return [TakeCandidate(message.candidate, message.mid, message.attempt)]
            case Ring():
                if self.kind is not Kind.CALLING or self.accepted:
                    return self._unasked()
                return [Tell(Event.PEER_RINGS)]
            case Accept():
                return self._on_accept()
            case Restart():
                return self._on_restart(message)
            case Line():
                return []  # between devices reports of what arrived say it sooner (RFC 8888)
            case Open() | Door():
                return self._unasked()  # the conversation takes what is for a door; a device asks for none
            case Bye():
                return [Tell(Event.PEER_BYE, EndReason.of(message.reason))]

    def _unasked(self) -> list[NegotiationCommand]:
        self.dropped.unasked += 1
        return []

    def _on_hello(self, hello: Hello) -> list[NegotiationCommand]:
        if not self.peer_present and self.kind is Kind.CALLED:
            self.announced = hello.announce
        self.peer_present = True
        step = WordsStep.NOTHING
        if self._words is not None:
            try:
                step = self._words.on_hello(hello.nonce, hello.commitment)
            except MessageError as error:
                return [Tell(Event.FAILED, EndReason.of(error.code))]
        commands: list[NegotiationCommand] = []
        if hello.reply or step is WordsStep.HELLO:
            commands.append(self._hello(reply=False))
        if hello.reply or self._repeat_due:
            self._repeat_due = False
            commands += self._repeat()
        if step is WordsStep.REVEAL:
            self._reveal_due = True
        if self._reveal_due and (step is WordsStep.REVEAL or hello.reply) and self._words is not None:
            commands.append(self._reveal(self._words.reveal_nonce()))
        return commands

    def _repeat(self) -> list[NegotiationCommand]:
        """Say again what still counts; the other side just came (back)."""
        commands: list[NegotiationCommand] = []
        if self.kind is Kind.CALLED:
            commands.append(self._accept() if self.accepted else self._ring())
        if self.offerer:
            self._offer_sent = False
            commands += self._offer_if_possible()
        elif self._answer is not None:
            commands.append(self._stamped(self._answer))
        return commands

    def _on_reveal(self, reveal: Reveal) -> list[NegotiationCommand]:
        if self._words is None:
            return self._unasked()
        try:
            self._words.on_reveal(reveal.nonce)
        except MessageError as error:
            return [Tell(Event.FAILED, EndReason.of(error.code))]
        return []

    def _on_offer(self, offer: Offer) -> list[NegotiationCommand]:
        if self.offerer:
            self.dropped.glare += 1
            return []
        if offer.attempt > MAX_ATTEMPTS:
            return self._unasked()
        known = self._remote_offer
        if known is not None and offer.attempt <= known.attempt:
            if offer.attempt == known.attempt and offer.sdp == known.sdp:
                return [self._stamped(self._answer)] if self._answer is not None else []
            if offer.attempt == known.attempt:
                self.dropped.second_offer += 1
            else:
                self.dropped.stale += 1
            return []
        self._remote_offer = offer
        self.attempt = offer.attempt
        self._answer = None
        self._answering = False
        return self._answer_if_possible()

    def _describe_if_possible(self) -> list[NegotiationCommand]:
        """The call was taken: say what waited for it; the server may name either side the offerer."""
        return [*self._offer_if_possible(), *self._answer_if_possible()]

    def _answer_if_possible(self) -> list[NegotiationCommand]:
        offer = self._remote_offer
        if offer is None or not self.accepted or self._answering:
            return []
        self._answering = True
        return [MakeAnswer(offer.sdp, offer.attempt)]

    def _on_answer(self, answer: Answer) -> list[NegotiationCommand]:
        if not self.offerer or self._offer is None or not self._offer_sent:
            return self._unasked()
        if self._answered or answer.attempt != self.attempt:
            self.dropped.stale += 1
            return []
        self._answered = True
        return [TakeAnswer(answer.sdp, answer.attempt)]

    def _on_accept(self) -> list[NegotiationCommand]:
        if self.kind is not Kind.CALLING:
            return self._unasked()
        if self.accepted:
            return []
        self.accepted = True
        return [Tell(Event.PEER_ACCEPTED), *self._late_offer(), *self._describe_if_possible()]

    def _on_restart(self, restart: Restart) -> list[NegotiationCommand]:
        if not self.offerer or not self._answered or restart.attempt != self.attempt + 1:
            self.dropped.stale += 1
            return []
        return self.restart()

    # -- what goes out -----------------------------------------------------------------------

    def _late_offer(self) -> list[NegotiationCommand]:
        return [MakeOffer(self.attempt)] if self.offerer and not self._is_eager else []

    def _offer_if_possible(self) -> list[NegotiationCommand]:
        ready = self._offer is not None and self.accepted and self.peer_present
        if not ready or self._answered or self._offer_sent or self._offer is None:
            return []
        self._offer_sent = True
        return [self._stamped(self._offer)]

    def _next_seq(self) -> int:
        self._seq += 1
        return self._seq

    def _hello(self, *, reply: bool) -> Send:
        fields = self._words.hello_fields() if self._words is not None else HelloFields()
        return Send(Hello(self.slot, self._next_seq(), reply, fields.nonce, fields.commitment, self._name))

    def _reveal(self, nonce: str) -> Send:
        return Send(Reveal(self.slot, self._next_seq(), nonce))

    def _ring(self) -> Send:
        return Send(Ring(self.slot, self._next_seq()))

    def _accept(self) -> Send:
        return Send(Accept(self.slot, self._next_seq()))

    def _stamped(self, message: Offer | Answer) -> Send:
        """The same message under a fresh sequence number: an old one would count as a replay."""
        return Send(replace(message, seq=self._next_seq()))
