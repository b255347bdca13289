"""The book of passes: who shows a right text is known, and nobody else."""

from __future__ import annotations

from voicemeet_edge.backend.admission import PASS_ID_CHARS, new_pass, pass_hash
from voicemeet_edge.backend.verbs import Role
from voicemeet_edge.hub.passes import Pass, PassBook
from voicemeet_edge.secret import Secret


def kept(
    text: Secret, role: Role | None = Role.CALLER, made_at: int = 1, revoked_at: int | None = None
) -> Pass:
    return Pass(pass_hash(text), "lobby" if role else "", role, "a label", made_at, revoked_at)


def test_a_pass_is_known_by_its_text_and_by_its_id() -> None:
    text = new_pass()
    one = kept(text)
    book = PassBook([one])
    assert book.of_text(text) is one
    assert book.of_id(one.hash[:PASS_ID_CHARS]) is one
    assert book.of_text(new_pass()) is None
    assert book.of_text(Secret("no pass at all")) is None
    assert len(book) == 1


def test_one_that_was_taken_back_is_listed_and_opens_nothing() -> None:
    texts = new_pass(), new_pass()
    old, gone = kept(texts[0], made_at=1), kept(texts[1], made_at=2, revoked_at=3)
    book = PassBook([gone, old])
    assert book.of_text(texts[1]) is None
    assert book.of_id(gone.id) is None
    assert book.passes() == [old, gone], "oldest first"


def test_the_id_alone_is_no_pass() -> None:
    text = new_pass()
    same_id = Pass(pass_hash(text)[:PASS_ID_CHARS] + "0" * 48, "lobby", Role.CALLER, "", 1)
    assert PassBook([same_id]).of_text(text) is None


def test_an_operators_pass_has_no_role() -> None:
    operator, door = kept(new_pass(), None), kept(new_pass())
    assert (operator.is_operator, operator.role_word) == (True, "operator")
    assert (door.is_operator, door.role_word) == (False, "caller")


def test_a_pool_without_keys_asks_for_no_proof() -> None:
    book = PassBook(admission_keys={"lobby": [b"key"]}, rotations={"lobby": "soon"})
    assert book.admission_keys("lobby") == [b"key"]
    assert book.admission_keys("yard") == []
    assert book.rotations == {"lobby": "soon"}
