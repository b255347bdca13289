"""The reasons for "not connected": read by their word, or from an HTTP status."""

from __future__ import annotations

import pytest

from voicemeet_edge.not_connected import REFUSALS, NotConnected, of_status


def test_each_reason_is_read_by_its_word_and_says_what_to_do() -> None:
    for reason in NotConnected:
        assert NotConnected.of(reason.value) is reason
        assert reason.said[0].islower()
        assert reason.cure
        assert "the backend" not in reason.said  # for a person it is the hub
    assert NotConnected.of("a word of nobody") is None
    assert NotConnected.BAD_APIKEY in REFUSALS


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (401, NotConnected.BAD_APIKEY),
        (404, NotConnected.NO_HUB),
        (421, NotConnected.WRONG_HOST),
        (426, NotConnected.USE_HTTPS),
        (429, NotConnected.BUSY_HUB),
        (503, NotConnected.BUSY_HUB),
    ],
)
def test_a_status_alone_says_as_much(status: int, reason: NotConnected) -> None:
    assert of_status(status) is reason


def test_one_line_says_what_is_wrong_and_what_to_do() -> None:
    reason = NotConnected.TIMEOUT
    assert reason.sentence == f"{reason.said}: {reason.cure}"
