"""Which errors waiting can heal, and that each says what it is in one word."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from voicemeet_edge import errors
from voicemeet_edge.errors import BackendError, SettingsError, SignalingError, VoiceMeetError, is_retryable


def family(kind: type[VoiceMeetError]) -> Iterator[type[VoiceMeetError]]:
    yield kind
    for child in kind.__subclasses__():
        if child.__module__ == errors.__name__:
            yield from family(child)


def test_each_has_a_word_of_its_own() -> None:
    codes = [kind.code for kind in family(VoiceMeetError)]
    assert len(set(codes)) == len(codes)
    assert all(re.fullmatch(r"[a-z]+(_[a-z]+)*", code) for code in codes)


@pytest.mark.parametrize(
    ("error", "heals"),
    [
        (BackendError(), True),
        (BackendError(status=400), False),
        (BackendError(status=408), True),
        (BackendError(status=429, retry_after_s=2.0), True),
        (BackendError(status=503), True),
        (SignalingError(), True),
        (SignalingError(fatal=True), False),
        (errors.SoundFatalError(), False),
        (errors.DeviceLostError(), True),
        (errors.LocalError(), False),
        (TimeoutError(), True),
        (ConnectionResetError(), True),
        (ValueError(), False),
    ],
)
def test_what_waiting_heals(error: BaseException, heals: bool) -> None:
    assert is_retryable(error) is heals


def test_without_a_message_the_word_is_said() -> None:
    assert str(VoiceMeetError(code="gone")) == "gone"
    assert VoiceMeetError("a sentence", code="gone").code == "gone"


def test_a_wrong_setting_names_its_line_when_known() -> None:
    assert str(SettingsError("x", "a.b", "3", "less", line=4)) == "x: a.b = 3 (line 4): expected less"
    assert str(SettingsError("x", "a.b", "3", "less")) == "x: a.b = 3: expected less"
