"""Messages: round trips, every refusal, and the filter against replay, reflection and reordering."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fuzz.fuzz_messages import fuzz_one
from voicemeet_edge.errors import MessageError
from voicemeet_edge.signaling import messages
from voicemeet_edge.signaling.messages import (
    MAX_JUMP,
    MAX_SDP_BYTES,
    MAX_SEQ,
    REORDER_WINDOW,
    Accept,
    Answer,
    Bye,
    Candidate,
    Door,
    DoorState,
    FilterCounters,
    Hello,
    Message,
    MessageFilter,
    Offer,
    Open,
    Reveal,
    Ring,
    Slot,
    parse,
    serialize,
)

slots: st.SearchStrategy[Slot] = st.sampled_from(["a", "b"])
seqs = st.integers(1, MAX_SEQ)
words = st.from_regex(r"[a-z][a-z0-9_]{0,63}", fullmatch=True)
hexes = st.binary(min_size=1, max_size=64).map(bytes.hex)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=64)
randoms = st.binary(min_size=16, max_size=16).map(bytes.hex)
attempts = st.integers(0, messages.MAX_ATTEMPT)

any_message: st.SearchStrategy[Message] = st.one_of(
    st.builds(
        Hello,
        slots,
        seqs,
        st.booleans(),
        hexes | st.just(""),
        hexes | st.just(""),
        texts.filter(str.isprintable),
        st.booleans(),
    ),
    st.builds(Reveal, slots, seqs, hexes),
    st.builds(Offer, slots, seqs, texts.filter(bool), attempts),
    st.builds(Answer, slots, seqs, texts.filter(bool), attempts),
    st.builds(Candidate, slots, seqs, st.none() | texts, st.none() | texts, attempts),
    st.builds(Ring, slots, seqs),
    st.builds(Accept, slots, seqs),
    st.builds(Open, slots, seqs, randoms, randoms | st.just("")),
    st.builds(
        Door,
        slots,
        seqs,
        st.sampled_from(DoorState),
        randoms | st.just(""),
        randoms | st.just(""),
        st.floats(0, 60),
        words | st.just(""),
    ),
    st.builds(Bye, slots, seqs, words),
)


@given(any_message)
def test_what_is_serialized_parses_back(message: Message) -> None:
    assert parse(*serialize(message)) == message


@given(st.binary(max_size=300))
def test_any_bytes_are_a_message_or_the_documented_error(data: bytes) -> None:
    fuzz_one(data)


@given(any_message, st.data())
def test_any_wrong_value_is_refused_or_read(message: Message, data: st.DataObject) -> None:
    event, payload = serialize(message)
    key = data.draw(st.sampled_from(sorted(payload)))
    payload[key] = data.draw(st.none() | st.booleans() | st.integers() | st.text() | st.lists(st.integers()))
    try:
        again = parse(event, payload)
    except MessageError:
        return
    assert parse(*serialize(again)) == again


GOOD = {"v": 1, "slot": "a", "seq": 1}


def test_a_bye_always_says_why() -> None:
    # A default would be one more place for the word, and once it was a word that nobody else used.
    with pytest.raises(TypeError):
        Bye("a", 1)  # type: ignore[call-arg]


def test_unknown_keys_are_ignored_so_that_the_version_can_grow() -> None:
    assert parse("ring", GOOD | {"later": [1]}) == Ring("a", 1)


@pytest.mark.parametrize(
    ("event", "payload"),
    [
        ("ring", None),
        ("ring", []),
        ("rung", GOOD),
        ("ring", GOOD | {"v": 2}),
        ("ring", GOOD | {"v": True}),
        ("ring", GOOD | {"slot": "c"}),
        ("ring", GOOD | {"slot": ["a"]}),
        ("ring", GOOD | {"seq": 0}),
        ("ring", GOOD | {"seq": True}),
        ("ring", GOOD | {"seq": 1.0}),
        ("ring", GOOD | {"seq": MAX_SEQ + 1}),
        ("offer", GOOD),
        ("offer", GOOD | {"sdp": ""}),
        ("offer", GOOD | {"sdp": "x" * (MAX_SDP_BYTES + 1)}),
        ("offer", GOOD | {"sdp": "€" * (MAX_SDP_BYTES // 2)}),
        ("offer", GOOD | {"sdp": "\ud800"}),
        ("offer", GOOD | {"sdp": "v=0", "attempt": -1}),
        ("offer", GOOD | {"sdp": "v=0", "attempt": "1"}),
        ("answer", GOOD | {"sdp": 1}),
        ("candidate", GOOD),
        ("candidate", GOOD | {"candidate": "x" * 2_000}),
        ("candidate", GOOD | {"candidate": None, "mid": 0}),
        ("hello", GOOD | {"reply": 1}),
        ("hello", GOOD | {"nonce": "ABCD"}),
        ("hello", GOOD | {"nonce": "abc"}),
        ("hello", GOOD | {"commitment": "ab" * 100}),
        ("reveal", GOOD),
        ("reveal", GOOD | {"nonce": ""}),
        ("bye", GOOD),
        ("bye", GOOD | {"reason": "x" * 65}),
        ("bye", GOOD | {"reason": "two words"}),
        ("bye", GOOD | {"reason": "newline\n"}),
    ],
)
def test_what_is_out_of_shape_is_refused(event: str, payload: object) -> None:
    with pytest.raises(MessageError):
        parse(event, payload)


def ring(seq: int, slot: Slot = "b") -> Ring:
    return Ring(slot, seq)


def test_the_filter_takes_each_message_once() -> None:
    incoming = MessageFilter("a")
    assert [incoming.accept(ring(seq)) for seq in (1, 2, 2, 4, 3, 3, 1)] == [
        True,
        True,
        False,
        True,
        True,
        False,
        False,
    ]
    assert incoming.counters == FilterCounters(accepted=4, replayed=3)


def test_the_filter_refuses_what_carries_our_own_slot() -> None:
    incoming = MessageFilter("a")
    assert not incoming.accept(ring(1, "a"))
    assert incoming.accept(ring(1, "b"))
    assert incoming.counters == FilterCounters(accepted=1, reflected=1)


def test_the_window_ends_where_it_says() -> None:
    incoming = MessageFilter("a")
    assert incoming.accept(ring(100))
    assert not incoming.accept(ring(100 - REORDER_WINDOW))
    assert incoming.accept(ring(100 - REORDER_WINDOW + 1))
    assert incoming.counters == FilterCounters(accepted=2, stale=1)


def test_a_forged_huge_number_does_not_lock_the_sender_out() -> None:
    incoming = MessageFilter("a")
    assert incoming.accept(ring(1))
    assert not incoming.accept(ring(MAX_SEQ))
    assert not incoming.accept(ring(2 + MAX_JUMP))
    assert incoming.accept(ring(2))
    assert incoming.counters == FilterCounters(accepted=2, jumped=2)


@given(st.lists(st.integers(1, 60), max_size=100), st.randoms(use_true_random=False))
def test_no_order_of_arrivals_lets_a_number_pass_twice(seqs: list[int], shuffle: random.Random) -> None:
    shuffle.shuffle(seqs)
    incoming = MessageFilter("a")
    taken = [seq for seq in seqs if incoming.accept(ring(seq))]
    assert len(taken) == len(set(taken))
    counters = incoming.counters
    refused = counters.reflected + counters.replayed + counters.stale + counters.jumped
    assert counters.accepted + refused == len(seqs)
