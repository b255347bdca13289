"""Two negotiations and a channel between them that loses, repeats and forges."""

from __future__ import annotations

from collections import deque

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from voicemeet_edge.call.negotiation import (
    MAX_ATTEMPTS,
    Command,
    Kind,
    MakeAnswer,
    MakeOffer,
    Negotiation,
    PeerAccepted,
    PeerLeft,
    PeerRings,
    Send,
    TakeAnswer,
    TakeCandidate,
    WordsFailed,
)
from voicemeet_edge.call.words import WordsExchange
from voicemeet_edge.signaling.messages import (
    Accept,
    Answer,
    Candidate,
    Inbox,
    Message,
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
        self.inbox = Inbox(slot)
        self.wire: deque[Message] = deque()
        self.seen: list[Command] = []
        self.local = self.remote = ""

    def obey(self, commands: list[Command]) -> None:
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
        if self.inbox.accept(message):
            self.obey(self.negotiation.receive(message))


class Call:
    """Both ends and the channel."""

    def __init__(self, kind_a: Kind = Kind.MEET, kind_b: Kind = Kind.MEET) -> None:
        self.a = End("a", kind_a, offerer=True)
        self.b = End("b", kind_b, offerer=False)
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
        ours = (self.a.local, self.a.remote)
        return ours == (f"offer {attempt}", f"answer {attempt}") == (self.b.remote, self.b.local)

    def same_words(self) -> bool:
        a = self.a.words.words(FINGERPRINT["a"], FINGERPRINT["b"])
        return a is not None and a == self.b.words.words(FINGERPRINT["a"], FINGERPRINT["b"])


def kinds(commands: list[Command]) -> list[type[Command]]:
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
    assert PeerRings() in call.a.seen
    assert not any(
        isinstance(command, Send) and isinstance(command.message, Offer) for command in call.a.seen
    )
    call.b.obey(call.b.negotiation.accept())
    call.deliver()
    assert PeerAccepted() in call.a.seen
    assert call.connected()
    assert call.b.negotiation.accept() == [], "taken once"


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
    assert TakeCandidate("candidate:1", "0") in call.a.seen
    assert call.a.negotiation.dropped.stale == 1


def test_a_reveal_out_of_order_ends_the_call() -> None:
    call = Call()
    call.b.hears(Reveal("a", 1, "00" * 32))
    assert WordsFailed("words_order") in call.b.seen


def test_bye_is_passed_on_with_its_reason() -> None:
    call = Call()
    call.b.obey(call.b.negotiation.bye("hung_up"))
    call.a.hears(call.b.wire.pop())
    assert PeerLeft("hung_up") in call.a.seen


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from([(Kind.MEET, Kind.MEET), (Kind.CALLING, Kind.CALLED)]),
    st.lists(
        st.sampled_from(["step_a", "step_b", "lose_a", "lose_b", "join_a", "join_b", "accept"]), max_size=60
    ),
    st.integers(0, 3),
)
def test_whatever_is_lost_a_rejoin_makes_it_whole(
    modes: tuple[Kind, Kind], steps: list[str], restarts: int
) -> None:
    call = Call(*modes)
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
    for attempt in range(1, restarts + 1):
        call.a.obey(call.a.negotiation.restart())
        call.a.wire.clear()  # the channel was gone just then
        call.join(call.a)
        call.deliver()
        assert call.connected(attempt)
    assert not any(isinstance(command, WordsFailed) for command in call.a.seen + call.b.seen)
