"""Sealed signaling: what is opened, what is refused and why, and what an outsider can see."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz.fuzz_sealed import fuzz_one
from voicemeet_edge.errors import LocalError, SealError
from voicemeet_edge.signaling import sealed
from voicemeet_edge.signaling.sealed import NoSeal, Refusal, Sealer, make_envelope

KEY = bytes(range(32))
OTHER_KEY = bytes(range(1, 33))
CALL = "9f0c-call"
VECTORS = Path(__file__).with_name("sealed_vectors.json")


def message(seq: int = 1, slot: str = "a", **fields: object) -> dict[str, object]:
    return {"v": 1, "slot": slot, "seq": seq, **fields}


def pair(call: str = CALL) -> tuple[Sealer, Sealer]:
    """Two ends that have met."""
    a, b = strangers(call)
    meet(a, b)
    return a, b


def strangers(call: str = CALL) -> tuple[Sealer, Sealer]:
    return Sealer([KEY], call, "a"), Sealer([KEY], call, "b")


def meet(*ends: Sealer) -> None:
    """Let two ends know each other's freshness without a word, so that tests count from 1."""
    for end, other in (ends, ends[::-1]):
        heard = end._hear(other._fresh)
        assert heard is not None
        end._heard[other._fresh], end._proven, end._send = heard, other._fresh, heard.send


def assert_refused(end: sealed.Envelope, why: Refusal, event: str, payload: object) -> None:
    before = end.counters.refused[why]
    opened = end.counters.opened
    with pytest.raises(SealError) as caught:
        end.open(event, payload)
    assert caught.value.code == why.value
    assert end.counters.refused[why] == before + 1
    assert end.counters.opened == opened


def flip(text: str, at: int) -> str:
    return text[:at] + ("A" if text[at] != "A" else "B") + text[at + 1 :]


def test_what_one_end_seals_the_other_opens() -> None:
    a, b = strangers()
    hello = message(1, "a", reply=True, nonce="ü")
    wire = json.loads(json.dumps(a.seal("hello", hello)))
    assert b.open("hello", wire) == hello
    assert not b.verified, "a knock says that it has the key, not that it is of this call"
    answer = message(1, "b", reply=True)
    assert a.open("hello", b.seal("hello", answer)) == answer
    assert a.verified
    assert b.open("ring", a.seal("ring", message(2))) == message(2)
    assert b.verified


def test_nothing_of_an_earlier_call_is_obeyed_when_the_call_id_comes_again() -> None:
    # Fails when the keys hang on the call id alone.
    a, b = strangers()
    said = [("hello", a.seal("hello", message(1)))]
    b.open(*said[0])
    a.open("hello", b.seal("hello", message(1, "b")))
    for seq, event in enumerate(("hello", "ring", "accept", "bye"), 2):
        said.append((event, a.seal(event, message(seq))))
        b.open(*said[-1])
    _, again = strangers()
    again.open(*said[0])
    assert not again.verified
    for event, wire in said[1:]:
        assert_refused(again, Refusal.WRONG_KEY, event, wire)
    assert not again.verified
    # The end that is there now is understood all the same.
    new, _ = strangers()
    again.open("hello", new.seal("hello", message(1)))
    new.open("hello", again.seal("hello", message(1, "b")))
    again.open("ring", new.seal("ring", message(2)))
    assert again.verified
    assert_refused(again, Refusal.NOT_FRESH, *said[0])


def test_before_the_ends_know_each_other_only_a_knock_opens() -> None:
    a, b = strangers()
    for seq, event in enumerate(("ring", "accept", "offer", "reveal"), 1):
        assert_refused(b, Refusal.NOT_FRESH, event, a.seal(event, message(seq)))
    assert b.open("bye", a.seal("bye", message(9)))
    assert not b.verified


def test_freshness_is_sealed_too() -> None:
    a, b = pair()
    other, _ = strangers()
    wire = a.seal("ring", message(1))
    assert_refused(b, Refusal.NOT_FRESH, "ring", wire | {"f": other.seal("hello", message(1))["f"]})
    for wrong in ("", "A", "A" * 23, 4, None, "+" * 22, "A" * 21 + "B"):
        assert_refused(b, Refusal.MALFORMED, "ring", wire | {"f": wrong})


def test_old_knocks_do_not_pile_up() -> None:
    _, b = strangers()
    for _ in range(sealed.MAX_HEARD):
        b.open("hello", strangers()[0].seal("hello", message(1)))
    assert_refused(b, Refusal.NOT_FRESH, "hello", strangers()[0].seal("hello", message(1)))


def test_nothing_of_the_message_is_on_the_wire() -> None:
    a, _ = pair()
    offer = message(3, "a", sdp="a=candidate:1 1 udp 1 198.51.100.7 9 typ host\r\na=fingerprint:sha-256 AB")
    wire = json.dumps(a.seal("offer", offer))
    assert "198.51" not in wire
    assert "fingerprint" not in wire
    assert set(json.loads(wire)) == {"v", "slot", "seq", "f", "k", "sealed"}


@given(st.integers(0, 900), st.integers(0, 900))
def test_small_messages_all_have_one_size(one: int, two: int) -> None:
    a, _ = pair()
    first, second = (a.seal("x", message(n + 1, x="y" * size)) for n, size in enumerate((one, two)))
    assert len(str(first["sealed"])) == len(str(second["sealed"]))


@given(st.integers(1300, 4000), st.integers(1300, 4000))
def test_session_descriptions_of_usual_length_all_have_one_size(one: int, two: int) -> None:
    a, _ = pair()
    first, second = (a.seal("x", message(n + 1, sdp="y" * size)) for n, size in enumerate((one, two)))
    assert len(str(first["sealed"])) == len(str(second["sealed"]))


@given(
    st.dictionaries(st.text(max_size=20), st.none() | st.booleans() | st.integers() | st.text(max_size=200))
)
def test_any_message_comes_back_the_same(fields: dict[str, object]) -> None:
    a, b = strangers()
    sent = {**fields, **message(7)}
    try:
        wire = a.seal("hello", sent)
    except UnicodeEncodeError:
        return  # a lone surrogate is no text; messages.py never makes one
    assert b.open("hello", wire) == sent


def test_replay_is_refused() -> None:
    a, b = pair()
    wire = a.seal("ring", message(1))
    b.open("ring", wire)
    assert_refused(b, Refusal.REPLAY, "ring", wire)


def test_reordering_inside_the_window_is_fine_and_outside_is_old() -> None:
    a, b = pair()
    wires = {seq: a.seal("candidate", message(seq)) for seq in range(1, sealed.WINDOW + 2)}
    b.open("candidate", wires[sealed.WINDOW])
    assert b.open("candidate", wires[1])["seq"] == 1
    b.open("candidate", wires[sealed.WINDOW + 1])
    assert_refused(b, Refusal.REPLAY, "candidate", wires[sealed.WINDOW])
    assert b.open("candidate", wires[2])["seq"] == 2
    assert_refused(b, Refusal.OLD, "candidate", wires[1])


def test_a_forged_number_does_not_move_the_window() -> None:
    a, b = pair()
    first, second = a.seal("ring", message(1)), a.seal("ring", message(2))
    assert_refused(b, Refusal.BROKEN, "ring", first | {"seq": 10**9})
    assert b.open("ring", second)["seq"] == 2
    assert b.open("ring", first)["seq"] == 1


@given(st.permutations(list(range(1, 40))), st.lists(st.integers(1, 39), max_size=30))
def test_in_any_order_each_message_is_opened_exactly_once(order: list[int], again: list[int]) -> None:
    a, b = pair()
    wires = {seq: a.seal("candidate", message(seq)) for seq in range(1, 40)}
    for seq in order:
        assert b.open("candidate", wires[seq])["seq"] == seq
    for seq in again:
        assert_refused(b, Refusal.REPLAY, "candidate", wires[seq])


def test_reflection_is_refused() -> None:
    a, _ = pair()
    assert_refused(a, Refusal.REFLECTION, "ring", a.seal("ring", message(1)))


def test_reflection_under_the_other_slot_is_refused() -> None:
    a, b = pair()
    theirs = {"slot": "b", "f": b.seal("ring", message(1, "b"))["f"]}
    assert_refused(a, Refusal.WRONG_KEY, "ring", a.seal("ring", message(1)) | theirs)


def test_reflection_with_slot_and_key_id_swapped_is_refused() -> None:
    a, b = pair()
    theirs = b.seal("ring", message(1, "b"))
    swapped = {"slot": "b", "k": theirs["k"], "f": theirs["f"]}
    assert_refused(a, Refusal.BROKEN, "ring", a.seal("ring", message(1)) | swapped)


def test_a_message_of_another_call_is_refused() -> None:
    a, _ = strangers("another call")
    _, b = strangers()
    assert_refused(b, Refusal.WRONG_KEY, "hello", a.seal("hello", message(1)))
    own = Sealer([KEY], CALL, "a").seal("hello", message(1))
    passed_off = {"k": own["k"], "f": own["f"]}
    assert_refused(b, Refusal.BROKEN, "hello", a.seal("hello", message(2)) | passed_off)


def test_another_event_name_breaks_the_seal() -> None:
    a, b = pair()
    assert_refused(b, Refusal.BROKEN, "accept", a.seal("ring", message(1)))


@pytest.mark.parametrize("at", [0, 5, 6, 40, 700, -1 - 22, -3])
def test_any_changed_character_breaks_the_seal(at: int) -> None:
    a, b = pair()
    wire = a.seal("ring", message(1))
    text = str(wire["sealed"])
    assert_refused(b, Refusal.BROKEN, "ring", wire | {"sealed": flip(text, at % len(text))})


@pytest.mark.parametrize("cut", [0, 4, 40, 1360])
def test_truncation_is_refused(cut: int) -> None:
    a, b = pair()
    wire = a.seal("ring", message(1))
    assert_refused(b, Refusal.TRUNCATED, "ring", wire | {"sealed": str(wire["sealed"])[:cut]})


def test_too_big_is_refused_on_both_sides() -> None:
    a, b = pair()
    with pytest.raises(SealError) as caught:
        a.seal("offer", message(1, sdp="x" * sealed.MAX_PLAIN_BYTES))
    assert caught.value.code == "too_big"
    biggest = a.seal("offer", message(1, sdp="x" * (sealed.MAX_PLAIN_BYTES - 60)))
    assert len(str(biggest["sealed"])) <= sealed.MAX_SEALED_CHARS
    assert b.open("offer", biggest)["seq"] == 1
    assert_refused(b, Refusal.TOO_BIG, "offer", biggest | {"sealed": "A" * (sealed.MAX_SEALED_CHARS + 1)})


def test_another_deployments_key_is_refused() -> None:
    stranger = Sealer([OTHER_KEY], CALL, "a")
    _, b = strangers()
    assert_refused(b, Refusal.WRONG_KEY, "hello", stranger.seal("hello", message(1)))


def test_a_key_change_locks_nobody_out() -> None:
    old, both_old, both_new, new = [KEY], [KEY, OTHER_KEY], [OTHER_KEY, KEY], [OTHER_KEY]
    for one, two in ((old, both_old), (both_old, both_old), (both_old, both_new), (both_new, new)):
        a, b = Sealer(one, CALL, "a"), Sealer(two, CALL, "b")
        assert b.open("hello", a.seal("hello", message(1)))["slot"] == "a"
        assert a.open("hello", b.seal("hello", message(1, "b")))["slot"] == "b"


def test_neither_side_falls_back_to_speaking_openly() -> None:
    a, open_end = Sealer([KEY], CALL, "a"), make_envelope([], CALL, "b")
    assert isinstance(open_end, NoSeal)
    assert not open_end.sealed
    assert_refused(open_end, Refusal.PEER_SEALED, "hello", a.seal("hello", message(1)))
    assert_refused(a, Refusal.PEER_NOT_SEALED, "hello", open_end.seal("hello", message(1, "b")))
    assert_refused(open_end, Refusal.MALFORMED, "hello", "hello")


def test_the_open_end_passes_messages_through() -> None:
    end = NoSeal()
    assert end.open("hello", end.seal("hello", message(1))) == message(1)
    assert end.verified
    assert make_envelope([KEY], CALL, "a").sealed


@pytest.mark.parametrize(
    "change",
    [
        {"v": 2},
        {"slot": "c"},
        {"slot": None},
        {"seq": 0},
        {"seq": True},
        {"seq": "1"},
        {"seq": 2**53},
        {"k": 4},
        {"sealed": None},
        {"sealed": "not base64 !"},
        {"sealed": "ü" * 20},
        {"sealed": "A"},
    ],
)
def test_what_is_not_an_envelope_is_malformed(change: dict[str, object]) -> None:
    a, b = pair()
    assert_refused(b, Refusal.MALFORMED, "ring", a.seal("ring", message(1)) | change)


def test_a_box_has_one_spelling() -> None:
    a, b = pair()
    for seq in range(1, 20):
        wire = a.seal("ring", message(seq))
        text = str(wire["sealed"])
        if "-" in text:
            assert_refused(b, Refusal.MALFORMED, "ring", wire | {"sealed": text.replace("-", "+")})
        if "_" in text:
            assert_refused(b, Refusal.MALFORMED, "ring", wire | {"sealed": text.replace("_", "/")})


def test_a_key_holder_that_seals_nonsense_is_refused() -> None:
    """What is inside must say the same version, slot and number as what is outside."""
    for plain in (b"\0\0\0\x02{}", b"\0\0\0\x02[]", b"\xff\xff\xff\xff", b"\0\0\0\x01{"):
        a, b = pair()
        wire = a.seal("ring", message(1))
        box = a._send[1].encrypt(
            a._prefix + (1).to_bytes(8),
            plain.ljust(sealed.SMALL_BYTES, b"\0"),
            sealed.associated_data("a", "ring", str(wire["f"])),
        )
        assert_refused(b, Refusal.BROKEN, "ring", wire | {"sealed": sealed._to_base64url(a._prefix + box)})


def test_a_nonce_is_never_used_twice() -> None:
    a, _ = pair()
    a.seal("ring", message(5))
    for wrong in (message(5), message(4), message(6, "b"), message(6) | {"v": 2}, {"v": 1, "slot": "a"}):
        with pytest.raises(LocalError):
            a.seal("ring", wrong)
    restarted, _ = pair()
    assert a.seal("ring", message(6))["sealed"] != restarted.seal("ring", message(6))["sealed"]


def test_a_sealer_refuses_wrong_keys_and_slots() -> None:
    for keys, slot in (([KEY[:31]], "a"), ([], "a"), ([KEY] * 3, "a"), ([KEY], "c")):
        with pytest.raises(LocalError):
            Sealer(keys, CALL, slot)


def of_vector(vector: dict[str, str], slot: str) -> Sealer:
    """An end of a vector's call, with the random bytes it says."""
    end = Sealer([bytes.fromhex(vector["key"])], vector["call_id"], slot)
    end._fresh = bytes.fromhex(vector[f"fresh_{slot}"])
    end._prefix = bytes.fromhex(vector["prefix"])
    end._send = sealed._knock(end._keys[0], end._call_id, slot, end._fresh)
    return end


def test_the_vectors_the_desk_page_is_checked_with() -> None:
    for vector in json.loads(VECTORS.read_text())["sealed"]:
        sender = of_vector(vector, vector["slot"])
        receiver = of_vector(vector, "b" if vector["slot"] == "a" else "a")
        if not vector["is_knock"]:
            meet(sender, receiver)
        assert sender.seal(vector["event"], vector["message"]) == vector["wire"]
        assert receiver.open(vector["event"], vector["wire"]) == vector["message"]


@settings(max_examples=200)
@given(st.binary(max_size=3000))
def test_any_bytes_are_refused_cleanly(data: bytes) -> None:
    fuzz_one(data)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)


@given(st.dictionaries(st.sampled_from(["v", "slot", "seq", "f", "k", "sealed", "x"]), json_values))
def test_any_json_object_is_refused_cleanly(payload: dict[str, object]) -> None:
    _, b = pair()
    with pytest.raises(SealError):
        b.open("ring", payload)
