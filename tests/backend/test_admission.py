"""Passes and proofs against vectors that another implementation can use too."""

import json
from pathlib import Path

import pytest

from voicemeet_edge.backend.admission import (
    AdmissionKeyError,
    PassTextError,
    admission_key,
    admission_key_text,
    as_typed,
    make_proof,
    new_pass,
    parse_admission_key,
    parse_pass,
    pass_hash,
    proved_key,
)
from voicemeet_edge.backend.verbs import Role
from voicemeet_edge.secret import Secret

VECTORS = json.loads((Path(__file__).parent / "admission_vectors.json").read_text())


@pytest.mark.parametrize("vector", VECTORS["passes"])
def test_pass_vectors(vector: dict[str, str]) -> None:
    typed = Secret(vector["typed"])
    assert parse_pass(typed).reveal() == vector["pass"]
    assert as_typed(typed) == vector["shown"]
    assert pass_hash(typed) == vector["hash"]


@pytest.mark.parametrize("vector", VECTORS["proofs"])
def test_proof_vectors(vector: dict[str, str]) -> None:
    key = admission_key(bytes.fromhex(vector["intercom_key_hex"]), vector["pool"])
    assert admission_key_text(key).reveal() == vector["admission_key"]
    assert parse_admission_key(Secret(vector["admission_key"])) == key
    token, role = Secret(vector["device_token"]), Role(vector["role"])
    assert make_proof(key, token, vector["pool"], role, vector["ticket"]) == vector["proof"]


def test_a_proof_is_good_for_one_match_only() -> None:
    key, other = admission_key(bytes(32), "frontdesk"), admission_key(bytes(32), "backdoor")
    token, ticket = Secret("token"), "t" * 22
    proof = make_proof(key, token, "frontdesk", Role.CALLER, ticket)
    assert proved_key([other, key], proof, token, "frontdesk", Role.CALLER, ticket) == key
    assert not proved_key([], proof, token, "frontdesk", Role.CALLER, ticket)
    assert not proved_key([other], proof, token, "frontdesk", Role.CALLER, ticket)
    assert not proved_key([key], proof, Secret("other"), "frontdesk", Role.CALLER, ticket)
    assert not proved_key([key], proof, token, "backdoor", Role.CALLER, ticket)
    assert not proved_key([key], proof, token, "frontdesk", Role.ANSWERER, ticket)
    assert not proved_key([key], proof, token, "frontdesk", Role.CALLER, "u" * 22)
    assert not proved_key([key], "\ud800", token, "frontdesk", Role.CALLER, ticket)


@pytest.mark.parametrize("text", ["", " ", "abc", "u" * 26, "é" * 26, "0" * 27, "\u0660" * 26])
def test_what_is_no_pass_is_refused_without_repeating_it(text: str) -> None:
    with pytest.raises(PassTextError) as refused:
        parse_pass(Secret(text))
    assert len(text) < 3 or text not in str(refused.value)


@pytest.mark.parametrize("text", ["", "A" * 42, "A" * 42 + "B", "A" * 44, "é" * 43, "+" * 43])
def test_what_is_no_admission_key_is_refused(text: str) -> None:
    with pytest.raises(AdmissionKeyError):
        parse_admission_key(Secret(text))


def test_passes_differ_and_come_back_from_paper() -> None:
    made = {new_pass().reveal() for _ in range(100)}
    assert len(made) == 100
    for text in made:
        assert parse_pass(Secret(as_typed(Secret(text)).replace("0", "O").replace("1", "l"))).reveal() == text
