"""Two negotiations and a channel between them that loses, repeats and forges."""

from __future__ import annotations

from collections import deque

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from voicemeet_edge.call.commands import MakeAnswer, MakeOffer, Prepare, TakeAnswer, TakeCandidate, Tell
from voicemeet_edge.call.machine import Event
from voicemeet_edge.call.negotiation import (
    MAX_ATTEMPTS,
    Kind,
    Negotiation,
    NegotiationCommand,
    Send,
)
from voicemeet_edge.call.words import WordsExchange
from voicemeet_edge.reasons import EndReason
from voicemeet_edge.signaling.messages import (
    Accept,
    Answer,
    Candidate,
    Message,
    MessageFilter,
    Offer,
    Restart,
    Reveal,
    Ring,
    Slot,
)

FINGERPRINT = {"a": "AA:" * 31 + "AA", "b": "BB:" * 31 + "BB"}


class End:
    """One side: a negotiation whose peer connections are strings."""

    def __init__(self, slot: Slot, kind: Kind, *, offerer: bool) -> None:
        self.words = WordsExchange(slot, "call", FINGERPRINT[slot])
        self.negotiation = Negotiation(slot, kind, offerer=offerer, words=self.words)
        self.incoming = MessageFilter(slot)
        self.wire: deque[Message] = deque()
        self.seen: list[NegotiationCommand] = []
        self.local = self.remote = ""

    def obey(self, commands: list[NegotiationCommand]) -> None:
        for command in commands:
            self.seen.append(command)
            match command:
                case Send(message):
                    self.wire.append(message)
                case MakeOffer(attempt):
                    self.local, self.remote = f"offer {attempt}", ""
                    self.obey(self.negotiation.offer_ready(self.local, attempt))
                case MakeAnswer(sdp, attempt):
                    self.local, self.remote = f"answer {attempt}", sdp
                    self.obey(self.negotiation.answer_ready(self.local, attempt))
                case TakeAnswer(sdp, _):
                    self.remote = sdp
                case _:
                    pass

    def hears(self, message: Message) -> None:
        if self.incoming.accept(message):
            self.obey(self.negotiation.receive(message))


class Call:
    """Both ends and the channel."""

    def __init__(self, kind_a: Kind = Kind.MEET, kind_b: Kind = Kind.MEET, *, offerer: Slot = "a") -> None:
        self.a = End("a", kind_a, offerer=offerer == "a")
        self.b = End("b", kind_b, offerer=offerer == "b")
        self.a.obey(self.a.negotiation.start())
        self.b.obey(self.b.negotiation.start())

    def join(self, end: End) -> None:
        end.obey(end.negotiation.joined())

    def deliver(self) -> None:
        for _ in range(200):
            if not self.a.wire and not self.b.wire:
                return
            for sender, receiver in ((self.a, self.b), (self.b, self.a)):
                if sender.wire:
                    receiver.hears(sender.wire.popleft())
        pytest.fail("they talk for ever")

    def connected(self, attempt: int = 0) -> bool:
        one, other = (self.a, self.b) if self.a.negotiation.offerer else (self.b, self.a)
        described = (one.local, one.remote)
        return described == (f"offer {attempt}", f"answer {attempt}") == (other.remote, other.local)

    def same_words(self) -> bool:
        a = self.a.words.words(FINGERPRINT["a"], FINGERPRINT["b"])
        return a is not None and a == self.b.words.words(FINGERPRINT["a"], FINGERPRINT["b"])


def kinds(commands: list[NegotiationCommand]) -> list[type[NegotiationCommand]]:
    return [type(command) for command in commands]


@pytest.mark.parametrize("first", ["a", "b"])
def test_two_strangers_meet_whoever_joins_first(first: str) -> None:
    call = Call()
    early, late = (call.a, call.b) if first == "a" else (call.b, call.a)
    call.join(early)
    early.wire.clear()  # nobody is in the channel yet: a broadcast reaches no one
    call.join(late)
    call.deliver()
    assert call.connected()
    assert call.same_words()


def test_a_called_desk_rings_accepts_and_only_then_gets_the_offer() -> None:
    call = Call(Kind.CALLING, Kind.CALLED)
    call.join(call.a)
    call.join(call.b)
    call.deliver()
    assert Tell(Event.PEER_RINGS) in call.a.seen
    assert not any(
        isinstance(command, Send) and isinstance(command.message, Offer) for command in call.a.seen
    )
    call.b.obey(call.b.negotiation.accept())
    call.deliver()
    assert Tell(Event.PEER_ACCEPTED) in call.a.seen
    assert call.connected()
    assert call.b.negotiation.accept() == [], "taken once"


def test_a_called_desk_that_is_named_offerer_offers_once_it_has_accepted() -> None:
    call = Call(Kind.CALLING, Kind.CALLED, offerer="b")
    call.join(call.a)
    call.join(call.b)
    call.deliver()
    assert not call.connected(), "nobody has taken the call yet"
    call.b.obey(call.b.negotiation.accept())
    call.deliver()
    assert call.connected()


def test_an_offer_that_overtakes_the_accept_is_answered_when_the_accept_comes() -> None:
    call = Call(Kind.CALLING, Kind.CALLED, offerer="b")
    call.join(call.a)
    call.join(call.b)
    call.deliver()
    call.b.obey(call.b.negotiation.accept())
    accept, offer = call.b.wire
    call.b.wire.clear()
    call.b.wire.extend((offer, accept))
    call.deliver()
    assert call.connected()


def test_a_restart_from_either_side_gives_a_new_pair() -> None:
    call = Call()
    call.join(call.a)
    call.join(call.b)
    call.deliver()
    call.a.obey(call.a.negotiation.restart())
    call.deliver()
    assert call.connected(1)
    call.b.obey(call.b.negotiation.restart())
    call.deliver()
    assert call.connected(2)


def test_an_offer_from_the_answering_side_is_glare_and_dropped() -> None:
    call = Call()
    call.a.hears(Offer("b", 1, "forged", 0))
    assert call.a.negotiation.dropped.glare == 1
    assert call.a.remote == ""


def test_a_second_offer_without_renegotiation_is_refused() -> None:
    call = Call()
    call.join(call.a)
    call.join(call.b)
    call.deliver()
    call.b.hears(Offer("a", 900, "another", 0))
    assert call.b.negotiation.dropped.second_offer == 1
    assert call.connected()


def test_what_was_not_asked_for_is_dropped_and_counted() -> None:
    call = Call()
    for forged in (Answer("b", 1, "early", 0), Ring("b", 2), Accept("b", 3), Restart("b", 4, 1)):
        call.a.hears(forged)
    assert call.a.negotiation.dropped.unasked == 3
    assert call.a.negotiation.dropped.stale == 1
    assert call.a.remote == ""
    call.b.hears(Offer("a", 1, "far ahead", MAX_ATTEMPTS + 1))
    assert call.b.remote == ""


def test_a_candidate_goes_to_its_own_attempt_only() -> None:
    call = Call()
    call.a.hears(Candidate("b", 1, "candidate:1", "0", 0))
    call.a.hears(Candidate("b", 2, "candidate:2", "0", 7))
    assert TakeCandidate("candidate:1", "0", 0) in call.a.seen
    assert call.a.negotiation.dropped.stale == 1


def test_a_reveal_out_of_order_ends_the_call() -> None:
    call = Call()
    call.b.hears(Reveal("a", 1, "00" * 32))
    assert Tell(Event.FAILED, EndReason.WORDS_ORDER) in call.b.seen


def test_bye_is_passed_on_with_its_reason() -> None:
    call = Call()
    call.a.hears(call.b.negotiation.bye(EndReason.HUNG_UP))
    assert Tell(Event.PEER_BYE, EndReason.HUNG_UP) in call.a.seen


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from([(Kind.MEET, Kind.MEET), (Kind.CALLING, Kind.CALLED)]),
    st.lists(
        st.sampled_from(["step_a", "step_b", "lose_a", "lose_b", "join_a", "join_b", "accept"]), max_size=60
    ),
    st.integers(0, 3),
    st.sampled_from(["a", "b"]),
)
def test_whatever_is_lost_a_rejoin_makes_it_whole(
    modes: tuple[Kind, Kind], steps: list[str], restarts: int, offerer: Slot
) -> None:
    call = Call(*modes, offerer=offerer)
    for step in steps:
        verb, _, side = step.partition("_")
        end, other = (call.a, call.b) if side == "a" else (call.b, call.a)
        if verb == "accept":
            call.b.obey(call.b.negotiation.accept())
        elif verb == "join":
            call.join(end)
        elif end.wire:
            message = end.wire.popleft()
            if verb == "step":
                other.hears(message)
    call.b.obey(call.b.negotiation.accept())
    call.join(call.a)
    call.join(call.b)
    call.deliver()
    assert call.connected()
    assert call.same_words()
    named = call.a if offerer == "a" else call.b
    for attempt in range(1, restarts + 1):
        named.obey(named.negotiation.restart())
        named.wire.clear()  # the channel was gone just then
        call.join(named)
        call.deliver()
        assert call.connected(attempt)
    assert not any(
        isinstance(command, Tell) and command.event is Event.FAILED for command in call.a.seen + call.b.seen
    )


def test_who_will_answer_gathers_at_once_and_who_is_rung_does_not() -> None:
    """A visitor that nobody lets in shall learn of no address, and cost no relay."""
    assert Negotiation("b", Kind.MEET, offerer=False).start() == [Prepare(0)]
    assert Negotiation("b", Kind.CALLED, offerer=False).start() == []
