"""A refusal has a status, a stable word and a sentence, and names nobody."""

from __future__ import annotations

from voicemeet_edge.hub.refusal import bad_token, too_fast


def test_every_bad_token_is_refused_alike() -> None:
    refused = bad_token()
    assert (refused.status, refused.code, refused.retry_after_s) == (401, "bad_token", None)
    assert str(refused) == "the token is missing, malformed, expired or not ours"


def test_a_limit_says_when_to_come_again() -> None:
    refused = too_fast(2.5)
    assert (refused.status, refused.code, refused.retry_after_s) == (429, "too_fast", 2.5)
