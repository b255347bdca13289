from __future__ import annotations

import pytest

from voicemeet_edge.update.trial import LIMITS_S, FallBack, Proof, Trial, Trust

BEGAN = 100.0


def seen(*proofs: Proof) -> Trial:
    trial = Trial(BEGAN)
    for proof in proofs:
        trial.saw(proof)
    return trial


def test_all_three_are_needed_for_trust() -> None:
    assert seen(*Proof).verdict(BEGAN) == Trust()
    for proof in Proof:
        trial = seen(*(one for one in Proof if one is not proof))
        assert trial.missing is proof
        assert trial.verdict(BEGAN) is None


@pytest.mark.parametrize(
    ("proof", "words"), [(Proof.SIGNALING, "hub"), (Proof.SOUND, "microphone"), (Proof.CALL, "self-test")]
)
def test_what_is_not_seen_in_time_is_why_it_falls_back(proof: Proof, words: str) -> None:
    trial = seen(*(one for one in Proof if one is not proof))
    trial.doubted(proof, "as it was found")
    assert trial.deadline == BEGAN + LIMITS_S[proof]
    assert trial.verdict(trial.deadline - 0.001) is None
    verdict = trial.verdict(trial.deadline)
    assert isinstance(verdict, FallBack)
    assert words in verdict.why
    assert "as it was found" in verdict.why


def test_a_proof_before_the_deadline_moves_it_on_to_the_next() -> None:
    trial = seen(Proof.SIGNALING)
    assert trial.deadline == BEGAN + LIMITS_S[Proof.SOUND]
    assert trial.verdict(BEGAN + LIMITS_S[Proof.SIGNALING]) is None


def test_nothing_at_all_falls_back_at_the_first_deadline() -> None:
    assert isinstance(Trial(BEGAN).verdict(BEGAN + LIMITS_S[Proof.SIGNALING]), FallBack)
