"""Check words: the order is kept, the middle is seen, both ends agree."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voicemeet_edge.call import words
from voicemeet_edge.call.wordlist import EVEN, ODD
from voicemeet_edge.call.words import HelloFields, WordsExchange, WordsStep, as_numbers
from voicemeet_edge.errors import LocalError, MessageError

CALL = "call-1"
PRINT_A = ":".join(["AA"] * 32)
PRINT_B = "sha-256 " + ":".join(["bb"] * 32)
PRINT_M = "cc" * 32
VECTORS = Path(__file__).with_name("words_vectors.json")


def ends() -> tuple[WordsExchange, WordsExchange]:
    return WordsExchange("a", CALL, PRINT_A), WordsExchange("b", CALL, PRINT_B)


def hello(sender: WordsExchange, receiver: WordsExchange) -> WordsStep:
    fields = sender.hello_fields()
    return receiver.on_hello(fields.nonce, fields.commitment)


def exchange(a: WordsExchange, b: WordsExchange) -> None:
    assert hello(a, b) is WordsStep.HELLO
    assert hello(b, a) is WordsStep.REVEAL
    b.on_reveal(a.reveal_nonce())


def assert_message_error(code: str, call: object, *args: str) -> None:
    assert callable(call)
    with pytest.raises(MessageError) as caught:
        call(*args)
    assert caught.value.code == code


def test_both_ends_get_the_same_words() -> None:
    a, b = ends()
    exchange(a, b)
    got = a.words(PRINT_A, PRINT_B)
    assert got == b.words(PRINT_A, PRINT_B)
    assert got is not None
    assert len(got) == words.WORDS
    assert got[0] in EVEN
    assert got[1] in ODD
    assert got[2] in EVEN


def test_slot_b_says_nothing_before_slot_a_is_bound() -> None:
    a, b = ends()
    assert b.hello_fields() == HelloFields()
    assert hello(b, a) is WordsStep.NOTHING
    with pytest.raises(LocalError):
        a.reveal_nonce()
    exchange(a, b)
    assert a.words(PRINT_A, PRINT_B) == b.words(PRINT_A, PRINT_B) is not None


def test_slot_a_never_says_its_nonce_in_a_hello() -> None:
    a, b = ends()
    exchange(a, b)
    assert a.hello_fields().nonce == ""


def test_hellos_may_be_repeated() -> None:
    a, b = ends()
    exchange(a, b)
    assert hello(a, b) is WordsStep.NOTHING
    assert hello(b, a) is WordsStep.NOTHING
    b.on_reveal(a.reveal_nonce())
    assert b.words(PRINT_A, PRINT_B) == a.words(PRINT_A, PRINT_B)


def test_no_words_until_the_exchange_is_whole() -> None:
    a, b = ends()
    assert a.words(PRINT_A, PRINT_B) is None
    assert b.words(PRINT_A, PRINT_B) is None
    hello(a, b)
    hello(b, a)
    assert b.words(PRINT_A, PRINT_B) is None
    assert a.words(PRINT_A, PRINT_B) is None
    b.on_reveal(a.reveal_nonce())
    assert b.words(PRINT_A, PRINT_B) == a.words(PRINT_A, PRINT_B) is not None


def test_a_peer_without_words_gives_none() -> None:
    a, _ = ends()
    assert a.on_hello("", "") is WordsStep.NOTHING
    assert a.words(PRINT_A, PRINT_B) is None


def test_a_second_value_is_refused() -> None:
    a, b = ends()
    exchange(a, b)
    assert_message_error("words_changed", b.on_hello, "", "12" * 32)
    assert_message_error("words_changed", b.on_reveal, "12" * 32)
    assert_message_error("words_changed", a.on_hello, "12" * 32, b.hello_fields().commitment)
    assert_message_error("words_changed", a.on_hello, b.hello_fields().nonce, "12" * 32)
    assert a.words(PRINT_A, PRINT_B) == b.words(PRINT_A, PRINT_B) is not None


def test_wrong_order_is_refused() -> None:
    a, b = ends()
    assert_message_error("words_order", b.on_reveal, "12" * 32)
    assert_message_error("words_order", a.on_reveal, "12" * 32)
    assert_message_error("words_order", a.on_hello, "12" * 32, "")
    assert_message_error("words_order", b.on_hello, "12" * 32, "34" * 32)
    assert_message_error("bad_message", a.on_hello, "12", "34" * 32)
    assert_message_error("bad_message", b.on_hello, "", "xy" * 32)
    with pytest.raises(LocalError):
        b.reveal_nonce()


def test_a_certificate_other_than_the_one_said_is_a_mismatch() -> None:
    a, b = ends()
    exchange(a, b)
    assert_message_error("bad_commitment", a.words, PRINT_A, PRINT_M)
    assert_message_error("bad_commitment", b.words, PRINT_M, PRINT_B)
    assert_message_error("bad_commitment", a.words, PRINT_M, PRINT_B)


def test_a_revealed_nonce_other_than_the_one_bound_is_a_mismatch() -> None:
    a, b = ends()
    hello(a, b)
    hello(b, a)
    b.on_reveal("12" * 32)
    assert_message_error("bad_commitment", b.words, PRINT_A, PRINT_B)


def test_a_whole_man_in_the_middle_gets_different_words() -> None:
    """The middle plays b towards a and a towards b, each with its own nonces and certificate."""
    for _ in range(20):
        a, b = ends()
        as_b, as_a = WordsExchange("b", CALL, PRINT_M), WordsExchange("a", CALL, PRINT_M)
        exchange(a, as_b)
        exchange(as_a, b)
        assert a.words(PRINT_A, PRINT_M) != b.words(PRINT_M, PRINT_B)


@given(st.binary(min_size=32, max_size=32), st.binary(min_size=32, max_size=32), st.text(max_size=40))
def test_any_nonces_and_call_ids_agree(nonce_a: bytes, nonce_b: bytes, call_id: str) -> None:
    try:
        call_id.encode()
    except UnicodeEncodeError:
        return
    a = WordsExchange("a", call_id, PRINT_A, nonce_a)
    b = WordsExchange("b", call_id, PRINT_B, nonce_b)
    exchange(a, b)
    assert a.words(PRINT_A, PRINT_B) == b.words(PRINT_A, PRINT_B) is not None


def test_words_change_with_everything_that_goes_in() -> None:
    base = ("c", b"a" * 32, b"b" * 32, b"n" * 32, b"m" * 32)
    seen = {words.show(*base)}
    for at in range(5):
        parts = list(base)
        parts[at] = "d" if at == 0 else b"z" * 32
        seen.add(words.show(*parts))  # type: ignore[arg-type]
    assert len(seen) == 6


def test_wrong_construction_is_ours() -> None:
    with pytest.raises(LocalError):
        WordsExchange("c", CALL, PRINT_A)
    with pytest.raises(LocalError):
        WordsExchange("a", CALL, PRINT_A, b"short")
    with pytest.raises(MessageError):
        WordsExchange("a", CALL, "sha-1 AA:BB")
    with pytest.raises(MessageError):
        WordsExchange("a", CALL, "zz" * 32)


def test_the_lists_are_whole_and_in_order() -> None:
    assert len(set(EVEN)) == len(set(ODD)) == 256
    assert not set(EVEN) & set(ODD)
    # Compared once with three independent copies of the published list, then pinned.
    digest = hashlib.sha256(" ".join(EVEN + ODD).encode()).hexdigest()
    assert digest == "3e090850023f09a3bff58dbc9926ee0840dd829fa8198af8ceffd1b2280a7096"
    # The example that is published with the list: E582 94F2 E9A2 2748.
    assert [EVEN[0xE5], ODD[0x82], EVEN[0x94], ODD[0xF2]] == ["topmost", "Istanbul", "Pluto", "vagabond"]
    assert [EVEN[0xE9], ODD[0xA2], EVEN[0x27], ODD[0x48]] == ["treadmill", "Pacific", "brackish", "dictator"]


def test_the_vectors_the_desk_page_is_checked_with() -> None:
    for vector in json.loads(VECTORS.read_text()):
        nonces = bytes.fromhex(vector["nonce_a"]), bytes.fromhex(vector["nonce_b"])
        a = WordsExchange("a", vector["call_id"], vector["fingerprint_a"], nonces[0])
        b = WordsExchange("b", vector["call_id"], vector["fingerprint_b"], nonces[1])
        assert a.hello_fields().commitment == vector["commitment_a"]
        exchange(a, b)
        assert b.hello_fields().commitment == vector["commitment_b"]
        assert a.words(vector["fingerprint_a"], vector["fingerprint_b"]) == tuple(vector["words"])


def test_the_words_of_a_call_are_the_same_as_numbers() -> None:
    assert as_numbers(("aardvark", "adviser", "Zulu")) == (0, 1, 255)
    assert as_numbers(("artist", "almighty", "minnow")) == (15, 5, 129)
