"""Shares: what one kind of request uses up is not another kind's."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from voicemeet_edge.hub.refusal import RefusedError
from voicemeet_edge.hub.settings import LimitSettings
from voicemeet_edge.hub.shares import Shares

LIMITS = LimitSettings(session_per_s=1.0, session_burst=5.0, known_per_s=1.0, known_burst=5.0)


def test_new_tokens_use_up_no_polls_and_the_refused_come_one_after_the_other() -> None:
    shares = Shares(LIMITS)
    takes: list[Callable[[], None]] = [
        lambda: shares.session("house", "", 0.0),
        lambda: shares.renewal("house", 0.0),
    ]
    for take in takes:
        for _ in range(5):
            take()
        for number in range(30):
            with pytest.raises(RefusedError) as caught:
                take()
            assert caught.value.retry_after_s == pytest.approx(number + 1.05, abs=0.06)
    for _ in range(5):
        shares.known("house", 0.0)


def test_one_device_is_told_the_same_however_often_it_asks() -> None:
    shares = Shares(LimitSettings(device_per_s=1.0, device_burst=1.0))
    shares.device("d", 0.0)
    for _ in range(5):
        with pytest.raises(RefusedError) as caught:
            shares.device("d", 0.0)
        assert caught.value.retry_after_s == 1.1
